from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Literal

import pytest
import structlog
from hypothesis import given, strategies as st

from appliance.clock import FakeClock, SystemClock
from appliance.log import MASK, bind_request, escape_text, mask_text, start_log
from appliance.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary7wqZp2LrT9xVb4NcKd8m"
Format = Literal["human", "json"]
FORMATS: tuple[Format, ...] = ("human", "json")


def open_log(format_: Format, level: Literal["debug", "info", "error"] = "debug") -> io.StringIO:
    stream = io.StringIO()
    start_log(LogSettings(format=format_, level=level), clock=FakeClock(0.5), stream=stream)
    return stream


@pytest.fixture(autouse=True)
def _restore_log() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)


def test_a_line_for_people_has_time_level_event_and_facts() -> None:
    stream = open_log("human")
    structlog.get_logger(component="put").info("put_refused", size=3, key=b"a b", quota=None)

    assert stream.getvalue() == (
        "1970-01-01T00:00:00.500000Z info    put_refused component=put size=3 "
        'key="a b" quota=None\n'
    )


def test_a_line_for_machines_is_one_json_object() -> None:
    stream = open_log("json")
    structlog.get_logger().warning("slow", seconds=1.5, ok=False, nested={"a": [1, "\n"]})

    assert json.loads(stream.getvalue()) == {
        "time": "1970-01-01T00:00:00.500000Z",
        "level": "warning",
        "event": "slow",
        "seconds": 1.5,
        "ok": False,
        "nested": {"a": [1, "\n"]},
    }


def test_the_request_id_is_on_every_line_of_its_request_only() -> None:
    stream = open_log("human")
    log = structlog.get_logger()
    with bind_request(request_id="r1"):
        log.info("inside")
    log.info("outside")

    inside, outside = stream.getvalue().splitlines()
    assert "request_id=r1" in inside
    assert "request_id" not in outside


def test_events_below_the_level_are_not_written() -> None:
    stream = open_log("human", level="error")
    log = structlog.get_logger()
    log.info("no")
    log.error("yes")

    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["yes"]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "secret",
        "secret_access_key",
        "signature",
        "X-Amz-Signature",
        "x-amz-security-token",
        "x-amz-credential",
        "password",
        "token",
        "cookie",
        "x-amz-server-side-encryption-customer-key",
        "signing_key",
    ],
)
def test_a_value_under_a_telling_name_is_masked_at_any_depth(format_: Format, name: str) -> None:
    stream = open_log(format_)
    log = structlog.get_logger()
    log.info("a", **{name: CANARY})
    log.info("a", headers={name: CANARY.encode()})
    log.info("a", deep=[{"x": ({name: [CANARY]},)}])
    log.info("a", deepest={"1": {"2": {"3": {"4": {"5": {"6": {"7": {name: CANARY}}}}}}}})

    lines = stream.getvalue()
    assert CANARY not in "".join(lines.splitlines()[:3])
    assert MASK in lines


@pytest.mark.parametrize(
    "text",
    [
        f"/b/k?X-Amz-Algorithm=x&X-Amz-Signature={CANARY}",
        f"/b/k?X-Amz-Signature={CANARY}&x=1",
        f"x-amz-security-token={CANARY}",
        f"Authorization: AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature={CANARY}",
        f"(b'authorization', b'Bearer {CANARY}')",
        f"AWS4-HMAC-SHA256 Credential=a/b, Signature={CANARY}",
        f"Bearer {CANARY}",
        f"postgresql://user:{CANARY}@host/db",
        f"{{'secret': '{CANARY}'}}",
        f"password={CANARY}",
        f'"secret_access_key": "{CANARY}"',
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_text_that_carries_a_credential_is_masked_wherever_it_comes_from(
    format_: Format, text: str
) -> None:
    stream = open_log(format_)
    log = structlog.get_logger()
    log.info("request", target=text)
    log.info(text)
    logging.getLogger("library").warning("failed: %s", text)
    log.error("broken", exc_info=ValueError(text))

    assert CANARY not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 4


@pytest.mark.parametrize(
    "text", ["continuation_token", "a plain text", "http://host:80/path", "max-age=1", "k=v"]
)
def test_text_without_credentials_is_left_alone(text: str) -> None:
    assert mask_text(text) == text


FORGERIES = [
    "x\n2026-01-01T00:00:00.000000Z error   forged",
    "x\r\nforged",
    "x\u2028forged",
    "x\u0085forged",
    "x\x1b[2Jforged",
    "x\u202eforged",
    "x\x00forged",
    "x\x7f\x9b31mforged",
    "x\ud800",
    "' OR 1=1; --",
    'x" level=error forged="',
]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("text", FORGERIES)
def test_no_name_that_a_client_chose_forges_a_line(format_: Format, text: str) -> None:
    stream = open_log(format_)
    log = structlog.get_logger()
    log.info("a", key=text)
    log.info("a", key=text.encode(errors="surrogatepass"))
    log.info(text)
    log.info("a", **{text: 1})
    logging.getLogger("library").error(text)

    lines = stream.getvalue()
    assert lines.count("\n") == 5
    assert len(lines.splitlines()) == 5
    assert all(letter == "\n" or 0x20 <= ord(letter) != 0x7F for letter in lines)
    assert not any(0x80 <= ord(letter) < 0xA0 or letter in "\u2028\u202e" for letter in lines)
    lines.encode("utf-8")


@given(st.text(alphabet=st.characters(), max_size=50))
def test_escaped_text_has_nothing_that_moves_a_cursor(text: str) -> None:
    escaped = escape_text(text)

    assert len(escaped.splitlines()) <= 1
    escaped.encode("utf-8")


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_values_are_never_written_alike(one: str, two: str) -> None:
    stream = open_log("human")
    structlog.get_logger().info("a", key=one)
    structlog.get_logger().info("a", key=two)
    first, second = stream.getvalue().split("\n")[:2]

    assert (first == second) == (mask_text(one) == mask_text(two))


def test_a_long_value_is_cut() -> None:
    stream = open_log("human")
    structlog.get_logger().info("a", key="k" * 100_000)

    assert len(stream.getvalue()) < 5_000


def test_a_credential_across_the_cut_is_still_masked() -> None:
    stream = open_log("human")
    structlog.get_logger().info("a", key="k" * 4_080 + f"X-Amz-Signature={CANARY}")

    assert CANARY[:8] not in stream.getvalue()


def test_a_traceback_is_one_line_and_has_no_local_variables() -> None:
    stream = open_log("human")

    def fail(secret: str) -> None:
        raise ValueError(len(secret))

    try:
        fail(CANARY)
    except ValueError:
        structlog.get_logger().exception("broken")

    assert stream.getvalue().count("\n") == 1
    assert "ValueError: 26" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_a_library_that_logs_badly_is_still_heard() -> None:
    stream = open_log("human")
    log = logging.getLogger("library")
    log.warning("two %s %s", "one")  # noqa: PLE1206 - the mistake under test
    log.critical("dying")
    log.info("chatter")

    first, second = stream.getvalue().splitlines()
    assert 'message="two %s %s"' in first
    assert second.split()[1] == "error"


def test_without_a_stream_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    start_log(LogSettings(), clock=SystemClock())
    structlog.get_logger().info("hello")

    assert "hello" in capsys.readouterr().err
