"""Proof that what costs time was on: durability, direct I/O, verification, limits.

Before anything is timed, a server with the run's own settings is started under strace and made to
show it: syncs are counted, a byte on the device is changed and must not be served, a head beyond
the limit must be refused. What the settings say is read as the server reads it. A run whose server
fails a proof ends with it; a proof that this machine cannot make is reported as not made.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from appliance.settings import Settings
from appliance.settings_file import load_settings
from tests.client.clients import find_client
from tests.client.wire import address_of, exchange
from tools.bench.database import read_durability
from tools.bench.servers import BUCKET, ONE_WORKER, OurServer, Workers, ask, device_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Conditions", "ConditionsBroken", "prove_conditions"]

PROVEN_PUTS = 8
SYNCS_PER_PUT_MIN = 2  # the segment, then the catalog
MARK_BYTES = 64 * 1024
HEADER_COUNT_SENT = 200  # SECURITY: 100 headers at most
_SYNC = re.compile(r"\b(?:fdatasync|fsync)\(.*= 0$|<\.\.\. (?:fdatasync|fsync) resumed>.*= 0$")


class ConditionsBroken(Exception):
    """The server that would be measured is not the one that is promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What was proven.

    Attributes:
        statements: A line each, for the report.
        unproven: What this machine has no means to prove, a line each.
        changed_settings: What differs from the defaults, `name = value`.
    """

    statements: tuple[str, ...]
    unproven: tuple[str, ...]
    changed_settings: tuple[str, ...]


def prove_conditions(
    directory: Path, settings: Mapping[str, str], workers: Workers = ONE_WORKER
) -> Conditions:
    """Starts a server of these settings, makes it prove them, and removes it.

    Raises:
        ConditionsBroken: A proof failed.
    """
    strace, log = find_client("strace"), directory / "proof.strace"
    wrapper: tuple[str, ...] = ()
    if strace is not None:
        wrapper = (str(strace), "-f", "-qq", "-e", "trace=fdatasync,fsync", "-o", str(log))
    server = OurServer(directory / "proof", settings=settings, wrapper=wrapper, workers=workers)
    try:
        server.renew()
        has_counters = device_bytes(server.pid) is not None
        read = load_settings(server.process.config_path, server.process.environment)
        statements = (
            _prove_settings(read),
            _prove_syncs(server, log if wrapper else None),
            _prove_verification(server),
            _prove_limits(server),
            *_prove_database(server.database_url),
        )
    finally:
        server.discard()
        log.unlink(missing_ok=True)
    return Conditions(
        statements=statements,
        unproven=_list_unproven(has_strace=bool(wrapper), has_counters=has_counters),
        changed_settings=(
            *_list_workers(workers),
            *_list_changed(read),
            *_list_volume_settings(settings),
        ),
    )


def _prove_settings(settings: Settings) -> str:
    buffered = [volume.name for volume in settings.volumes if volume.allow_buffered]
    if buffered:
        raise ConditionsBroken(f"volumes without direct I/O: {', '.join(buffered)}")
    tenants = settings.tenants
    if tenants.requests_per_s_max is not None or tenants.bytes_per_s_max is not None:
        raise ConditionsBroken("a tenant's rate is limited: that would be measured")
    return (
        "settings, as the server reads them: direct I/O on every volume, no tenant's rate limited"
    )


def _prove_syncs(server: OurServer, log: Path | None) -> str:
    before, moved = _count_syncs(log), device_bytes(server.pid)
    payload = os.urandom(4096)
    for number in range(PROVEN_PUTS):
        answer = ask(server.access, "PUT", f"/{BUCKET}/proof/{number}", body=payload)
        if answer.status != 200:
            raise ConditionsBroken(f"a PUT was refused: {answer}")
    after = device_bytes(server.pid)
    if moved is not None and after is not None:
        written = after.written - moved.written
        if written < PROVEN_PUTS * len(payload):
            raise ConditionsBroken(f"{PROVEN_PUTS} PUTs wrote {written} bytes to the device")
    if log is None:
        return f"durability: {PROVEN_PUTS} PUTs were acknowledged; see what is not proven"
    count = _count_syncs(log) - before
    # PostgreSQL syncs by itself, and is not among what is traced; see `_prove_database`.
    per_put = SYNCS_PER_PUT_MIN - (server.database_url is not None)
    if count < per_put * PROVEN_PUTS:
        raise ConditionsBroken(f"{PROVEN_PUTS} PUTs one after the other made {count} syncs")
    return f"durability: {count} syncs for {PROVEN_PUTS} PUTs one after the other (strace)"


def _prove_database(url: str | None) -> tuple[str, ...]:
    if url is None:
        return ()
    found = read_durability(url)
    if off := [f"{name} = {value}" for name, value in found.items() if value != "on"]:
        raise ConditionsBroken(f"PostgreSQL does not keep what it commits: {', '.join(off)}")
    return (f"catalog: PostgreSQL says that {', '.join(found)} are on",)


def _list_workers(workers: Workers) -> tuple[str, ...]:
    count = () if workers.count == 1 else (f"appliance.workers = {workers.count}",)
    return count if workers.make_database is None else (*count, "catalog.url = postgresql://...")


def _list_unproven(*, has_strace: bool, has_counters: bool) -> tuple[str, ...]:
    found = []
    if not has_strace:
        found.append("syncs were not counted: strace is not installed")
    if not has_counters:
        found.append("neither cold reads nor durable writes are checked: no /proc/PID/io here")
    return tuple(found)


def _count_syncs(log: Path | None) -> int:
    if log is None:
        return 0
    return sum(1 for line in log.read_text("ascii", "replace").splitlines() if _SYNC.search(line))


def _prove_verification(server: OurServer) -> str:
    """A changed byte of a page is not served by a server that cannot have the page in memory."""
    payload = os.urandom(MARK_BYTES)
    path = f"/{BUCKET}/proof/changed"
    if ask(server.access, "PUT", path, body=payload).status != 200:
        raise ConditionsBroken("a PUT was refused")
    server.restart()
    if ask(server.access, "GET", path).body != payload:
        raise ConditionsBroken("a GET gave other bytes than the PUT took")
    server.process.stop()
    _change_byte(server.directory, payload)
    server.process.start()
    answer = ask(server.access, "GET", path)
    if answer.status == 200 and len(answer.body) == len(payload):
        raise ConditionsBroken("a page with a changed byte was served as if it were whole")
    return "verification: a page with one byte changed on the device was not served"


def _change_byte(store: Path, payload: bytes) -> None:
    """Flips one bit of a stored payload, wherever it lies."""
    for path in store.glob("volume-*/**/*"):
        if not path.is_file():
            continue
        with path.open("r+b") as file:
            place = _find(file.fileno(), path.stat().st_size, payload[:512])
            if place is not None:
                file.seek(place + MARK_BYTES // 2)
                value = file.read(1)[0]
                file.seek(place + MARK_BYTES // 2)
                file.write(bytes([value ^ 1]))
                file.flush()
                os.fsync(file.fileno())
                return
    raise ConditionsBroken("the page that was put is on no volume")


def _find(descriptor: int, size: int, mark: bytes) -> int | None:
    """Where a mark stands in the written part of a file; 512 aligned, as headers are that long."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: no data behind this place
            return None
        piece = os.pread(descriptor, MARK_BYTES, start)
        found = piece.find(mark)
        if found >= 0:
            return start + found
        position = start + max(len(piece) - len(mark), 1)
    return None


def _prove_limits(server: OurServer) -> str:
    lines = ["GET / HTTP/1.1", f"Host: {server.access.host}"]
    lines += [f"x-amz-meta-{number}: 1" for number in range(HEADER_COUNT_SENT)]
    wire = ("\r\n".join(lines) + "\r\n\r\n").encode()
    answer = exchange(address_of(server.access.endpoint), wire)
    if not 400 <= answer.status < 500:
        raise ConditionsBroken(f"a head of {HEADER_COUNT_SENT} fields was answered: {answer}")
    return f"limits: a head of {HEADER_COUNT_SENT} fields was refused with {answer.status}"


def _list_changed(settings: Settings) -> tuple[str, ...]:
    """Settings that are not the defaults, but for paths and addresses."""
    found: list[str] = []
    defaults = Settings()
    for section in fields(Settings):
        if section.name in {"appliance", "volumes", "source", "secrets", "metrics", "admin"}:
            continue
        now, default = getattr(settings, section.name), getattr(defaults, section.name)
        for field in fields(now):
            value = getattr(now, field.name)
            if field.name not in {"listen", "url"} and value != getattr(default, field.name):
                found.append(f"{section.name}.{field.name} = {value}")
    return tuple(found)


def _list_volume_settings(settings: Mapping[str, str]) -> tuple[str, ...]:
    """What was set of volumes, as it was given; their records were completed when read."""
    prefix = "THERMOCLINE_VOLUME_"
    return tuple(f"{name} = {value}" for name, value in settings.items() if name.startswith(prefix))
