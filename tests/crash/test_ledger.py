"""The judge of the crash proofs: what it accepts of a key after a crash, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.crash.ledger import ABSENT, KeyState, Ledger, content_of, replay

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW, OTHER = content_of(b"old"), content_of(b"new"), content_of(b"other")


def test_what_was_acknowledged_is_all_that_may_be_there() -> None:
    state = KeyState()
    state.apply("try", OLD)
    state.apply("ack", OLD)

    assert state.allows(OLD)
    assert not state.allows(ABSENT)
    assert not state.allows(NEW)


def test_an_unanswered_request_is_whole_or_absent() -> None:
    state = KeyState(promised=OLD)
    state.apply("try", NEW)

    assert state.allows(OLD)
    assert state.allows(NEW)
    assert not state.allows(content_of(b"ne"))
    assert not state.allows(ABSENT)


def test_a_refused_request_did_nothing() -> None:
    state = KeyState(promised=OLD)
    state.apply("try", NEW)
    state.apply("refused", NEW)

    assert not state.allows(NEW)


def test_what_a_client_saw_after_a_crash_is_promised_from_then_on() -> None:
    state = KeyState(promised=OLD)
    state.apply("try", NEW)
    state.apply("seen", NEW)

    assert not state.allows(OLD)


def test_the_file_alone_says_what_was_promised(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.note_try("a", OLD)
    ledger.note_ack("a", OLD)
    ledger.note_try("a", ABSENT)
    ledger.note_try("b", NEW)

    kept = replay(ledger.path)
    assert kept == ledger.keys
    assert kept["a"].allows(ABSENT)
    assert not kept["a"].allows(OTHER)
    assert kept["b"].promised == ABSENT

    ledger.note_seen("a", OLD)
    ledger.note_seen("b", ABSENT)
    ledger.restart()
    assert replay(ledger.path) == ledger.keys
    ledger.close()
