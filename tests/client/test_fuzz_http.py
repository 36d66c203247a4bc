"""Ten seconds of nonsense over raw sockets: the server answers, ends each connection, and lives.

`THERMOCLINE_FUZZ_SECONDS` makes it longer; a failure prints the seed and the request.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import pytest

from tests.client.raw import RawRequest, sign
from tests.client.server import ServerProcess, running
from tests.client.wire import address_of, exchange
from tools.fuzzing.sockets import ServerFuzz

if TYPE_CHECKING:
    from tests.client.server import TenantAccess
    from tests.client.wire import Address

SECONDS = float(os.environ.get("THERMOCLINE_FUZZ_SECONDS", "10"))
SETTLE_S = 10.0
# Segments, catalog connections and the like open as they are needed; sockets are counted exactly.
OTHER_DESCRIPTORS_MAX = 16


def descriptors(server: ServerProcess) -> tuple[int, int]:
    """Open sockets and other descriptors of the server's process."""
    sockets = others = 0
    for entry in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            is_socket = str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
        sockets += is_socket
        others += not is_socket
    return sockets, others


def ask(
    address: Address,
    tenant: TenantAccess,
    *,
    method: str = "GET",
    path: str = "/",
    body: bytes = b"",
) -> int:
    host = f"{address[0]}:{address[1]}"
    request = RawRequest(method=method, path=path, headers=(("host", host),), body=body)
    return exchange(address, sign(request, tenant.credentials).encode()).status


@pytest.mark.slow
@pytest.mark.client
def test_nonsense_neither_breaks_nor_holds_up_the_server(tmp_path: Path) -> None:
    # As in `tests/property/test_fuzz_short.py`.
    seed = 1 if os.environ.get("CI") == "true" else SystemRandom().randrange(2**32)
    settings = {"THERMOCLINE_LOG_LEVEL": "warning"}
    with running(ServerProcess(tmp_path, settings=settings)) as server:
        tenant = server.create_tenant("fuzz")
        address = address_of(server.endpoint)
        assert ask(address, tenant, method="PUT", path="/bucket") == 200
        assert ask(address, tenant, method="PUT", path="/bucket/k0", body=b"data") == 200
        sockets_before, others_before = descriptors(server)

        fuzz = ServerFuzz(address, tenant.credentials, bucket="bucket", seed=seed)
        report = fuzz.run(seconds=SECONDS)

        assert server.is_running, server.log_tail()
        assert not report.failures, (seed, report.failures[0], server.log_tail())
        assert not report.stuck, (seed, len(report.stuck), report.stuck[0])
        assert ask(address, tenant) == 200
        until = time.monotonic() + SETTLE_S
        while descriptors(server)[0] > sockets_before and time.monotonic() < until:
            time.sleep(0.05)
        sockets, others = descriptors(server)
        assert sockets <= sockets_before, (seed, sockets, sockets_before)
        assert others <= others_before + OTHER_DESCRIPTORS_MAX, (seed, others, others_before)
        assert "Traceback" not in server.log_text(), (seed, server.log_tail())
        print(report)  # noqa: T201  # shown by -s, for those who run it longer
    # Both refused and served, or nothing behind the head was reached.
    assert report.statuses.get(400, 0) > 0
    assert report.statuses.get(200, 0) > 0
