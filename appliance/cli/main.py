"""The root of the command line: nouns, common options, exit codes.

A noun's module is imported when the noun is called, so that `tenant list` does not wait for the
storage engine to load. The one-line summaries are here for the same reason.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click

from appliance.cli.output import EXIT_CODES_HELP
from appliance.cli.session import Session, common_options, pass_session

__all__ = ["COMMANDS", "CommandEntry", "root"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEntry:
    """Where a noun (or a verb that needs none) is defined, and what it is for."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, CommandEntry] = {
    "audit": CommandEntry(
        module="appliance.cli.status_cmd",
        attribute="audit",
        summary="Show who changed what.",
    ),
    "bucket": CommandEntry(
        module="appliance.cli.bucket_cmd",
        attribute="bucket",
        summary="Create and show buckets.",
    ),
    "catalog": CommandEntry(
        module="appliance.cli.catalog_cmd",
        attribute="catalog",
        summary="Check, back up, copy, restore and upgrade the catalog.",
    ),
    "config": CommandEntry(
        module="appliance.cli.config_cmd",
        attribute="config",
        summary="Check a settings file.",
    ),
    "fsck": CommandEntry(
        module="appliance.cli.fsck_cmd",
        attribute="fsck",
        summary="Compare catalog and volumes both ways, and repair; no server may run.",
    ),
    "init": CommandEntry(
        module="appliance.cli.init_cmd",
        attribute="init",
        summary="Make a new appliance: settings, keys, catalog, volumes.",
    ),
    "key": CommandEntry(
        module="appliance.cli.key_cmd",
        attribute="key",
        summary="Create, rotate and revoke access keys.",
    ),
    "policy": CommandEntry(
        module="appliance.cli.policy_cmd",
        attribute="policy",
        summary="Check policy files, and put them in force.",
    ),
    "quota": CommandEntry(
        module="appliance.cli.quota_cmd",
        attribute="quota",
        summary="Limit what tenants and buckets may hold.",
    ),
    "report": CommandEntry(
        module="appliance.cli.report_cmd",
        attribute="report",
        summary="Report capacity, and what tenants used.",
    ),
    "scrub": CommandEntry(
        module="appliance.cli.scrub_cmd",
        attribute="scrub",
        summary="Verify everything stored, see what is damaged.",
    ),
    "serve": CommandEntry(
        module="appliance.cli.serve_cmd",
        attribute="serve",
        summary="Run the server.",
    ),
    "status": CommandEntry(
        module="appliance.cli.status_cmd",
        attribute="status",
        summary="Show the running server.",
    ),
    "tenant": CommandEntry(
        module="appliance.cli.tenant_cmd",
        attribute="tenant",
        summary="Create, suspend and remove tenants.",
    ),
    "tier": CommandEntry(
        module="appliance.cli.tier_cmd",
        attribute="tier",
        summary="See, try out and steer what moves between the tiers.",
    ),
    "usage": CommandEntry(
        module="appliance.cli.usage_cmd",
        attribute="usage",
        summary="Show what tenants and buckets hold.",
    ),
    "user": CommandEntry(
        module="appliance.cli.user_cmd",
        attribute="user",
        summary="Create and remove users of a tenant.",
    ),
    "version": CommandEntry(
        module="appliance.cli.config_cmd",
        attribute="version",
        summary="Show the version of this program.",
    ),
    "volume": CommandEntry(
        module="appliance.cli.volume_cmd",
        attribute="volume",
        summary="Show the volumes and their devices, and empty one for its removal.",
    ),
}


class NounGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of all nouns."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The noun of that name, or None."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the nouns and their summaries, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])


@click.group(
    cls=NounGroup,
    epilog=EXIT_CODES_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@common_options
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
@pass_session
def root(session: Session, *, debug: bool) -> None:
    """Thermocline, a storage appliance that speaks S3.

    The server is found by --socket, else by THERMOCLINE_SOCKET, else by the settings file, which is
    --config, THERMOCLINE_CONFIG, ./thermocline.toml, ./var/thermocline.toml or
    /etc/thermocline/thermocline.toml, in this order.
    """
    session.is_debug = debug
