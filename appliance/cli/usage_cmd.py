"""`thermocline usage`: what is held, and by whom."""

from __future__ import annotations

import click

from appliance.admin.documents import UsageList
from appliance.cli.client import join_path
from appliance.cli.output import format_limit, format_share, print_table
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size

__all__ = ["usage"]


@click.group()
def usage() -> None:
    """Show what tenants and buckets hold."""


@usage.command()
@click.option("--tenant", metavar="NAME", help="This tenant and each of its buckets.")
@common_options
@pass_session
def show(session: Session, *, tenant: str | None) -> None:
    """Show what every tenant holds, or one tenant and each of its buckets.

    The figures are exact: they are counted in the transaction that changes them.
    """
    with session.open_client() as client:
        pages = client.iter_pages(join_path("usage"), UsageList, query={"tenant": tenant})
        rows = tuple(row for page in pages for row in page.rows)
    session.print(UsageList(rows=rows, next_after=None), _show)


def _show(found: UsageList) -> None:
    print_table(
        ["TENANT", "BUCKET", "OBJECTS", "USED", "QUOTA", "FULL"],
        [
            (
                row.tenant,
                "(all)" if row.bucket is None else row.bucket,
                str(row.usage.object_count),
                format_size(row.usage.used_bytes),
                format_limit(row.quota.bytes_max, is_size=True),
                format_share(row.usage.used_bytes, row.quota.bytes_max),
            )
            for row in found.rows
        ],
        right="OBJECTS USED QUOTA FULL",
    )
