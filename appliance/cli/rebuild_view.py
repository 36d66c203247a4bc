"""How `thermocline fsck --rebuild-catalog` shows what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli.output import format_missing, print_fields, print_table, to_printable
from appliance.units import format_size

if TYPE_CHECKING:
    from appliance.rebuild.records import RebuildReport

__all__ = ["show_rebuilt"]


def show_rebuilt(done: RebuildReport) -> None:
    """Print the report for people."""
    rebuilt = done.rebuilt
    print_fields(
        [
            ("catalog", done.catalog),
            ("before it", format_missing(done.replaced)),
            ("appliance", done.appliance),
            ("old catalog", done.old_catalog),
            ("tenants", str(rebuilt.tenants)),
            ("access keys", str(done.keys)),
            ("policy", _describe_policies(done.policies)),
            ("buckets", str(rebuilt.buckets)),
            ("versions", str(rebuilt.versions)),
            ("delete markers", str(rebuilt.delete_markers)),
            ("pages", str(rebuilt.pages)),
            ("shadows", str(rebuilt.shadows)),
            ("bytes", format_size(rebuilt.size_bytes)),
            ("left out", str(done.left_out_count)),
            ("bad records", str(done.damaged_count)),
            ("unclaimed bodies", f"{done.unclaimed_bodies}, which the next start frees"),
        ]
    )
    if done.left_out:
        click.echo()
        print_table(
            ["TENANT", "BUCKET", "KEY", "LEFT OUT BECAUSE"],
            [(item.tenant, item.bucket, item.key, item.reason) for item in done.left_out],
        )
    if done.damage:
        click.echo()
        for line in done.damage:
            click.echo(to_printable(line))
    if done.tenants_without_keys:
        click.echo()
        names = ", ".join(done.tenants_without_keys)
        click.echo(f"no access keys: {to_printable(names)}")
        click.echo("make or import them with `thermocline key create` and `key import`")


def _describe_policies(revisions: int) -> str:
    if not revisions:
        return "the default is in force"
    return f"{revisions} revisions taken over"
