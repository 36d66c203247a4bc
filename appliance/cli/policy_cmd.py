"""`thermocline policy`: policy files, and the one in force. `check` needs no server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.admin.policy_documents import (
    NOTE_CHARS_MAX,
    PolicyApplied,
    PolicyHistory,
    PolicyRevisionView,
    PolicyView,
    PolicyWanted,
    RollbackWanted,
)
from appliance.cli.client import join_path
from appliance.cli.errors import Refused
from appliance.cli.output import confirm, print_table
from appliance.cli.session import Session, common_options, json_option, pass_session
from appliance.units import parse_size
from tiers.errors import PolicyFault, PolicyInvalid
from tiers.policy_file import POLICY_BYTES_MAX, CheckedPolicy, parse_policy, read_document

if TYPE_CHECKING:
    from appliance.cli.client import AdminClient

__all__ = ["load_policy_file", "policy", "read_policy_text"]

HASH_CHARS = 12  # enough to tell revisions apart by eye

_TENANT = click.option(
    "--tenant", metavar="NAME", help="The overlay of this tenant, not the appliance's policy."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChecked:
    """A policy file without a fault."""

    ok: bool
    file: str
    rules: int
    warnings: tuple[PolicyFault, ...]


@click.group()
def policy() -> None:
    """What moves where, and when: check policy files, put them in force.

    Every file that is applied becomes a revision; the last ten can be put in force again. A
    tenant's overlay is a file that narrows the policy for that tenant's pages.
    """


@policy.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    metavar="NAME=SIZE",
    help="Size of a tier, as ssd=2TiB, once for each; then pins are checked as well.",
)
@json_option
@pass_session
def check(session: Session, *, file: Path, tiers: tuple[str, ...]) -> None:
    """Check a policy file.

    Every fault is named with line, column and key. What is merely doubtful, a rule that nothing
    reaches for example, is a warning and does not fail the check.
    """
    sizes = dict(_parse_tier(text) for text in tiers)
    checked = load_policy_file(file, tier_bytes=sizes or None)
    document = PolicyChecked(
        ok=True,
        file=str(file),
        rules=len(checked.policy.rules),
        warnings=checked.warnings,
    )
    session.print(document, _show)


@policy.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--note", default="", help=f"Why, in one line of at most {NOTE_CHARS_MAX} characters."
)
@_TENANT
@click.option("--dry-run", is_flag=True, help="Only check it, against the server's tiers.")
@common_options
@pass_session
def apply(session: Session, *, file: Path, note: str, tenant: str | None, dry_run: bool) -> None:
    """Put a policy file in force, as a new revision.

    The server checks it against its tiers, an overlay against the policy in force, and a policy
    against every overlay. A file that equals what is in force makes no revision. To be without an
    overlay, apply one that says `version = 1` and no more.
    """
    if len(note) > NOTE_CHARS_MAX or not note.isprintable():
        raise click.BadParameter(
            f"one line of at most {NOTE_CHARS_MAX} characters", param_hint="--note"
        )
    wanted = PolicyWanted(
        source=read_policy_text(file), file=str(file), tenant=tenant, note=note, dry_run=dry_run
    )
    with session.open_client() as client:
        done = client.call("PUT", join_path("policy"), PolicyApplied, body=wanted)
    session.print(done, partial(_show_applied, file=str(file)))


@policy.command()
@_TENANT
@click.option("--revision", type=click.IntRange(1), metavar="N", help="This one, active or not.")
@common_options
@pass_session
def show(session: Session, *, tenant: str | None, revision: int | None) -> None:
    """Print the policy's text, as it was given."""
    query = {"tenant": tenant, "revision": None if revision is None else str(revision)}
    with session.open_client() as client:
        found = client.call("GET", join_path("policy"), PolicyView, query=query)
    session.print(found, _show_source)


@policy.command()
@_TENANT
@common_options
@pass_session
def history(session: Session, *, tenant: str | None) -> None:
    """List the revisions that are kept, the newest first."""
    with session.open_client() as client:
        found = _load_history(client, tenant)
    session.print(found, _show_history)


@policy.command()
@click.argument("revision", type=click.IntRange(1), required=False)
@_TENANT
@click.option("--yes", is_flag=True, help="Do not ask.")
@common_options
@pass_session
def rollback(session: Session, *, revision: int | None, tenant: str | None, yes: bool) -> None:
    """Put REVISION in force again, by default the one before the active one.

    It is checked again first, as a file to apply is.
    """
    with session.open_client() as client:
        wanted = revision or _find_before(_load_history(client, tenant))
        whose = "the policy" if tenant is None else f"the overlay of {tenant}"
        confirm(f"Go back to revision {wanted} of {whose}?", is_agreed=yes)
        done = client.call(
            "POST",
            join_path("policy", "rollback"),
            PolicyRevisionView,
            body=RollbackWanted(revision=wanted, tenant=tenant),
        )
    session.print(done, _show_rolled_back)


def _load_history(client: AdminClient, tenant: str | None) -> PolicyHistory:
    path = join_path("policy", "revisions")
    return client.call("GET", path, PolicyHistory, query={"tenant": tenant})


def _find_before(found: PolicyHistory) -> int:
    active = next((item.revision for item in found.revisions if item.is_active), 0)
    before = [item.revision for item in found.revisions if item.revision < active]
    if not before:
        raise Refused("no revision before the active one is kept")
    return max(before)


def _show_applied(done: PolicyApplied, *, file: str) -> None:
    for item in done.warnings:
        fault = PolicyFault(line=item.line, column=item.column, key=item.key, rule=item.rule)
        click.echo(f"warning: {fault.format(file)}")
    if not done.is_new:
        click.echo(f"{file}: equals revision {done.revision}, which is in force")
    elif done.is_dry_run:
        click.echo(f"{file}: ok, not applied")
    else:
        click.echo(f"{file}: in force as revision {done.revision}")


def _show_source(found: PolicyView) -> None:
    click.echo(found.source, nl=False)


def _show_history(found: PolicyHistory) -> None:
    print_table(
        ["REVISION", "ACTIVE", "AT", "AUTHOR", "BLAKE3", "NOTE"],
        [
            (
                str(item.revision),
                "yes" if item.is_active else "",
                item.created_at,
                item.author,
                item.blake3[:HASH_CHARS],
                item.note,
            )
            for item in found.revisions
        ],
        right="REVISION",
    )


def _show_rolled_back(done: PolicyRevisionView) -> None:
    click.echo(f"revision {done.revision} is in force again")


def _show(document: PolicyChecked) -> None:
    for warning in document.warnings:
        click.echo(f"warning: {warning.format(document.file)}")
    click.echo(f"{document.file}: ok, {document.rules} rules")


def _parse_tier(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not name or not size:
        raise click.BadParameter(f"{text!r}: write a tier as ssd=2TiB", param_hint="--tier")
    try:
        return name, parse_size(size)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--tier") from error


def load_policy_file(file: Path, *, tier_bytes: dict[str, int] | None = None) -> CheckedPolicy:
    """The policy of a file.

    Raises:
        click.UsageError: It has faults, all of which are named, or cannot be read.
    """
    data = _read_bytes(file)
    try:
        return parse_policy(data, file=str(file), tier_bytes=tier_bytes)
    except PolicyInvalid as error:
        raise click.UsageError(str(error)) from error


def read_policy_text(file: Path) -> str:
    """A policy file's text; what could not be sent as one is refused as by `check`.

    Raises:
        click.UsageError: It cannot be read, is too long or no text.
    """
    data = _read_bytes(file)
    try:
        read_document(data, file=str(file))
    except PolicyInvalid as error:
        raise click.UsageError(str(error)) from error
    return data.decode()


def _read_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(POLICY_BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from error
