"""How sizes, counts, dates and names are written on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import click

from appliance.admin.documents import LIMIT_MAX, QuotaWanted
from appliance.clock import SystemClock
from appliance.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.clock import Clock

__all__ = [
    "Limit",
    "bucket_argument",
    "bucket_quota_options",
    "expires_option",
    "parse_bucket",
    "parse_count_limit",
    "parse_expiry",
    "parse_size_limit",
    "quota_wanted",
    "read_size",
    "tenant_option",
    "tenant_quota_options",
    "yes_option",
]

P = ParamSpec("P")
ValueT = TypeVar("ValueT")

Limit = int | Literal["none"] | None


def parse_size_limit(text: str) -> Limit:
    """Bytes of a limit such as `1TiB`, or `none`.

    Raises:
        ValueError: No size, or zero.
    """
    return "none" if text.lower() == "none" else _require_some(parse_size(text))


def parse_count_limit(text: str) -> Limit:
    """The number of a limit, or `none`.

    Raises:
        ValueError: No whole number of at least 1.
    """
    if text.lower() == "none":
        return "none"
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(LIMIT_MAX)):
        raise ValueError(f"{text!r}: write a whole number of at least 1, or none")
    return _require_some(int(text))


def _require_some(limit: int) -> int:
    if limit == 0:
        raise ValueError("a limit is at least 1; `tenant suspend` stops a tenant")
    if limit > LIMIT_MAX:
        raise ValueError(f"a limit is at most {LIMIT_MAX}")
    return limit


def parse_expiry(text: str, clock: Clock) -> str:
    """The moment, as ISO 8601 in UTC, that a duration from now or a date means.

    Raises:
        ValueError: It is neither, or lies in the past.
    """
    now = clock.now()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        duration = parse_duration(text)
        moment = datetime.fromtimestamp(now + duration, UTC)
    else:
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        duration = moment.timestamp() - now
    if duration <= 0:
        raise ValueError(f"{text!r} lies in the past")
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_bucket(text: str) -> tuple[str, str]:
    """Tenant and bucket of `TENANT/BUCKET`.

    Raises:
        ValueError: One of the two is missing.
    """
    tenant, _, bucket = text.partition("/")
    if not tenant or not bucket:
        raise ValueError(f"{text!r}: write a bucket as TENANT/BUCKET")
    return tenant, bucket


def _read_size_limit(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Limit:
    return None if value is None else _reading(parse_size_limit, value)


def _read_count_limit(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Limit:
    return None if value is None else _reading(parse_count_limit, value)


def _read_expiry(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    return (
        None if value is None else _reading(lambda text: parse_expiry(text, SystemClock()), value)
    )


def _read_bucket(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[str, str]:
    return _reading(parse_bucket, value)


def read_size(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> int | None:
    """Callback of an option that is a size."""
    return None if value is None else _reading(parse_size, value)


def _reading(parse: Callable[[str], ValueT], value: str) -> ValueT:
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_QUOTA_BYTES = click.option(
    "--quota-bytes",
    callback=_read_size_limit,
    metavar="SIZE",
    help="Most bytes held, as 1TiB; or none.",
)
_QUOTA_OBJECTS = click.option(
    "--quota-objects",
    callback=_read_count_limit,
    metavar="N",
    help="Most object versions held; or none.",
)
_QUOTA_BUCKETS = click.option(
    "--quota-buckets",
    callback=_read_count_limit,
    metavar="N",
    help="Most buckets; or none.",
)


def bucket_quota_options(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the limits of a bucket."""
    return _QUOTA_BYTES(_QUOTA_OBJECTS(command))


def tenant_quota_options(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the limits of a tenant."""
    return _QUOTA_BYTES(_QUOTA_OBJECTS(_QUOTA_BUCKETS(command)))


def quota_wanted(
    *, quota_bytes: Limit, quota_objects: Limit, quota_buckets: Limit = None
) -> QuotaWanted:
    """The request document for those options."""
    return QuotaWanted(bytes_max=quota_bytes, objects_max=quota_objects, buckets_max=quota_buckets)


def bucket_argument(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the bucket it works on, as a pair of names."""
    return click.argument("name", callback=_read_bucket, metavar="TENANT/BUCKET")(command)


def expires_option(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the moment at which something ends."""
    return click.option(
        "--expires",
        "expires_at",
        callback=_read_expiry,
        metavar="WHEN",
        help="When it stops working: 30d from now, or 2030-01-31T12:00:00Z.",
    )(command)


def tenant_option(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the tenant it works on."""
    return click.option("--tenant", required=True, metavar="NAME", help="The tenant.")(command)


def yes_option(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the answer to its question."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)
