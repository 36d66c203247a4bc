"""`thermocline user`: the people and programs of a tenant."""

from __future__ import annotations

import click

from appliance.admin.documents import Done, UserList, UserView, UserWanted
from appliance.cli.client import join_path
from appliance.cli.output import confirm, print_table
from appliance.cli.parameters import tenant_option, yes_option
from appliance.cli.session import Session, common_options, pass_session

__all__ = ["user"]


@click.group()
def user() -> None:
    """Create and remove users of a tenant.

    A user owns access keys; what a key may do is said by its role and scope. Every tenant has a
    user `root`.
    """


@user.command()
@click.argument("name", metavar="USER")
@tenant_option
@common_options
@pass_session
def create(session: Session, *, name: str, tenant: str) -> None:
    """Create user USER of a tenant.

    USER has 1 to 64 letters, digits and + = , . @ _ -
    """
    with session.open_client() as client:
        made = client.call(
            "POST", join_path("tenants", tenant, "users"), UserView, body=UserWanted(name=name)
        )
    session.print(made, lambda view: click.echo(f"user {view.arn} created"))


@user.command("list")
@tenant_option
@common_options
@pass_session
def list_(session: Session, *, tenant: str) -> None:
    """List the users of a tenant."""
    with session.open_client() as client:
        pages = client.iter_pages(join_path("tenants", tenant, "users"), UserList)
        users = tuple(view for page in pages for view in page.users)
    session.print(UserList(users=users, next_after=None), _show_list)


@user.command()
@click.argument("name", metavar="USER")
@tenant_option
@yes_option
@common_options
@pass_session
def delete(session: Session, *, name: str, tenant: str, yes: bool) -> None:
    """Remove user USER of a tenant together with its keys."""
    confirm(f"Remove user {name!r} of tenant {tenant!r} and its keys?", is_agreed=yes)
    with session.open_client() as client:
        done = client.call("DELETE", join_path("tenants", tenant, "users", name), Done)
    session.print(done, lambda document: click.echo(f"user {document.deleted} deleted"))


def _show_list(found: UserList) -> None:
    print_table(
        ["NAME", "ARN", "CREATED"],
        [(view.name, view.arn, view.created_at) for view in found.users],
    )
