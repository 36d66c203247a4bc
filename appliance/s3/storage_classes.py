"""Storage classes: which there are, and on which tier an object of a class begins. Pure.

A class says where the bytes of an upload are written and what the object is shown as ever after.
Where its pages are later is for the tiering policy; that never changes the class.

Source: AWS, PutObject, `x-amz-storage-class`; TIERING 4.9.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STANDARD", "check_class_name", "find_tier", "require_tier"]

STANDARD = "STANDARD"
"""What an upload without the header is; GET and HEAD leave it out."""

# Managed by the policy from the fastest tier on.
_MANAGED = frozenset({STANDARD, "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY"})
# Seldom read, and read at once when they are: the slowest tier.
_INFREQUENT = frozenset({"STANDARD_IA", "ONEZONE_IA"})
_REMOTE = frozenset({"GLACIER", "GLACIER_IR", "DEEP_ARCHIVE"})
_NOT_BUILT = frozenset({"EXPRESS_ONEZONE", "OUTPOSTS", "SNOW", "FSX_ONTAP", "FSX_OPENZFS"})
_NAME = re.compile(r"[!-~]{1,64}")  # what a policy may call the class of a tier


def check_class_name(name: str) -> str:
    """The name, unless no appliance of this version could have such a class.

    Raises:
        S3Error: `NotImplemented` for the classes of a remote tier and of other places of AWS,
            `InvalidStorageClass` for what is no name.
    """
    elements = {"StorageClassRequested": name}
    if name in _REMOTE:
        message = (
            f"The storage class {name} is kept on a remote tier, which this version does not have;"
            " STANDARD_IA is the slowest one that it has."
        )
        raise S3Error(S3Code.NOT_IMPLEMENTED, message, elements=elements)
    if name in _NOT_BUILT:
        message = "The storage class you specified is not implemented"
        raise S3Error(S3Code.NOT_IMPLEMENTED, message, elements=elements)
    if _NAME.fullmatch(name) is None:
        raise S3Error(S3Code.INVALID_STORAGE_CLASS, elements=elements)
    return name


def find_tier(name: str, tiers: Sequence[tuple[str, str]]) -> str | None:
    """The tier that an object of a class begins on, None for a class that there is not.

    Args:
        name: The class.
        tiers: Name and class of every tier, the fastest first.
    """
    for tier, storage_class in tiers:
        if storage_class == name:
            return tier
    if name in _MANAGED:
        return tiers[0][0]
    return tiers[-1][0] if name in _INFREQUENT else None


def require_tier(name: str, tiers: Sequence[tuple[str, str]]) -> str:
    """See `find_tier`.

    Raises:
        S3Error: `InvalidStorageClass`: neither S3 nor the policy knows the class.
    """
    tier = find_tier(name, tiers)
    if tier is None:
        raise S3Error(S3Code.INVALID_STORAGE_CLASS, elements={"StorageClassRequested": name})
    return tier
