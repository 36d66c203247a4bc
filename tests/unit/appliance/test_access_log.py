"""The access log's own way to a line gives what structlog gives."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import pytest
import structlog
from hypothesis import given, strategies as st

from appliance.access_log import TEXTS_MAX, AccessLog
from appliance.clock import FakeClock
from appliance.http.asgi import RequestRecord
from appliance.log import start_log
from appliance.settings import LogSettings
from tenants.records import TenantId

RECORD = RequestRecord(
    request_id="0123456789ABCDEF",
    method="GET",
    operation="GetObject",
    tenant="acme",
    tenant_id=TenantId(7),
    error_code="",
    status=200,
    received_bytes=0,
    sent_bytes=4096,
    started_us=1,
    seconds=0.0123456,
    running=3,
    peer_address="192.0.2.1",
    is_complete=True,
)
HOSTILE = (
    "",
    "a b",
    'quote " and \\ and =',
    "line\nend\r\x85\u2028",
    "\x7f\u202e\ud800",
    "https://user:password@host",
    "Authorization: AWS4-HMAC-SHA256 Credential=x",
    "x" * 5000,
)
texts = st.sampled_from(HOSTILE) | st.text(max_size=40)
records = st.builds(
    partial(replace, RECORD),
    tenant=texts,
    peer_address=texts,
    operation=texts,
    error_code=texts,
    seconds=st.floats(0, 1e5),
    sent_bytes=st.integers(0, 2**63),
    is_complete=st.booleans(),
)


def write_both(record: RequestRecord, settings: LogSettings, clock: FakeClock) -> tuple[str, str]:
    """The line by the access log, and by structlog as every other event."""
    ours, theirs = io.StringIO(), io.StringIO()
    AccessLog(settings, clock=clock, stream=ours).write(record)
    start_log(settings, clock=clock, stream=theirs)
    try:
        structlog.get_logger("access").info(
            "request",
            request_id=record.request_id,
            method=record.method,
            operation=record.operation,
            tenant=record.tenant,
            status=record.status,
            code=record.error_code,
            bytes_in=record.received_bytes,
            bytes_out=record.sent_bytes,
            ms=round(record.seconds * 1000, 3),
            peer=record.peer_address,
            complete=record.is_complete,
        )
    finally:
        structlog.reset_defaults()
    return ours.getvalue(), theirs.getvalue()


@pytest.mark.parametrize("form", ["human", "json"])
@given(record=records, moment=st.floats(0, 4e9))
def test_a_line_is_the_one_that_the_log_would_write(
    form: str, record: RequestRecord, moment: float
) -> None:
    settings = LogSettings(format="json" if form == "json" else "human")

    ours, theirs = write_both(record, settings, FakeClock(moment))

    assert ours == theirs
    assert ours.count("\n") == 1


def test_the_stamp_follows_the_clock_also_backwards() -> None:
    clock, stream = FakeClock(), io.StringIO()
    log = AccessLog(LogSettings(), clock=clock, stream=stream)

    for step_s in (0.25, 0.5, 0.5, -3600.0):
        clock.step_wall(step_s)
        log.write(RECORD)

    stamps = [line.partition(" ")[0] for line in stream.getvalue().splitlines()]
    assert stamps == [
        "2026-11-18T11:06:40.250000Z",
        "2026-11-18T11:06:40.750000Z",
        "2026-11-18T11:06:41.250000Z",
        "2026-11-18T10:06:41.250000Z",
    ]


@pytest.mark.parametrize("level", ["warning", "error"])
def test_a_level_above_info_writes_no_line(level: str) -> None:
    stream = io.StringIO()
    settings = LogSettings(level="error" if level == "error" else "warning")

    AccessLog(settings, clock=FakeClock(), stream=stream).write(RECORD)

    assert stream.getvalue() == ""


def test_what_is_remembered_of_peers_is_bounded() -> None:
    stream = io.StringIO()
    log = AccessLog(LogSettings(), clock=FakeClock(), stream=stream)

    for number in range(3 * TEXTS_MAX):
        log.write(replace(RECORD, peer_address=f"2001:db8::{number:x}"))

    assert len(log._texts) <= TEXTS_MAX  # the bound is inside
    assert len(set(stream.getvalue().splitlines())) == 3 * TEXTS_MAX
