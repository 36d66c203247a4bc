"""What a request costs between the socket and the handler, layer by layer, in CPU time.

    python -m tools.bench_wire                 wrk over loopback sockets, then the stages in process
    python -m tools.bench_wire --rounds 5 --seconds 4 --connections 1

Over sockets, each layer is a server of its own (`tools.bench.layered_responder`), and they take
turns within every round, beside the bare responder, which reads a head and answers on trio's own
streams. What counts is the CPU time of the server's process by request: a busy machine changes it
less than a rate, and least what of it is spent outside of the kernel, since waking the load
generator counts as the server's own. A ratio is taken within a round; medians are shown.

In process, single functions are called in a row with what wrk and clients send. No figure here is a
limit of any test.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.clock import SystemClock
from appliance.http.asgi import RequestContext, RequestRecord
from appliance.http.head import HeadBuffer
from appliance.http.limits import HttpLimits
from appliance.log import start_log
from appliance.s3.messages import RequestHead
from appliance.settings import LogSettings
from tenants.records import TenantId
from tests.client.raw import RawRequest, sign
from tools.bench.generators import Access, RunVoid, run_wrk
from tools.bench.layered_responder import (
    CREDENTIALS,
    LAYERS,
    make_admission,
    make_answer,
    make_application,
    make_keyring,
    make_request_log,
)
from tools.bench.records import KIB
from tools.bench.requests import Presigner, write_list

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPScope

    from tools.bench.requests import PreparedRequest

ROOT = Path(__file__).resolve().parents[1]
BARE = "bare"
KEYS = 1000  # URLs that wrk sends in turn
STAGE_CALLS = 2_000
STAGE_ROUNDS = 5
_STOP_S = 10.0


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--size", type=int, default=4 * KIB)
    parser.add_argument("--layers", default=",".join((BARE, *LAYERS)))
    parser.add_argument("--no-sockets", action="store_true")
    options = parser.parse_args()
    if not options.no_sockets:
        try:
            _measure_sockets(options)
        except RunVoid as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    trio.run(partial(_measure_stages, options.size))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    cpu_us: float
    user_us: float
    rate_per_s: float


def _measure_sockets(options: argparse.Namespace) -> None:
    layers = options.layers.split(",")
    found: dict[str, list[_Figure]] = {layer: [] for layer in layers}
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            layer: stack.enter_context(_serve(layer, options.size, home)) for layer in layers
        }
        for number in range(options.rounds + 1):
            for layer, (pid, port) in servers.items():
                figure = _load(pid, port, options, home)
                if number:  # the first round fills caches
                    found[layer].append(figure)
    print(
        f"over {options.connections} connections, {options.size} bytes, {options.rounds} rounds\n\n"
        f"{'layer':<14}{'server CPU, us':>20}{'user, us':>10}{'x bare':>9}{'user x bare':>13}"
        f"{'requests/s':>12}"
    )
    for layer, figures in found.items():
        cpu = [figure.cpu_us for figure in figures]
        pairs = list(zip(figures, found.get(BARE, figures), strict=True))
        ratio = statistics.median(figure.cpu_us / bare.cpu_us for figure, bare in pairs)
        user_ratio = statistics.median(figure.user_us / bare.user_us for figure, bare in pairs)
        user = statistics.median(figure.user_us for figure in figures)
        spread = f"({min(cpu):.1f}..{max(cpu):.1f})"
        rate = statistics.median(figure.rate_per_s for figure in figures)
        print(
            f"{layer:<14}{statistics.median(cpu):>7.1f} {spread:<14}{user:>8.1f}"
            f"{ratio:>9.2f}{user_ratio:>13.2f}{rate:>12.0f}"
        )


@contextlib.contextmanager
def _serve(layer: str, size: int, home: Path) -> Iterator[tuple[int, int]]:
    """A server of one layer; its process and its port."""
    module = "bare_responder" if layer == BARE else "layered_responder"
    with (home / f"{layer}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [
                *(sys.executable, "-m", f"tools.bench.{module}"),
                *("head" if layer == BARE else layer, str(size)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if len(words) != 2:
                raise RunVoid(f"the responder of {layer} did not come up, see {log.name}")
            yield process.pid, int(words[1])
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _load(pid: int, port: int, options: argparse.Namespace, home: Path) -> _Figure:
    host = f"127.0.0.1:{port}"
    requests = home / "wire.list"
    write_list(requests, _presign(host))
    access = Access(
        endpoint=f"http://{host}",
        bucket="",
        access_key_id="",
        secret_access_key="",
        home=home,
    )
    before_ns, before_ticks = _cpu_ns(pid), _cpu_ticks(pid)
    sample = run_wrk(
        access,
        requests,
        connections=options.connections,
        seconds=options.seconds,
        payload_bytes=options.size,
        is_once=False,
    )
    cpu_us = (_cpu_ns(pid) - before_ns) / 1000 / sample.operations
    user, system = (
        after - before for before, after in zip(before_ticks, _cpu_ticks(pid), strict=True)
    )
    return _Figure(
        cpu_us=cpu_us,
        user_us=cpu_us * user / max(user + system, 1),
        rate_per_s=sample.operations / sample.seconds,
    )


def _presign(host: str) -> list[PreparedRequest]:
    presigner = Presigner(CREDENTIALS, host)
    return [presigner.presign("GET", f"/bench/{number:012d}") for number in range(KEYS)]


def _cpu_ns(pid: int) -> int:
    """CPU time of a process' threads that still run, user and system, in nanoseconds."""
    return sum(
        int(path.read_text(encoding="ascii").split()[0])
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def _cpu_ticks(pid: int) -> tuple[int, int]:
    """The same, user and system apart, in the kernel's coarse ticks."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(after_name[11]), int(after_name[12])


async def _measure_stages(size: int) -> None:
    clock = SystemClock()
    with tempfile.TemporaryFile("w") as log:
        start_log(LogSettings(), clock=clock, stream=log)
        keyring = await make_keyring(clock)
        print(f"\n{'stage, in process':<44}{'CPU, us':>9}")
        for name, head in _wire_heads().items():
            _show(f"head of {name}", await _time_calls(partial(_parse_later, head)))
        request = _request_head(_wire_heads()["wrk, presigned"])
        signed = _request_head(_wire_heads()["aws-cli"])
        admission = make_admission(keyring, clock)
        for name, admitted in (("presigned", request), ("signed header", signed)):

            async def admit(head: RequestHead = admitted) -> None:
                await keyring.poll()
                await admission.admit(head, _context())

            async def poll() -> None:
                await keyring.poll()
                _context()

            taken = await _time_calls(admit) - await _time_calls(poll)
            _show(f"admission, {name}", taken)
        for layer in ("application",):
            app = make_application(layer, make_answer(size), keyring=keyring, clock=clock)
            _show(
                f"{layer}, without sockets",
                await _time_calls(partial(app, _scope(request), _receive, _send)),
            )
        note, record = make_request_log(clock, log).note, _record(size)

        async def keep() -> None:
            note(record)

        _show("request log", await _time_calls(keep))


async def _time_calls(call: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of CPU of one call: the least of some rounds."""
    rounds = []
    for _ in range(STAGE_ROUNDS):
        started = time.process_time()
        for _ in range(STAGE_CALLS):
            await call()
        rounds.append((time.process_time() - started) / STAGE_CALLS * 1e6)
        await trio.lowlevel.checkpoint()
    return min(rounds)


def _show(name: str, cpu_us: float) -> None:
    print(f"{name:<44}{cpu_us:>9.2f}")


async def _parse_later(head: bytes) -> None:
    _parse(head)


def _parse(head: bytes) -> None:
    buffer = HeadBuffer(HttpLimits())
    buffer.receive(head)
    assert buffer.next_head() is not None


def _wire_heads() -> dict[str, bytes]:
    """Heads as clients send them, in the order and spelling of each."""
    host = "127.0.0.1:9000"
    [presigned] = _presign(host)[:1]
    signed = sign(
        RawRequest(method="GET", path="/bench/000000000000", headers=(("host", host),)), CREDENTIALS
    )
    put = sign(
        RawRequest(
            method="PUT",
            path="/bench/000000000000",
            headers=(
                ("host", host),
                ("x-amz-meta-mtime", "1795000000.123456789"),
                ("content-type", "application/octet-stream"),
                ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            ),
        ),
        CREDENTIALS,
    )
    agents = {
        "aws-cli": "aws-cli/2.31.0 md/awscrt#0.27.6 ua/2.1 os/linux#6.8 md/arch#x86_64"
        " lang/python#3.13.7 md/pyimpl#CPython m/b,E,Z cfg/retry-mode#standard"
        " md/installer#exe sid/6a0b4c7c2f13 md/command#s3.cp",
        "rclone": "rclone/v1.71.0",
    }
    return {
        "wrk, presigned": _head_bytes("GET", presigned.target, presigned.headers),
        "aws-cli": _head_bytes(
            "GET",
            signed.target,
            (
                *signed.headers,
                ("user-agent", agents["aws-cli"]),
                ("accept-encoding", "identity"),
                ("amz-sdk-invocation-id", "7f2b6a1e-9c55-4d0b-8a33-5d8be6f0f4a1"),
                ("amz-sdk-request", "attempt=1"),
            ),
        ),
        "rclone, PUT": _head_bytes(
            "PUT",
            put.target,
            (
                *put.headers,
                ("user-agent", agents["rclone"]),
                ("accept-encoding", "gzip"),
                ("amz-sdk-invocation-id", "7f2b6a1e-9c55-4d0b-8a33-5d8be6f0f4a1"),
                ("amz-sdk-request", "attempt=1; max=10"),
                ("content-length", "8192"),
                ("expect", "100-continue"),
            ),
        ),
    }


def _head_bytes(method: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _request_head(wire: bytes) -> RequestHead:
    buffer = HeadBuffer(HttpLimits())
    buffer.receive(wire)
    head = buffer.next_head()
    assert head is not None
    path, _, query = head.target.partition(b"?")
    return RequestHead(
        method=head.method,
        raw_path=path,
        raw_query=query,
        headers=head.headers,
        peer_address="127.0.0.1",
    )


def _scope(head: RequestHead) -> HTTPScope:
    return {
        "type": "http",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "http_version": "1.1",
        "method": head.method,
        "scheme": "http",
        "path": head.raw_path.decode(),
        "raw_path": head.raw_path,
        "query_string": head.raw_query,
        "root_path": "",
        "headers": head.headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},  # type: ignore[typeddict-item]
        "extensions": {},
    }


async def _receive() -> ASGIReceiveEvent:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(event: ASGISendEvent) -> None:
    """Takes what an application sends, and drops it."""


def _context() -> RequestContext:
    return RequestContext(request_id="0" * 16, host_id="0" * 32, started_us=0)


def _record(size: int) -> RequestRecord:
    return RequestRecord(
        request_id="0123456789ABCDEF",
        method="GET",
        operation="GetObject",
        tenant="bench",
        tenant_id=TenantId(1),
        error_code="",
        status=200,
        received_bytes=0,
        sent_bytes=size,
        started_us=0,
        seconds=0.000123,
        running=1,
        peer_address="127.0.0.1",
        is_complete=True,
    )


if __name__ == "__main__":
    sys.exit(main())
