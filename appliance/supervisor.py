"""`serve` with several workers: opens the S3 addresses, runs the processes that share them.

It serves nothing itself and opens no catalog and no volume. The sockets are its own, so that what
clients have queued there outlives a worker. Each worker is the same program in a process of its
own; a worker that dies is started again in its place, and its row in the catalog is taken over with
that place (`appliance.worker_slot`). A worker notices by its standard input when the supervisor is
gone, and ends.

The first worker is started alone: it looks after what a crash left before anybody serves, and what
keeps it from starting would keep the others.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.http.limits import HttpLimits
from appliance.http.listeners import ListenAddress, open_tcp_sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from appliance.settings import Settings

__all__ = ["Supervisor", "format_sockets", "join_listeners", "main_command", "next_pause_s"]

PAUSE_S_MIN = 0.5
PAUSE_S_MAX = 30.0
STEADY_S = 60.0  # a worker that lived for so long is started again at once
LINE_BYTES_MAX = 64 * 1024  # of the ready line: some hundred addresses
EXIT_RECOVER = 70

_log = structlog.get_logger("supervisor")


def next_pause_s(last_s: float, *, lived_s: float) -> float:
    """How long to wait before a worker that has ended is started again. Pure.

    Args:
        last_s: The pause before its last start, 0 before the first.
        lived_s: How long it lived.
    """
    if lived_s >= STEADY_S:
        return PAUSE_S_MIN
    return min(max(2 * last_s, PAUSE_S_MIN), PAUSE_S_MAX)


def join_listeners(workers: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Where all workers listen, by listener, each address once. Pure."""
    joined: dict[str, list[str]] = {}
    for listeners in workers:
        for name, where in listeners.items():
            known = joined.setdefault(name, [])
            known += [each for each in where.split(",") if each not in known]
    return {name: ",".join(where) for name, where in joined.items()}


def format_sockets(sockets: Sequence[Sequence[socket.socket]]) -> str:
    """Descriptors of listening sockets by address, as `--worker-sockets` takes them."""
    return "/".join(",".join(str(each.fileno()) for each in group) for group in sockets)


class Supervisor:
    """The workers of one `serve`. `run` is called once.

    Args:
        settings: Validated, with more than one worker.
        command: What starts a worker, without its place.
        on_ready: Given the ready line once all workers serve.
    """

    def __init__(
        self, settings: Settings, *, command: Sequence[str], on_ready: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._on_ready = on_ready
        self._processes: dict[int, trio.Process] = {}
        self._listeners: dict[int, Mapping[str, str]] = {}
        self._sockets: list[list[socket.socket]] = []
        self._stop = trio.Event()
        self._has_begun = False
        self._status = 0

    async def run(self) -> int:
        """Run the workers until SIGTERM or SIGINT; the exit code, 0 where all ended well.

        Raises:
            HttpError: An address is taken.
        """
        try:
            for address in self._settings.s3.listen:
                where = ListenAddress(host=address.host, port=address.port)
                self._sockets.append(await open_tcp_sockets(where, backlog=HttpLimits().backlog))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey_signals)
                async with trio.open_nursery() as workers:
                    for slot in range(self._settings.appliance.workers):
                        await workers.start(self._keep, slot)
                        if self._stop.is_set():
                            break
                    else:
                        self._announce()
                nursery.cancel_scope.cancel()
        finally:
            for group in self._sockets:
                for each in group:
                    each.close()
        return self._status

    def _announce(self) -> None:
        self._has_begun = True
        listeners = join_listeners([self._listeners[slot] for slot in sorted(self._listeners)])
        self._on_ready("ready " + " ".join(f"{name}={at}" for name, at in listeners.items()))

    async def _obey_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._send(signal.SIGHUP)
                else:
                    _log.info("stopping", signal=signal.Signals(number).name)
                    self._end_all()

    def _end_all(self) -> None:
        self._stop.set()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            process.send_signal(number)

    async def _keep(
        self, slot: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run one worker, again and again; started once it serves for the first time, or ended."""
        pause_s = 0.0
        while not self._stop.is_set():
            began = trio.current_time()
            status = await self._run_once(slot, task_status.started)
            lived_s = trio.current_time() - began
            if self._stop.is_set() or not self._has_begun:
                self._status = self._status or abs(status)
                # What keeps one from its first start keeps the appliance from it.
                if not self._stop.is_set():
                    self._status = self._status or EXIT_RECOVER
                    self._end_all()
                break
            pause_s = next_pause_s(pause_s, lived_s=lived_s)
            _log.error("worker_ended", slot=slot, status=status, starts_again_in_s=pause_s)
            with trio.move_on_after(pause_s):
                await self._stop.wait()
        if slot not in self._listeners:
            self._listeners[slot] = {}
            task_status.started()

    async def _run_once(self, slot: int, on_serving: Callable[[], None]) -> int:
        """Start one and wait for its end; its exit status, below 0 for a signal."""
        place = (
            f"--worker-slot={slot}",
            f"--worker-sockets={format_sockets(self._sockets)}",
        )
        process = await trio.lowlevel.open_process(
            [*self._command, *place],
            stdin=subprocess.PIPE,  # held open: its end tells the worker that this process is gone
            stdout=subprocess.PIPE,
            pass_fds=[each.fileno() for group in self._sockets for each in group],
        )
        self._processes[slot] = process
        if self._stop.is_set():  # meanwhile
            process.send_signal(signal.SIGTERM)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with process.stdin, process.stdout:
                line = await _read_line(process.stdout)
                if line.startswith("ready "):
                    is_first = slot not in self._listeners
                    self._listeners[slot] = dict(
                        word.split("=", 1) for word in line.split()[1:] if "=" in word
                    )
                    _log.info("worker_serves", slot=slot, process=process.pid)
                    if is_first:
                        on_serving()
                return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            del self._processes[slot]


async def _read_line(stream: trio.abc.ReceiveStream) -> str:
    """The first line, or what there is of it where the stream ends before."""
    received = b""
    while b"\n" not in received and len(received) < LINE_BYTES_MAX:
        data = await stream.receive_some()
        if not data:
            break
        received += data
    return received.partition(b"\n")[0].decode("utf-8", "replace")


def main_command() -> list[str]:
    """What starts this program again."""
    return [sys.executable, "-m", "appliance"]
