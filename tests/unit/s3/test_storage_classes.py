"""Where an object of a class begins, and which classes there are."""

from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.storage_classes import check_class_name, find_tier, require_tier

TIERS = (("ssd", "STANDARD"), ("hdd", "STANDARD_IA"))
OWN = (("nvme", "FAST"), ("ssd", "MIDDLE"), ("hdd", "ONEZONE_IA"))


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("STANDARD", "ssd"),
        ("INTELLIGENT_TIERING", "ssd"),
        ("REDUCED_REDUNDANCY", "ssd"),
        ("STANDARD_IA", "hdd"),
        ("ONEZONE_IA", "hdd"),
        ("standard_ia", None),
        ("FAST", None),
    ],
)
def test_a_class_begins_on_its_tier(name: str, tier: str | None) -> None:
    assert find_tier(name, TIERS) == tier


def test_a_policy_names_the_classes_of_its_tiers() -> None:
    assert [find_tier(name, OWN) for name in ("FAST", "MIDDLE", "ONEZONE_IA")] == [
        *("nvme", "ssd", "hdd")
    ]
    assert find_tier("STANDARD", OWN) == "nvme"
    assert find_tier("STANDARD_IA", OWN) == "hdd"


def test_a_class_that_nobody_knows_is_invalid() -> None:
    with pytest.raises(S3Error) as caught:
        require_tier("HOT", TIERS)

    assert caught.value.code is S3Code.INVALID_STORAGE_CLASS
    assert caught.value.elements == {"StorageClassRequested": "HOT"}


def test_classes_of_a_remote_tier_are_refused_with_the_reason() -> None:
    for name in ("GLACIER", "GLACIER_IR", "DEEP_ARCHIVE"):
        with pytest.raises(S3Error) as caught:
            check_class_name(name)
        assert caught.value.code is S3Code.NOT_IMPLEMENTED
        assert "remote tier, which this version does not have" in caught.value.message
