"""`thermocline policy`: policy files. What is here works on files and needs no server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from appliance.cli.session import Session, json_option, pass_session
from appliance.units import parse_size
from tiers.errors import PolicyFault, PolicyInvalid
from tiers.policy_file import POLICY_BYTES_MAX, CheckedPolicy, parse_policy

__all__ = ["load_policy_file", "policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChecked:
    """A policy file without a fault."""

    ok: bool
    file: str
    rules: int
    warnings: tuple[PolicyFault, ...]


@click.group()
def policy() -> None:
    """Check policy files: what moves where, and when."""


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
    try:
        with file.open("rb") as source:
            data = source.read(POLICY_BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from error
    try:
        return parse_policy(data, file=str(file), tier_bytes=tier_bytes)
    except PolicyInvalid as error:
        raise click.UsageError(str(error)) from error
