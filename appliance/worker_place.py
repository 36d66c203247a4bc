"""Where a worker process stands among those that one `serve` runs on this machine."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["WORKERS_MAX", "WorkerPlace", "take_sockets"]

WORKERS_MAX = 64  # of one machine; each has its own buffers, caches and connections


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """One place; the only one where `appliance.workers` is 1.

    Attributes:
        slot: 0 to `workers` less one.
        workers: How many processes share the S3 addresses and each tenant's rates.
        sockets: Listening sockets by S3 address, in the settings' order, from the supervisor; empty
            where this process is to open them itself.
        has_supervisor: Whether a process above holds standard input open, and must be there.
    """

    slot: int = 0
    workers: int = 1
    sockets: tuple[tuple[socket.socket, ...], ...] = ()
    has_supervisor: bool = False

    def __post_init__(self) -> None:
        assert 0 <= self.slot < self.workers <= WORKERS_MAX

    def own_directory(self, directory: Path) -> Path:
        """Where this worker writes files that are not for several: below, where it is not alone."""
        return directory if self.workers == 1 else directory / f"worker-{self.slot}"

    def share(self, rate: float | None) -> float | None:
        """This worker's part of what all of them may do; None of what has no limit."""
        return None if rate is None else rate / self.workers


def take_sockets(text: str) -> tuple[tuple[socket.socket, ...], ...]:
    """The sockets whose descriptors `supervisor.format_sockets` wrote, by address."""
    if not text:
        return ()
    return tuple(
        tuple(socket.socket(fileno=int(number)) for number in group.split(","))
        for group in text.split("/")
    )
