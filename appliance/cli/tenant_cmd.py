"""`thermocline tenant`: who owns buckets here."""

from __future__ import annotations

import click

from appliance.admin.documents import Done, TenantList, TenantView, TenantWanted
from appliance.cli.client import join_path
from appliance.cli.output import confirm, format_limit, format_share, print_fields, print_table
from appliance.cli.parameters import Limit, quota_wanted, tenant_quota_options, yes_option
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size

__all__ = ["tenant"]


@click.group()
def tenant() -> None:
    """Create, suspend and remove tenants.

    A tenant is what S3 calls an account: it owns buckets, whose names are its own, and users, who
    own access keys.
    """


@tenant.command()
@click.argument("name")
@tenant_quota_options
@common_options
@pass_session
def create(
    session: Session,
    *,
    name: str,
    quota_bytes: Limit,
    quota_objects: Limit,
    quota_buckets: Limit,
) -> None:
    """Create tenant NAME with a user `root` and no key.

    NAME has 1 to 63 lower-case letters, digits and inner hyphens.
    """
    wanted = TenantWanted(
        name=name,
        quota=quota_wanted(
            quota_bytes=quota_bytes, quota_objects=quota_objects, quota_buckets=quota_buckets
        ),
    )
    with session.open_client() as client:
        made = client.call("POST", join_path("tenants"), TenantView, body=wanted)
    session.print(made, _show_created)


@tenant.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List all tenants."""
    with session.open_client() as client:
        pages = client.iter_pages(join_path("tenants"), TenantList)
        tenants = tuple(view for page in pages for view in page.tenants)
    session.print(TenantList(tenants=tenants, next_after=None), _show_list)


@tenant.command()
@click.argument("name")
@common_options
@pass_session
def show(session: Session, *, name: str) -> None:
    """Show tenant NAME, its limits and what it holds."""
    with session.open_client() as client:
        found = client.call("GET", join_path("tenants", name), TenantView)
    session.print(found, _show_one)


@tenant.command()
@click.argument("name")
@common_options
@pass_session
def suspend(session: Session, *, name: str) -> None:
    """Refuse every request of tenant NAME until it is resumed; nothing is removed."""
    _set_state(session, name, "suspend")


@tenant.command()
@click.argument("name")
@common_options
@pass_session
def resume(session: Session, *, name: str) -> None:
    """Let tenant NAME work again."""
    _set_state(session, name, "resume")


@tenant.command()
@click.argument("name")
@yes_option
@common_options
@pass_session
def delete(session: Session, *, name: str, yes: bool) -> None:
    """Remove tenant NAME with its users and keys; it must own no bucket."""
    confirm(f"Remove tenant {name!r} with its users and keys?", is_agreed=yes)
    with session.open_client() as client:
        done = client.call("DELETE", join_path("tenants", name), Done)
    session.print(done, lambda document: click.echo(f"tenant {document.deleted} deleted"))


def _set_state(session: Session, name: str, verb: str) -> None:
    with session.open_client() as client:
        changed = client.call("POST", join_path("tenants", name, verb), TenantView)
    session.print(changed, lambda view: click.echo(f"tenant {view.name} is {view.state}"))


def _show_created(view: TenantView) -> None:
    click.echo(f"tenant {view.name} created; give it a key with:")
    click.echo(f"  thermocline key create --tenant {view.name}")


def _show_list(found: TenantList) -> None:
    print_table(
        ["NAME", "STATE", "BUCKETS", "OBJECTS", "USED", "QUOTA", "FULL", "CREATED"],
        [
            (
                view.name,
                view.state,
                str(view.usage.bucket_count),
                str(view.usage.object_count),
                format_size(view.usage.used_bytes),
                format_limit(view.quota.bytes_max, is_size=True),
                format_share(view.usage.used_bytes, view.quota.bytes_max),
                view.created_at,
            )
            for view in found.tenants
        ],
        right="BUCKETS OBJECTS USED QUOTA FULL",
    )


def _show_one(view: TenantView) -> None:
    limits = view.quota
    bytes_max = format_limit(limits.bytes_max, is_size=True)
    print_fields(
        [
            ("name", view.name),
            ("state", view.state),
            ("canonical id", view.canonical_id),
            ("created", view.created_at),
            ("bytes", f"{format_size(view.usage.used_bytes)} of {bytes_max}"),
            ("objects", f"{view.usage.object_count} of {format_limit(limits.objects_max)}"),
            ("buckets", f"{view.usage.bucket_count} of {format_limit(limits.buckets_max)}"),
        ]
    )
