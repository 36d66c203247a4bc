from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tenants.errors import QuotaExceeded
from tenants.quota import admit
from tenants.records import QuotaLimits, Usage

figures = st.integers(min_value=0, max_value=2**62)
changes = st.integers(min_value=-(2**62), max_value=2**62)
limits_of_one = st.none() | figures


def test_without_limits_everything_is_admitted() -> None:
    admit(QuotaLimits(), Usage(used_bytes=2**62), Usage(used_bytes=2**62, object_count=9))


def test_a_use_equal_to_the_limit_is_admitted_and_one_more_is_not() -> None:
    limits = QuotaLimits(bytes_max=100)

    admit(limits, Usage(used_bytes=90), Usage(used_bytes=10))
    with pytest.raises(QuotaExceeded) as caught:
        admit(limits, Usage(used_bytes=90), Usage(used_bytes=11))
    assert (caught.value.limit, caught.value.used, caught.value.wanted) == (100, 90, 11)
    assert caught.value.what == "tenant bytes"


@pytest.mark.parametrize(
    ("limits", "delta", "what"),
    [
        (QuotaLimits(bytes_max=0), Usage(used_bytes=1), "bucket bytes"),
        (QuotaLimits(objects_max=0), Usage(object_count=1), "bucket objects"),
        (QuotaLimits(buckets_max=0), Usage(bucket_count=1), "bucket buckets"),
    ],
)
def test_each_limit_is_named_with_its_owner(limits: QuotaLimits, delta: Usage, what: str) -> None:
    with pytest.raises(QuotaExceeded) as caught:
        admit(limits, Usage(), delta, owner="bucket")

    assert caught.value.what == what


def test_a_limit_lowered_below_the_use_still_lets_deletes_and_shrinking_overwrites_through() -> (
    None
):
    limits = QuotaLimits(bytes_max=10, objects_max=1)
    usage = Usage(used_bytes=1_000, object_count=50)

    admit(limits, usage, Usage(used_bytes=-1, object_count=-1))
    admit(limits, usage, Usage(used_bytes=-5, object_count=0))
    with pytest.raises(QuotaExceeded):
        admit(limits, usage, Usage(used_bytes=-5, object_count=1))


@given(limits_of_one, figures, changes, limits_of_one, figures, changes)
def test_what_is_admitted_never_grows_past_a_limit(
    bytes_max: int | None, used: int, more: int, objects_max: int | None, count: int, added: int
) -> None:
    limits = QuotaLimits(bytes_max=bytes_max, objects_max=objects_max)
    must_refuse = (bytes_max is not None and more > 0 and used + more > bytes_max) or (
        objects_max is not None and added > 0 and count + added > objects_max
    )

    try:
        admit(
            limits,
            Usage(used_bytes=used, object_count=count),
            Usage(used_bytes=more, object_count=added),
        )
    except QuotaExceeded:
        assert must_refuse
    else:
        assert not must_refuse
