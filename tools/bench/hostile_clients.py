"""Clients that are slow, silent, rude or gone: one kind of them, for a while, against one server.

    python -m tools.bench.hostile_clients KIND HOST PORT SECONDS <targets.json

Targets are paths with presigned queries: `put` for bodies that never end, `get` of a large object,
`small` of small ones. A tenant of the server may be hostile, so bodies are not refused at once.
Connections that the server ends are opened again at a bounded rate. They come from several
addresses of 127.0.0.0/8, so that the cap of one address does not hide what the others bear. Ends by
itself or with SIGTERM, and prints what happened as JSON.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["KINDS", "main"]

PER_ADDRESS = 200  # below `s3.connections_per_address_max`
AGAIN_S = 0.5  # until a connection that ended is opened again
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST
BODY_BYTES = 64 * 1024 * 1024  # of a PUT that never sends so much


@dataclass(slots=True, kw_only=True)
class Attack:
    """What all connections of one run share.

    Attributes:
        address: Of the server.
        targets: `put`, `get` and `small`; see the module.
        happened: Counts for the report.
    """

    address: tuple[str, int]
    targets: dict[str, list[str]]
    happened: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def host(self) -> str:
        """Value of the Host header."""
        return "{}:{}".format(*self.address)

    def head(self, method: str, kind: str, *lines: str) -> bytes:
        """A head whose target is one of a kind, each in its turn."""
        targets = self.targets[kind]
        target = targets[next(self.numbers) % len(targets)]
        return "\r\n".join(
            (f"{method} {target} HTTP/1.1", f"Host: {self.host}", *lines, "", "")
        ).encode()

    @contextmanager
    def opened(self, stream: trio.SocketStream) -> Iterator[trio.SocketStream]:
        """A connection until the block or the server ends it."""
        self.happened["opened"] += 1
        try:
            yield stream
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self.happened["ended by the server"] += 1
        finally:
            stream.socket.close()

    async def dial(self, number: int, *, receive_bytes: int = 0) -> trio.SocketStream:
        """A connection from the address that the number belongs to.

        Raises:
            OSError: Refused.
        """
        dialled = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_bytes:
            dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await dialled.bind((f"127.0.1.{1 + number // PER_ADDRESS}", 0))
            await dialled.connect(self.address)
        except BaseException:
            dialled.close()
            raise
        return trio.SocketStream(dialled)


async def stay_idle(attack: Attack, number: int) -> None:
    """Connect and say nothing."""
    with attack.opened(await attack.dial(number)) as stream:
        await _wait_for_end(stream)


async def drip_a_head(attack: Attack, number: int) -> None:
    """A header line that grows by a byte twice a second."""
    with attack.opened(await attack.dial(number)) as stream:
        await stream.send_all(attack.head("GET", "small")[:-2] + b"X-Long: ")
        while True:
            await trio.sleep(0.5)
            await stream.send_all(b"a")


async def drip_a_body(attack: Attack, number: int) -> None:
    """A PUT of 200 bytes a second."""
    with attack.opened(await attack.dial(number)) as stream:
        await stream.send_all(attack.head("PUT", "put", f"Content-Length: {BODY_BYTES}"))
        while True:
            await stream.send_all(b"a" * 100)
            await trio.sleep(0.5)


async def sip_an_answer(attack: Attack, number: int) -> None:
    """A GET of which 256 bytes are read twice a second."""
    with attack.opened(await attack.dial(number, receive_bytes=4096)) as stream:
        await stream.send_all(attack.head("GET", "get"))
        while True:
            if not await stream.receive_some(256):
                return
            await trio.sleep(0.5)


async def close_one_side(attack: Attack, number: int) -> None:
    """Half of a PUT, then no more to send, and the answer is waited for."""
    with attack.opened(await attack.dial(number)) as stream:
        await stream.send_all(attack.head("PUT", "put", "Content-Length: 4096") + b"a" * 100)
        await stream.send_eof()
        await _wait_for_end(stream)


async def mix_a_pipeline(attack: Attack, number: int) -> None:
    """Eight requests in one piece, of which the fifth is none; then what comes is read."""
    with attack.opened(await attack.dial(number)) as stream:
        wires = [attack.head("GET", "small") for _ in range(8)]
        wires[4] = b"GE T / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n"
        await stream.send_all(b"".join(wires))
        await _wait_for_end(stream)


async def reset_in_a_body(attack: Attack, number: int) -> None:
    """A part of a PUT, of another length each time, then a reset."""
    with attack.opened(await attack.dial(number)) as stream:
        wire = attack.head("PUT", "put", "Content-Length: 4096") + b"a" * 4000
        await stream.send_all(wire[: 1 + attack.happened["opened"] * 37 % len(wire)])
        await trio.sleep(0.01)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of client.

    Attributes:
        act: One connection, to its end.
        connections: At once.
        again_s: Pause of each between two connections.
        does: In words.
    """

    act: Callable[[Attack, int], Awaitable[None]]
    connections: int
    again_s: float = AGAIN_S
    does: str


KINDS = {
    "idle": Kind(act=stay_idle, connections=2_000, does="2,000 connections that say nothing"),
    "head-drip": Kind(act=drip_a_head, connections=200, does="200 heads, 2 B/s each"),
    "slow-sender": Kind(act=drip_a_body, connections=64, does="64 PUTs, 200 B/s each"),
    "slow-reader": Kind(act=sip_an_answer, connections=64, does="64 GETs, 512 B/s each"),
    "half-closed": Kind(
        act=close_one_side, connections=8, again_s=0.1, does="up to 80/s PUTs cut at one side"
    ),
    "pipelined": Kind(
        act=mix_a_pipeline, connections=4, again_s=0.1, does="up to 40/s pipelines of eight"
    ),
    "resets": Kind(act=reset_in_a_body, connections=8, again_s=0.1, does="up to 80/s resets"),
}


async def attack_for(kind: Kind, attack: Attack, seconds: float) -> None:
    """All connections of a kind, until the time is over or SIGTERM."""

    async def repeat(number: int) -> None:
        await trio.sleep(number / kind.connections)  # not all at once
        while True:
            try:
                await kind.act(attack, number)
            except OSError:
                attack.happened["refused"] += 1
            await trio.sleep(kind.again_s)

    with trio.move_on_after(seconds), trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for number in range(kind.connections):
                nursery.start_soon(repeat, number)
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def _wait_for_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        pass


def main() -> int:
    """Runs one kind; see the module."""
    name, host, port, seconds = sys.argv[1:]
    attack = Attack(address=(host, int(port)), targets=json.load(sys.stdin))
    trio.run(partial(attack_for, KINDS[name], attack, float(seconds)))
    print(json.dumps(dict(attack.happened)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
