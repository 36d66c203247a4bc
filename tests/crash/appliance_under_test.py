"""A small appliance for crash proofs: small segments, little room kept free, quick reclaim."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from tests.client.server import ServerProcess, environment_of, run_command
from tests.crash.wire import Wire
from tests.crash.workload import Client, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.client.raw import Credentials
    from tests.crash.ledger import Ledger
    from tests.crash.workload import Mix

__all__ = ["CLIENTS", "SETTINGS", "WORKERS_VARIABLE", "World", "make_server", "make_world"]

CLIENTS = 8
RESTLESS_BYTES = 24 << 20
RESTLESS = """
version = 1

[budget]
hdd_bytes_per_sec = "unlimited"
ssd_write_bytes_per_sec = "unlimited"

[[rule]]
id = "demote"
from_pool = "ssd"
to_pool = "hdd"
threshold = {{ high = {high:.9f}, low = {low:.9f}, premigrate = {premigrate:.9f} }}
min_age = "0s"
cooling = "0s"

[[rule]]
id = "promote"
from_pool = "hdd"
to_pool = "ssd"
hysteresis = 0.0
min_residency = "0s"

[[rule]]
id = "rest"
managed = true
"""
SETTINGS = {
    "THERMOCLINE_RECLAIM_GRACE_S": "1",
    "THERMOCLINE_RECLAIM_INTERVAL_S": "0.2",
    "THERMOCLINE_MEMORY_BUFFER_BYTES": "128MiB",
}


WORKERS_VARIABLE = "THERMOCLINE_PROOF_WORKERS"
"""Environment: how many workers each server of a proof has that does not say so itself."""


class World:
    """A server, its tenant's key and bucket, and the clients that outlive its crashes."""

    def __init__(
        self, server: ServerProcess, credentials: Credentials, bucket: str, clients: list[Client]
    ) -> None:
        self.server = server
        self.credentials = credentials
        self.bucket = bucket
        self.clients = clients

    @property
    def target(self) -> Target:
        """Where the server listens now; another place after each start."""
        return Target(
            endpoint=self.server.endpoint, credentials=self.credentials, bucket=self.bucket
        )

    def connect(self, *, timeout_s: float = 20.0) -> Wire:
        """A connection to the running server."""
        return self.target.connect(timeout_s=timeout_s)


def make_server(
    directory: Path,
    *,
    volumes: Mapping[str, Path],
    log_path: Path | None = None,
    segment_bytes: str = "32MiB",
    keep_free: str = "16MiB",
    settings: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    init_options: Sequence[str] = (),
) -> ServerProcess:
    """Initialises an appliance under `directory`; it is not started.

    Args:
        directory: Gets the data directory.
        volumes: Directory of each tier's volume; they are made.
        log_path: Where the server's log goes; under `directory` if None.
        segment_bytes: Small, so that segments fill, seal and go within a cycle.
        keep_free: What each volume leaves alone.
        settings: Environment beside `SETTINGS`.
        wrapper: A command in front of the server's.
        init_options: Further options of `thermocline init`.
    """
    arguments = ["init", "--data", str(directory / "data"), "--segment-bytes", segment_bytes]
    arguments += init_options
    for tier, path in volumes.items():
        path.mkdir(parents=True, exist_ok=True)
        arguments += ["--volume", f"{tier}={path}"]
    run_command(arguments, environment_of(directory, {}))
    config = directory / "data" / "thermocline.toml"
    text = config.read_text()
    assert text.count('#keep_free = "auto"') == len(volumes)
    config.write_text(text.replace('#keep_free = "auto"', f'keep_free = "{keep_free}"'))
    server = ServerProcess(directory, settings={**SETTINGS, **(settings or {})}, wrapper=wrapper)
    server.environment.setdefault(
        "THERMOCLINE_APPLIANCE_WORKERS", os.environ.get(WORKERS_VARIABLE, "1")
    )
    if log_path is not None:
        server.log_path = log_path
    return server


def make_world(
    server: ServerProcess,
    ledger: Ledger,
    *,
    seed: int,
    clients: int = CLIENTS,
    mix: Mix | None = None,
    is_restless: bool = False,
) -> World:
    """A tenant with a bucket on the running server, and its clients.

    Args:
        server: Running.
        ledger: Of what is acknowledged.
        seed: Decides what the clients do.
        clients: How many.
        mix: What they do.
        is_restless: A policy is put in force under which pages move up and down all the time.
    """
    if is_restless:
        _make_restless(server)
    tenant = server.create_tenant(f"t{uuid.uuid4().hex[:8]}")
    bucket = "proof"
    with Wire(server.endpoint, tenant.credentials, bucket) as wire:
        reply = wire.ask("PUT")
        assert reply.is_success, reply
    return World(
        server,
        tenant.credentials,
        bucket,
        [
            Client(ledger, name=f"c{index}", seed=f"{seed}/{index}", mix=mix)
            for index in range(clients)
        ],
    )


def _make_restless(server: ServerProcess) -> None:
    """Pages rise at their first read, and the SSD is drained from some 24 MiB on."""
    room = os.statvfs(server.directory)
    share = RESTLESS_BYTES / (room.f_bavail * room.f_frsize)
    text = RESTLESS.format(high=share, low=share / 2, premigrate=share / 4)
    file = server.directory / "policy.toml"
    file.write_text(text)
    server.command("policy", "apply", str(file))
