"""`thermocline key`: access keys. A secret is printed once, by the command that made it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ParamSpec

import click

from appliance.admin.documents import (
    Done,
    KeyImport,
    KeyList,
    KeyView,
    KeyWanted,
    NewKeyView,
    RoleName,
    TenantList,
)
from appliance.cli.client import AdminClient, join_path
from appliance.cli.errors import PartlyDone
from appliance.cli.output import confirm, format_missing, print_fields, print_table
from appliance.cli.parameters import expires_option, tenant_option, yes_option
from appliance.cli.session import Session, common_options, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["key"]

SHOWN_ONCE = "The secret is shown this once and cannot be asked for again; store it now."
SECRET_CHARS_MAX = 256  # of a line on standard input; the server's rule is tighter


P = ParamSpec("P")


def _scope_options(command: Callable[P, None]) -> Callable[P, None]:
    command = expires_option(command)
    for option in (
        click.option(
            "--prefix", metavar="P", help="Work only on object keys that begin so; needs --bucket."
        ),
        click.option("--bucket", metavar="B", help="Work only in this bucket."),
        click.option(
            "--role",
            type=click.Choice(["rw", "ro", "wo"]),
            default="rw",
            show_default=True,
            help="Read and write, only read, or only write.",
        ),
        click.option("--user", default="root", show_default=True, help="The user who owns it."),
    ):
        command = option(command)
    return command


@click.group()
def key() -> None:
    """Create, rotate and revoke access keys.

    A change is effective at once. A secret is shown when it is made and never again; the catalog
    keeps it sealed.
    """


@key.command()
@tenant_option
@_scope_options
@common_options
@pass_session
def create(
    session: Session,
    *,
    tenant: str,
    user: str,
    role: RoleName,
    bucket: str | None,
    prefix: str | None,
    expires_at: str | None,
) -> None:
    """Create an access key of a tenant and print its secret, this once."""
    wanted = KeyWanted(user=user, role=role, bucket=bucket, prefix=prefix, expires_at=expires_at)
    with session.open_client() as client:
        made = client.call("POST", join_path("tenants", tenant, "keys"), NewKeyView, body=wanted)
    session.print(made, _show_new)


@key.command("import")
@click.option("--id", "access_key_id", required=True, metavar="ID", help="The access key id.")
@tenant_option
@_scope_options
@common_options
@pass_session
def import_(  # noqa: PLR0913 - one for each option
    session: Session,
    *,
    access_key_id: str,
    tenant: str,
    user: str,
    role: RoleName,
    bucket: str | None,
    prefix: str | None,
    expires_at: str | None,
) -> None:
    """Take over a key whose id and secret another system chose.

    The secret is asked for, or read from standard input where that is no terminal: as an argument
    every process could see it. Short, simple and published pairs are refused.
    """
    wanted = KeyImport(
        access_key_id=access_key_id,
        secret_access_key=_read_secret(),
        user=user,
        role=role,
        bucket=bucket,
        prefix=prefix,
        expires_at=expires_at,
    )
    path = join_path("tenants", tenant, "keys", "import")
    with session.open_client() as client:
        made = client.call("POST", path, KeyView, body=wanted)
    session.print(made, lambda view: click.echo(f"key {view.access_key_id} imported"))


@key.command("list")
@click.option("--tenant", metavar="NAME", help="Only keys of this tenant.")
@common_options
@pass_session
def list_(session: Session, *, tenant: str | None) -> None:
    """List access keys, without their secrets."""
    with session.open_client() as client:
        tenants = [tenant] if tenant is not None else _list_tenant_names(client)
        keys = tuple(
            view
            for name in tenants
            for page in client.iter_pages(join_path("tenants", name, "keys"), KeyList)
            for view in page.keys
        )
    session.print(KeyList(keys=keys, next_after=None), _show_list)


@key.command()
@click.argument("access_key_ids", metavar="ID...", nargs=-1, required=True)
@common_options
@pass_session
def disable(session: Session, *, access_key_ids: Sequence[str]) -> None:
    """Let keys stop working until they are enabled again."""
    _set_enabled(session, access_key_ids, "disable")


@key.command()
@click.argument("access_key_ids", metavar="ID...", nargs=-1, required=True)
@common_options
@pass_session
def enable(session: Session, *, access_key_ids: Sequence[str]) -> None:
    """Let disabled keys work again."""
    _set_enabled(session, access_key_ids, "enable")


@key.command()
@click.argument("access_key_id", metavar="ID")
@common_options
@pass_session
def rotate(session: Session, *, access_key_id: str) -> None:
    """Give a key a new secret and print it, this once.

    Id, role, scope and expiry stay; the old secret stops working at once. To let clients change
    over one by one, create a second key instead and delete the first when it is no longer used.
    """
    with session.open_client() as client:
        made = client.call("POST", join_path("keys", access_key_id, "rotate"), NewKeyView)
    session.print(made, _show_new)


@key.command()
@click.argument("access_key_ids", metavar="ID...", nargs=-1, required=True)
@yes_option
@common_options
@pass_session
def delete(session: Session, *, access_key_ids: Sequence[str], yes: bool) -> None:
    """Remove keys for good."""
    confirm(f"Remove {_count_keys(access_key_ids)}?", is_agreed=yes)

    def remove(client: AdminClient, access_key_id: str) -> None:
        done = client.call("DELETE", join_path("keys", access_key_id), Done)
        session.print(done, lambda document: click.echo(f"key {document.deleted} deleted"))

    _for_each(session, access_key_ids, remove)


def _list_tenant_names(client: AdminClient) -> list[str]:
    pages = client.iter_pages(join_path("tenants"), TenantList)
    return [view.name for page in pages for view in page.tenants]


def _set_enabled(session: Session, access_key_ids: Sequence[str], verb: str) -> None:
    def change(client: AdminClient, access_key_id: str) -> None:
        changed = client.call("POST", join_path("keys", access_key_id, verb), KeyView)
        session.print(changed, lambda view: click.echo(f"key {view.access_key_id} {view.state}"))

    _for_each(session, access_key_ids, change)


def _for_each(
    session: Session, access_key_ids: Sequence[str], act: Callable[[AdminClient, str], None]
) -> None:
    """Do something to several keys, and go on after a refusal.

    Raises:
        click.ClickException: The refusal, where nothing was done; else `PartlyDone`.
    """
    refusals: list[click.ClickException] = []
    with session.open_client() as client:
        for access_key_id in access_key_ids:
            try:
                act(client, access_key_id)
            except click.ClickException as refusal:
                refusals.append(refusal)
    if not refusals:
        return
    if len(refusals) == len(access_key_ids):
        raise refusals[0]
    reasons = "; ".join(refusal.format_message() for refusal in refusals)
    raise PartlyDone(f"{len(refusals)} of {len(access_key_ids)} keys refused: {reasons}")


def _count_keys(access_key_ids: Sequence[str]) -> str:
    if len(access_key_ids) == 1:
        return f"key {access_key_ids[0]!r}"
    return f"{len(access_key_ids)} keys"


def _read_secret() -> str:
    if sys.stdin.isatty():
        secret: str = click.prompt("Secret access key", hide_input=True, err=True)
        return secret
    line = sys.stdin.readline(SECRET_CHARS_MAX + 2).rstrip("\r\n")
    if not line or len(line) > SECRET_CHARS_MAX:
        raise click.UsageError("give the secret as one line on standard input")
    return line


def _show_new(view: NewKeyView) -> None:
    print_fields(
        [
            ("access key id", view.access_key_id),
            ("secret access key", view.secret_access_key),
            ("tenant", view.tenant),
            ("user", view.user),
            ("role", view.role),
            *([("bucket", view.bucket)] if view.bucket is not None else []),
            *([("prefix", view.prefix)] if view.prefix is not None else []),
            *([("expires", view.expires_at)] if view.expires_at is not None else []),
        ]
    )
    click.echo(SHOWN_ONCE)


def _show_list(found: KeyList) -> None:
    print_table(
        ["ID", "TENANT", "USER", "ROLE", "STATE", "BUCKET", "PREFIX", "EXPIRES", "CREATED"],
        [
            (
                view.access_key_id,
                view.tenant,
                view.user,
                view.role,
                view.state,
                format_missing(view.bucket),
                format_missing(view.prefix),
                format_missing(view.expires_at),
                view.created_at,
            )
            for view in found.keys
        ],
    )
