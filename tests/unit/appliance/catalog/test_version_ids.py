"""Version ids: every sequence comes back, and no other text is taken for one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, strategies

from appliance.catalog.version_ids import SEQUENCE_MAX, format_version_id, parse_version_id

SEQUENCES = strategies.integers(min_value=1, max_value=SEQUENCE_MAX)
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


@given(SEQUENCES)
def test_a_sequence_comes_back(sequence: int) -> None:
    text = format_version_id(sequence)

    assert parse_version_id(text) == sequence
    assert len(text) == 32
    assert set(text) <= URL_SAFE


@given(SEQUENCES, strategies.integers(0, 31), strategies.sampled_from(sorted(URL_SAFE)))
def test_one_other_character_is_no_version_id(sequence: int, index: int, character: str) -> None:
    text = format_version_id(sequence)
    changed = text[:index] + character + text[index + 1 :]

    assert parse_version_id(changed) == (sequence if changed == text else None)


@given(strategies.text(max_size=40))
def test_any_other_text_is_no_version_id(text: str) -> None:
    assert parse_version_id(text) is None


@pytest.mark.parametrize("text", ["null", "", "A" * 32, "é" * 32, "=" * 32, "AAAA\n" + "A" * 27])
def test_known_nonsense_is_no_version_id(text: str) -> None:
    assert parse_version_id(text) is None


def test_every_cut_is_no_version_id() -> None:
    text = format_version_id(123_456_789)

    assert [parse_version_id(text[:end]) for end in range(32)] == [None] * 32


def test_neighbours_do_not_look_alike() -> None:
    ids = {format_version_id(sequence) for sequence in range(1, 1001)}

    assert len(ids) == 1000
    assert len({text[:6] for text in ids}) == 1000


def test_the_format_is_stable() -> None:
    # Clients keep version ids: another text for a sequence would lose their versions.
    assert format_version_id(1) == "Kq7f7vgCoKIqrt_u-AKgo3e5LBChsBKG"
