"""Preconditions: judged here for reads and copy sources, only parsed here for writes.

A write's conditions are judged inside the transaction that would make it, by the catalog.

Source: RFC 9110 section 13; AWS, GetObject, CopyObject, "Conditional requests".
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.dates import parse_http_date
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from appliance.s3.operations import Conditions

__all__ = ["Verdict", "judge_copy_source", "judge_read", "parse_write_conditions"]

_ETAG = re.compile(r'(?P<weak>W/)?(?:"(?P<quoted>[^"]*)"|(?P<bare>[^",\s]+))')


class Verdict(enum.Enum):
    """What preconditions make of a read."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"  # 304
    FAILED = "failed"  # 412


def judge_read(conditions: Conditions, *, etag: str, modified_us: int) -> Verdict:
    """Judge a GET or HEAD of an existing version.

    If-Match silences If-Unmodified-Since, and If-None-Match silences If-Modified-Since, whatever
    they say. Dates that cannot be parsed and empty fields do not count.

    Args:
        conditions: As sent.
        etag: Of the version, without quotes.
        modified_us: Of the version; compared in whole seconds, which is all that a client saw.
    """
    modified_s = modified_us // 1_000_000
    if conditions.if_match:
        has_failed = not _is_listed(conditions.if_match, etag, allow_weak=False)
    else:
        unmodified_s = _parse_seconds(conditions.if_unmodified_since)
        has_failed = unmodified_s is not None and modified_s > unmodified_s
    if has_failed:
        return Verdict.FAILED
    if conditions.if_none_match:
        is_known = _is_listed(conditions.if_none_match, etag, allow_weak=True)
    else:
        since_s = _parse_seconds(conditions.if_modified_since)
        is_known = since_s is not None and modified_s <= since_s
    return Verdict.NOT_MODIFIED if is_known else Verdict.PROCEED


def judge_copy_source(conditions: Conditions, *, etag: str, modified_us: int) -> None:
    """Judge the source of a copy, by the rules of a read.

    Raises:
        S3Error: `PreconditionFailed` wherever a read would answer 304 or 412.
    """
    if judge_read(conditions, etag=etag, modified_us=modified_us) is not Verdict.PROCEED:
        raise S3Error(S3Code.PRECONDITION_FAILED)


def parse_write_conditions(conditions: Conditions) -> tuple[tuple[str, ...] | None, bool]:
    """What a write demands of the current version.

    Returns:
        The ETags of which it must have one (without quotes; `*` for any existing object; None for
        no such demand), and whether there must be none.

    Raises:
        S3Error: `NotImplemented` for what S3 does not do either: dates, If-None-Match other than
            `*`, both fields at once; `InvalidArgument` for an empty field. A condition is never
            dropped in silence, since the write would then destroy what it was to protect.
    """
    if conditions.if_modified_since is not None or conditions.if_unmodified_since is not None:
        raise S3Error(S3Code.NOT_IMPLEMENTED, "A write cannot depend on a date")
    if conditions.if_match is not None and conditions.if_none_match is not None:
        raise S3Error(S3Code.NOT_IMPLEMENTED, "If-Match and If-None-Match exclude each other")
    if conditions.if_none_match is not None:
        if conditions.if_none_match.strip() != "*":
            raise S3Error(S3Code.NOT_IMPLEMENTED, "If-None-Match of a write can only be *")
        return None, True
    if conditions.if_match is None:
        return None, False
    etags = tuple(
        found["quoted"] if found["quoted"] is not None else found["bare"]
        for found in _ETAG.finditer(conditions.if_match)
        if not found["weak"]
    )
    if not etags:
        raise S3Error(S3Code.INVALID_ARGUMENT, "If-Match holds no ETag")
    return etags, False


def _is_listed(header: str, etag: str, *, allow_weak: bool) -> bool:
    """True where the list names `etag`; strong comparison unless `allow_weak` (section 8.8.3.2)."""
    for found in _ETAG.finditer(header):
        if found["bare"] == "*":
            return True
        if found["weak"] and not allow_weak:
            continue
        if etag in (found["quoted"], found["bare"]):
            return True
    return False


def _parse_seconds(header: str | None) -> int | None:
    moment_us = parse_http_date(header) if header else None
    return None if moment_us is None else moment_us // 1_000_000
