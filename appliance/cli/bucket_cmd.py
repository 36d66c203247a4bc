"""`thermocline bucket`: buckets, seen from outside of S3."""

from __future__ import annotations

import click

from appliance.admin.documents import BucketList, BucketView, BucketWanted
from appliance.cli.client import join_path
from appliance.cli.output import format_limit, format_share, print_fields, print_table
from appliance.cli.parameters import (
    Limit,
    bucket_argument,
    bucket_quota_options,
    quota_wanted,
    tenant_option,
)
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size

__all__ = ["bucket"]


@click.group()
def bucket() -> None:
    """Create and show buckets.

    Every tenant has names of its own: two tenants may each have a bucket `backups`.
    """


@bucket.command()
@bucket_argument
@bucket_quota_options
@common_options
@pass_session
def create(
    session: Session, *, name: tuple[str, str], quota_bytes: Limit, quota_objects: Limit
) -> None:
    """Create an empty bucket, as S3's CreateBucket does."""
    tenant, bucket_name = name
    wanted = BucketWanted(
        name=bucket_name,
        quota=quota_wanted(quota_bytes=quota_bytes, quota_objects=quota_objects),
    )
    with session.open_client() as client:
        made = client.call("POST", join_path("tenants", tenant, "buckets"), BucketView, body=wanted)
    session.print(made, lambda view: click.echo(f"bucket {view.tenant}/{view.name} created"))


@bucket.command("list")
@tenant_option
@common_options
@pass_session
def list_(session: Session, *, tenant: str) -> None:
    """List the buckets of a tenant."""
    with session.open_client() as client:
        pages = client.iter_pages(join_path("tenants", tenant, "buckets"), BucketList)
        buckets = tuple(view for page in pages for view in page.buckets)
    session.print(BucketList(buckets=buckets, next_after=None), _show_list)


@bucket.command()
@bucket_argument
@common_options
@pass_session
def show(session: Session, *, name: tuple[str, str]) -> None:
    """Show a bucket, its limits and what it holds."""
    tenant, bucket_name = name
    with session.open_client() as client:
        found = client.call("GET", join_path("tenants", tenant, "buckets", bucket_name), BucketView)
    session.print(found, _show_one)


def _show_list(found: BucketList) -> None:
    print_table(
        ["NAME", "VERSIONING", "OBJECTS", "USED", "QUOTA", "FULL", "CREATED"],
        [
            (
                view.name,
                view.versioning,
                str(view.usage.object_count),
                format_size(view.usage.used_bytes),
                format_limit(view.quota.bytes_max, is_size=True),
                format_share(view.usage.used_bytes, view.quota.bytes_max),
                view.created_at,
            )
            for view in found.buckets
        ],
        right="OBJECTS USED QUOTA FULL",
    )


def _show_one(view: BucketView) -> None:
    limits = view.quota
    bytes_max = format_limit(limits.bytes_max, is_size=True)
    print_fields(
        [
            ("bucket", f"{view.tenant}/{view.name}"),
            ("versioning", view.versioning),
            ("created", view.created_at),
            ("bytes", f"{format_size(view.usage.used_bytes)} of {bytes_max}"),
            ("objects", f"{view.usage.object_count} of {format_limit(limits.objects_max)}"),
        ]
    )
