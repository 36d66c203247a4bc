from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.conditions import (
    Verdict,
    judge_copy_source,
    judge_read,
    parse_write_conditions,
)
from appliance.s3.errors import S3Error
from appliance.s3.operations import Conditions

ETAG = "9a0364b9e99bb480dd25e1f0284c8555"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
EXACT = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
MODIFIED_US = 784_111_777_500_000  # half a second past EXACT, which clients never see


def judge(conditions: Conditions) -> Verdict:
    return judge_read(conditions, etag=ETAG, modified_us=MODIFIED_US)


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (f'"{ETAG}"', Verdict.PROCEED),
        (ETAG, Verdict.PROCEED),
        ("*", Verdict.PROCEED),
        (f'"other", "{ETAG}"', Verdict.PROCEED),
        (f"other,{ETAG}", Verdict.PROCEED),
        (f'W/"{ETAG}"', Verdict.FAILED),
        ('"other"', Verdict.FAILED),
        ('"*"', Verdict.FAILED),
        (",", Verdict.FAILED),
        ("", Verdict.PROCEED),
    ],
)
def test_if_match_needs_a_strong_match(header: str, verdict: Verdict) -> None:
    assert judge(Conditions(if_match=header)) is verdict


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (f'"{ETAG}"', Verdict.NOT_MODIFIED),
        (f'W/"{ETAG}"', Verdict.NOT_MODIFIED),
        (f'"other", W/"{ETAG}"', Verdict.NOT_MODIFIED),
        (ETAG, Verdict.NOT_MODIFIED),
        ("*", Verdict.NOT_MODIFIED),
        ('"other"', Verdict.PROCEED),
        ("", Verdict.PROCEED),
    ],
)
def test_if_none_match_is_content_with_a_weak_match(header: str, verdict: Verdict) -> None:
    assert judge(Conditions(if_none_match=header)) is verdict


@pytest.mark.parametrize(
    ("since", "unmodified", "verdict"),
    [
        (BEFORE, None, Verdict.PROCEED),
        (EXACT, None, Verdict.NOT_MODIFIED),
        (AFTER, None, Verdict.NOT_MODIFIED),
        ("nonsense", None, Verdict.PROCEED),
        ("", None, Verdict.PROCEED),
        (None, BEFORE, Verdict.FAILED),
        (None, EXACT, Verdict.PROCEED),
        (None, AFTER, Verdict.PROCEED),
        (None, "nonsense", Verdict.PROCEED),
        (AFTER, BEFORE, Verdict.FAILED),
    ],
)
def test_dates_are_compared_in_whole_seconds(
    since: str | None, unmodified: str | None, verdict: Verdict
) -> None:
    conditions = Conditions(if_modified_since=since, if_unmodified_since=unmodified)

    assert judge(conditions) is verdict


def test_a_matching_if_match_silences_if_unmodified_since() -> None:
    assert judge(Conditions(if_match=ETAG, if_unmodified_since=BEFORE)) is Verdict.PROCEED


def test_an_if_none_match_silences_if_modified_since() -> None:
    conditions = Conditions(if_none_match='"other"', if_modified_since=AFTER)

    assert judge(conditions) is Verdict.PROCEED


def test_a_failed_if_match_wins_over_a_matching_if_none_match() -> None:
    assert judge(Conditions(if_match='"other"', if_none_match="*")) is Verdict.FAILED


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(if_match='"other"'),
        Conditions(if_none_match=ETAG),
        Conditions(if_modified_since=AFTER),
        Conditions(if_unmodified_since=BEFORE),
    ],
)
def test_a_copy_source_that_a_read_would_not_give_fails(conditions: Conditions) -> None:
    with pytest.raises(S3Error) as refused:
        judge_copy_source(conditions, etag=ETAG, modified_us=MODIFIED_US)

    assert refused.value.code is S3Code.PRECONDITION_FAILED


def test_a_copy_source_that_a_read_would_give_passes() -> None:
    judge_copy_source(Conditions(if_match=ETAG), etag=ETAG, modified_us=MODIFIED_US)


@pytest.mark.parametrize(
    ("conditions", "demand"),
    [
        (Conditions(), (None, False)),
        (Conditions(if_none_match="*"), (None, True)),
        (Conditions(if_none_match=" * "), (None, True)),
        (Conditions(if_match="*"), (("*",), False)),
        (Conditions(if_match=f'"{ETAG}"'), ((ETAG,), False)),
        (Conditions(if_match=f'{ETAG}, "b", W/"c"'), ((ETAG, "b"), False)),
    ],
)
def test_write_conditions_are_parsed(
    conditions: Conditions, demand: tuple[tuple[str, ...] | None, bool]
) -> None:
    assert parse_write_conditions(conditions) == demand


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        (Conditions(if_none_match=f'"{ETAG}"'), S3Code.NOT_IMPLEMENTED),
        (Conditions(if_none_match=""), S3Code.NOT_IMPLEMENTED),
        (Conditions(if_match=ETAG, if_none_match="*"), S3Code.NOT_IMPLEMENTED),
        (Conditions(if_modified_since=EXACT), S3Code.NOT_IMPLEMENTED),
        (Conditions(if_unmodified_since=EXACT), S3Code.NOT_IMPLEMENTED),
        (Conditions(if_match=""), S3Code.INVALID_ARGUMENT),
        (Conditions(if_match='W/"weak"'), S3Code.INVALID_ARGUMENT),
    ],
)
def test_a_write_condition_is_never_dropped_in_silence(
    conditions: Conditions, code: S3Code
) -> None:
    with pytest.raises(S3Error) as refused:
        parse_write_conditions(conditions)

    assert refused.value.code is code
