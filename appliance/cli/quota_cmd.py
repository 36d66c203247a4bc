"""`thermocline quota`: hard limits of tenants and buckets."""

from __future__ import annotations

import click

from appliance.admin.documents import QuotaWanted, UsageRow
from appliance.cli.client import join_path
from appliance.cli.output import format_limit, format_share, print_table
from appliance.cli.parameters import Limit, quota_wanted, tenant_quota_options
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size

__all__ = ["quota"]


@click.group()
def quota() -> None:
    """Limit what tenants and buckets may hold.

    Limits are hard and exact: a write that would pass one is refused with QuotaExceeded, deletes
    always work. Object versions count, delete markers do not, parts of uploads in progress count as
    bytes.
    """


@quota.command("set")
@click.argument("name", metavar="NAME")
@tenant_quota_options
@common_options
@pass_session
def set_(
    session: Session,
    *,
    name: str,
    quota_bytes: Limit,
    quota_objects: Limit,
    quota_buckets: Limit,
) -> None:
    """Change limits of tenant NAME, or of a bucket where NAME is TENANT/BUCKET.

    Limits that are not given stay; `none` lifts one. A limit below what is held removes nothing.
    """
    wanted = quota_wanted(
        quota_bytes=quota_bytes, quota_objects=quota_objects, quota_buckets=quota_buckets
    )
    if wanted == QuotaWanted():
        raise click.UsageError("give --quota-bytes, --quota-objects or --quota-buckets")
    with session.open_client() as client:
        changed = client.call("PATCH", _quota_path(name), UsageRow, body=wanted)
    session.print(changed, _show)


@quota.command()
@click.argument("name", metavar="NAME")
@common_options
@pass_session
def show(session: Session, *, name: str) -> None:
    """Show limits and use of tenant NAME, or of a bucket where NAME is TENANT/BUCKET."""
    with session.open_client() as client:
        found = client.call("GET", _quota_path(name), UsageRow)
    session.print(found, _show)


def _quota_path(name: str) -> str:
    tenant, slash, bucket = name.partition("/")
    if slash:
        return join_path("tenants", tenant, "buckets", bucket, "quota")
    return join_path("tenants", tenant, "quota")


def _show(row: UsageRow) -> None:
    used, limits = row.usage, row.quota
    rows = [
        (
            "bytes",
            format_size(used.used_bytes),
            format_limit(limits.bytes_max, is_size=True),
            format_share(used.used_bytes, limits.bytes_max),
        ),
        (
            "objects",
            str(used.object_count),
            format_limit(limits.objects_max),
            format_share(used.object_count, limits.objects_max),
        ),
    ]
    if row.bucket is None:
        rows.append(
            (
                "buckets",
                str(used.bucket_count),
                format_limit(limits.buckets_max),
                format_share(used.bucket_count, limits.buckets_max),
            )
        )
    print_table(["LIMIT", "USED", "QUOTA", "FULL"], rows, right="USED QUOTA FULL")
