"""The access log: one line for each S3 request, the same as any other event of the log.

A line through structlog costs as much as the rest of a small request. Its fields are known and
typed here, so that it is put together directly; what other parts or clients chose (tenant, peer) is
masked and escaped by the rules of `appliance.log` like every value, and remembered, because few
values come again and again. A test holds both ways to the same line.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

from appliance.log import clean_text, format_time, quote_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.clock import Clock
    from appliance.http.asgi import RequestRecord
    from appliance.settings import LogSettings

__all__ = ["AccessLog"]

# Texts kept in their written form: operations, codes, tenants, peers of one busy minute. Each is at
# most VALUE_CHARS_MAX long, and those of peers are short unless a trusted proxy sends others.
TEXTS_MAX = 2_048

_LEVELS_WRITTEN = frozenset({"debug", "info"})


class AccessLog:
    """Writes the line of a request to where the log goes.

    Args:
        settings: Format and least level: lines are of level info.
        clock: Stamps each line, UTC.
        stream: Where lines go, one `write` each, flushed; standard error where None.
    """

    def __init__(
        self, settings: LogSettings, *, clock: Clock, stream: TextIO | None = None
    ) -> None:
        self._clock = clock
        self._stream = sys.stderr if stream is None else stream
        self._is_written = settings.level in _LEVELS_WRITTEN
        is_json = settings.format == "json"
        self._format = self._format_json if is_json else self._format_human
        self._texts = _WrittenTexts(_write_json if is_json else quote_text)
        self._second = -1
        self._second_text = ""

    def write(self, record: RequestRecord) -> None:
        """Write the line of a request that has ended."""
        if self._is_written:
            stream = self._stream
            stream.write(self._format(record, self._stamp()))
            stream.flush()

    def _stamp(self) -> str:
        """See `appliance.log.format_time`; the seconds are formatted once each."""
        second, microsecond = divmod(self._clock.now_us(), 1_000_000)
        if second != self._second:
            self._second_text = format_time(second * 1_000_000).partition(".")[0]
            self._second = second
        return f"{self._second_text}.{microsecond:06d}Z"

    def _format_human(self, record: RequestRecord, stamp: str) -> str:
        texts = self._texts
        return (
            f"{stamp} info    request request_id={record.request_id}"
            f" method={texts[record.method]} operation={texts[record.operation]}"
            f" tenant={texts[record.tenant]} status={record.status}"
            f" code={texts[record.error_code]} bytes_in={record.received_bytes}"
            f" bytes_out={record.sent_bytes} ms={round(record.seconds * 1000, 3)}"
            f" peer={texts[record.peer_address]} complete={record.is_complete}\n"
        )

    def _format_json(self, record: RequestRecord, stamp: str) -> str:
        texts = self._texts
        return (
            f'{{"time": "{stamp}", "level": "info", "event": "request",'
            f' "request_id": "{record.request_id}", "method": {texts[record.method]},'
            f' "operation": {texts[record.operation]}, "tenant": {texts[record.tenant]},'
            f' "status": {record.status}, "code": {texts[record.error_code]},'
            f' "bytes_in": {record.received_bytes}, "bytes_out": {record.sent_bytes},'
            f' "ms": {round(record.seconds * 1000, 3)}, "peer": {texts[record.peer_address]},'
            f' "complete": {"true" if record.is_complete else "false"}}}\n'
        )


class _WrittenTexts(dict[str, str]):
    """Texts in their written form, made when first asked for; forgotten when they are too many."""

    def __init__(self, write: Callable[[str], str]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, text: str) -> str:
        if len(self) >= TEXTS_MAX:
            self.clear()
        written = self[text] = self._write(clean_text(text))
        return written


def _write_json(text: str) -> str:
    # As `appliance.log` does: DEL is ASCII, and a control character all the same.
    return json.dumps(text).replace("\x7f", "\\u007f")
