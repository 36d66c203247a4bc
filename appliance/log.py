"""One event per line, for people or for machines, with no secret in it and no line forged.

`start_log` is called once, by `appliance.runtime`; everything else takes `structlog.get_logger()`.
What the libraries log through the standard module comes out in the same form.

Two nets hold secrets back. Values under a telling name (`authorization`, `secret`, `signature`,
...) are masked whatever they hold, at any depth; and the text of every value, tracebacks too, is
searched for what carries one: presigned parameters, Authorization headers, passwords in URLs.

Control characters, line separators and direction marks are written as escapes, so that a name a
client chose can neither begin a line nor turn one around.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from structlog.typing import EventDict, WrappedLogger

    from appliance.clock import Clock
    from appliance.settings import LogSettings

__all__ = [
    "MASK",
    "bind_request",
    "clean_text",
    "escape_text",
    "format_time",
    "mask_text",
    "quote_text",
    "start_log",
]

MASK = "***"
VALUE_CHARS_MAX = 4_096  # a key of 1,024 bytes, escaped fourfold; what is longer is cut
TRACEBACK_CHARS_MAX = 32_768
_DEPTH_MAX = 6

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_SECRET_NAME = re.compile(
    r"authorization|secret|signature|passw|token|cookie|credential"
    r"|customer-key|signing-key|data-key|private-key|mac-key",
)
_NAMES_HARMLESS = frozenset({"continuation-token", "next-continuation-token"})
_SECRET_TEXT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"((?:x-amz-)?(?:signature|security-token|credential)(?:=|%3d))[^&\s,;\"']+",
        r"((?:authorization|cookie)[\"']?\s*[:=,]\s*b?[\"']?)[^\"'\n]+",
        r"(aws4-hmac-sha256 )[^\"'\n]+",
        r"(\bbearer )[^\s\"',;]+",
        r"(://[^/\s:@\"']*:)[^/\s@\"']+(?=@)",
        r"((?:secret|password|secret_access_key)[\"']?\s*[:=]\s*b?[\"']?)[^\s\"',;&)]+",
    )
)
# One cheap look that most values do not pass, before the patterns above.
_SUSPICIOUS = re.compile(
    r"signature|token|credential|authorization|cookie|aws4-|bearer|://|secret|password",
    re.IGNORECASE,
)
# C0, DEL and C1, NEL among them; line and paragraph separators; direction marks; lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BARE = re.compile(r"[^\s\"'=\\]+")


def start_log(settings: LogSettings, *, clock: Clock, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard logging module for this process.

    Args:
        settings: Format and least level.
        clock: Stamps each event, UTC.
        stream: Where lines go, one `write` per event, flushed; standard error where None.
    """

    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["time"] = format_time(clock.now_us())
        return event

    render = _render_json if settings.format == "json" else _render_human
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            stamp,
            structlog.processors.format_exc_info,
            mask_event,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr if stream is None else stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_StandardBridge())
    # Libraries narrate at info; their warnings are what an operator needs.
    root.setLevel(max(_LEVELS[settings.level], logging.WARNING))


def bind_request(**facts: str) -> AbstractContextManager[object]:
    """While entered, every event of this task and its children carries `facts` (`request_id`)."""
    return structlog.contextvars.bound_contextvars(**facts)


def format_time(now_us: int) -> str:
    """RFC 3339 with microseconds, UTC."""
    seconds, microseconds = divmod(now_us, 1_000_000)
    stamp = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{microseconds:06d}Z"


def escape_text(text: str) -> str:
    """The text with everything that could begin, end or reorder a line written as an escape."""
    return _UNSAFE.sub(lambda match: _escape(match[0]), text)


def mask_text(text: str) -> str:
    """The text with whatever looks like a credential replaced by `MASK`."""
    if _SUSPICIOUS.search(text) is None:
        return text
    for pattern in _SECRET_TEXT:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def mask_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every value becomes plain data without secrets."""
    return {
        clean_text(str(name)): _clean(str(name), value, depth=0) for name, value in event.items()
    }


def _clean(name: str, value: object, *, depth: int) -> object:
    if _is_secret_name(name):
        return MASK
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return clean_text(bytes(value).decode("utf-8", errors="backslashreplace"))
    if isinstance(value, Mapping) and depth < _DEPTH_MAX:
        return {
            clean_text(str(key)): _clean(str(key), item, depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH_MAX:
        return [_clean(name, item, depth=depth + 1) for item in value]
    limit = TRACEBACK_CHARS_MAX if name == "exception" else VALUE_CHARS_MAX
    return clean_text(str(value), limit=limit)


def clean_text(text: str, *, limit: int = VALUE_CHARS_MAX) -> str:
    """The text masked and cut to `limit` characters."""
    # Masked before it is cut: a cut could take away the word that a secret is recognised by.
    masked = mask_text(text)
    return masked if len(masked) <= limit else f"{masked[:limit]}..."


def _is_secret_name(name: str) -> bool:
    normal = name.lower().replace("_", "-")
    return normal not in _NAMES_HARMLESS and _SECRET_NAME.search(normal) is not None


def _escape(letter: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    if short is not None:
        return short
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    # ASCII only: every control character and separator is then an escape. DEL is ASCII, too.
    return json.dumps({**first, **event}, default=str).replace("\x7f", "\\u007f")


def _render_human(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    time = event.pop("time", "")
    level = str(event.pop("level", "info"))
    head = f"{time} {level:<7} {escape_text(str(event.pop('event', '')))}"
    exception = event.pop("exception", None)
    pairs = [f"{escape_text(name)}={quote_text(value)}" for name, value in event.items()]
    if exception is not None:
        pairs.append(f"exception={quote_text(exception)}")
    return " ".join([head, *pairs])


def quote_text(value: object) -> str:
    """A value as lines for people have it: bare where that is clear, else quoted and escaped."""
    text = str(value)
    if _BARE.fullmatch(text) is not None and _UNSAFE.search(text) is None:
        return text
    # Backslash and quote first, so that an escape is never mistaken for text that looks like one.
    return '"' + escape_text(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


class _StandardBridge(logging.Handler):
    """Hands records of the standard module to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            # A library's wrong format string must not end the request that logged it.
            message = str(record.msg)
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        if level not in _LEVELS:
            level = "info"
        log = structlog.get_logger(component=record.name)
        # As a quoted value: a library's message may repeat what a client sent.
        getattr(log, level)("library_message", message=message, exc_info=record.exc_info)
