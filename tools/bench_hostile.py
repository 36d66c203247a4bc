"""What honest clients feel of hostile ones: the 99th percentile beside each kind, and without.

    python -m tools.bench_hostile                      every kind, three rounds
    python -m tools.bench_hostile --only resets,idle --rounds 5

A server is started on a store of its own, as by `tools.bench`. In each round wrk sends small hot
GETs and durable small PUTs over 16 connections, once alone and once beside each kind of hostile
client (`tools.bench.hostile_clients`). A ratio is taken within its round; printed is the median of
the rounds, beside the goal of issue 5: at most doubled. The hostile program has its share of the
CPU as well, and its connections have to be answered: that is in the ratio.

Afterwards the server's descriptors and buffers must be back where they were, once its time limits
have passed. Exit code 1 where they are not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from tests.client.wire import address_of
from tools.bench.generators import RunVoid, run_wrk
from tools.bench.hostile_clients import KINDS
from tools.bench.plan import credentials_of
from tools.bench.records import KIB, MIB
from tools.bench.requests import Presigner, write_list
from tools.bench.servers import OurServer, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
GOAL = 2.0
CONNECTIONS = 16
OBJECTS = 500
PUTS_A_ROUND = 60_000  # more than a sample sends
LARGE_BYTES = 16 * MIB
SETTLE_S = 1.5  # until all hostile connections stand
BASELINE_S_MAX = 60.0  # above every time limit of a request that is not finished
_ALONE = "alone"
_BUFFERS = "thermocline_buffers_outstanding_bytes"


class HostileBench:
    """One server, its honest load and its enemies.

    Args:
        directory: Empty, on a file system with direct I/O.
        seconds: Of one sample.
    """

    def __init__(self, directory: Path, *, seconds: float) -> None:
        self._directory = directory
        self._seconds = seconds
        self.server = OurServer(directory / "server", settings={})
        self._puts = 0
        self._lists: dict[str, Path] = {}
        self.happened: dict[str, Counter[str]] = defaultdict(Counter)

    def prepare(self) -> None:
        """Starts the server and stores what is read."""
        self.server.renew()
        access = self.server.access
        for number in range(OBJECTS):
            self._must(ask(access, "PUT", f"/bench/s/{number}", body=b"s" * 4 * KIB).status)
        self._must(ask(access, "PUT", "/bench/large", body=b"l" * LARGE_BYTES).status)
        self._presigner = Presigner(credentials_of(access), access.host)
        self._body = self._directory / "body"
        self._body.write_bytes(b"p" * 4 * KIB)
        reads = self._directory / "get.list"
        write_list(
            reads, [self._presigner.presign("GET", f"/bench/s/{each}") for each in range(OBJECTS)]
        )
        self._lists["GET"] = reads
        self.targets = {
            "put": self._sign("PUT", [f"/bench/h/{number}" for number in range(100)]),
            "get": self._sign("GET", ["/bench/large"]),
            "small": self._sign("GET", [f"/bench/s/{number}" for number in range(100)]),
        }

    def sample(self) -> dict[str, float]:
        """The 99th percentile of each method, in seconds."""
        found = {}
        for method in ("GET", "PUT"):
            sample = run_wrk(
                self.server.access,
                self._lists["GET"] if method == "GET" else self._next_puts(),
                connections=CONNECTIONS,
                seconds=self._seconds,
                payload_bytes=4 * KIB,
                is_once=False,
            )
            assert sample.p99_s is not None
            found[method] = sample.p99_s
        return found

    @contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """A kind of hostile clients at work.

        Raises:
            RunVoid: They ended before the block did.
        """
        host, port = address_of(self.server.access.endpoint)
        # Longer than the samples take, and ended by us; by itself where we are gone.
        seconds = SETTLE_S + 4 * self._seconds + 30
        command = [sys.executable, "-m", "tools.bench.hostile_clients", name, host]
        process = subprocess.Popen(  # noqa: S603  # our own program
            [*command, str(port), str(seconds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(self.targets).encode())
            process.stdin.close()
            time.sleep(SETTLE_S)
            yield
            process.terminate()
            assert process.stdout is not None
            self.happened[name].update(json.loads(process.stdout.read() or b"{}"))
            if process.wait() != 0 or not self.happened[name]["opened"]:
                raise RunVoid(f"the clients of {name} did nothing, or failed")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def standing(self) -> tuple[int, float]:
        """Open descriptors, and bytes of buffers that requests hold."""
        url = f"{self.server.process.metrics_endpoint}/metrics"
        with urlopen(url, timeout=30) as answer:  # noqa: S310  # its own ready line named it
            lines = answer.read().decode().splitlines()
        held = [float(line.split()[-1]) for line in lines if line.startswith(_BUFFERS)]
        if not held:
            raise RunVoid(f"the server does not say {_BUFFERS}")
        return self.server.process.descriptor_count(), sum(held)

    def wait_for(self, baseline: tuple[int, float]) -> tuple[int, float]:
        """What stands once it is no more than before, or the time for that is over."""
        until = time.monotonic() + BASELINE_S_MAX
        while _is_more(now := self.standing(), baseline) and time.monotonic() < until:
            time.sleep(0.5)
        return now

    def _next_puts(self) -> Path:
        path = self._directory / "put.list"
        names = (f"/bench/p/{self._puts + number}" for number in range(PUTS_A_ROUND))
        self._puts += PUTS_A_ROUND
        write_list(path, [self._presigner.presign("PUT", each, body=self._body) for each in names])
        return path

    def _sign(self, method: str, paths: list[str]) -> list[str]:
        return [self._presigner.presign(method, path).target for path in paths]

    def _must(self, status: int) -> None:
        if status != 200:
            raise RunVoid(f"a PUT was answered with {status}")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one sample")
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = sorted(set(names) - KINDS.keys())
    if unknown:
        parser.error(f"no kind is called {unknown[0]!r}; there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=options.directory) as directory:
        bench = HostileBench(Path(directory), seconds=options.seconds)
        try:
            bench.prepare()
            return _measure(bench, names, rounds=options.rounds)
        except RunVoid as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            bench.server.discard()


def _measure(bench: HostileBench, names: list[str], *, rounds: int) -> int:
    bench.sample()  # fills caches
    baseline = bench.standing()
    memory = bench.server.process.memory_bytes()
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        alone = bench.sample()
        for method, p99_s in alone.items():
            found[_ALONE, method].append(p99_s)
        for name in names:
            with bench.beside(name):
                beside = bench.sample()
            for method, p99_s in beside.items():
                found[name, method].append(p99_s)
                ratios[name, method].append(p99_s / alone[method])
        print(f"round {number + 1} of {rounds} measured", flush=True)
    _print_table(found, ratios, names, bench.happened)
    standing = bench.wait_for(baseline)
    print(
        f"descriptors {baseline[0]} before, {standing[0]} after; "
        f"buffers held {baseline[1]:.0f} B before, {standing[1]:.0f} B after; "
        f"memory {memory / MIB:.0f} MiB before, "
        f"{bench.server.process.memory_bytes() / MIB:.0f} MiB after"
    )
    if _is_more(standing, baseline):
        print("error: something was not given back", file=sys.stderr)
        return 1
    return 0


def _is_more(now: tuple[int, float], before: tuple[int, float]) -> bool:
    return any(one > other for one, other in zip(now, before, strict=True))


def _print_table(
    found: dict[tuple[str, str], list[float]],
    ratios: dict[tuple[str, str], list[float]],
    names: list[str],
    happened: Mapping[str, Counter[str]],
) -> None:
    print(f"\np99 of {CONNECTIONS} connections, goal beside others: at most {GOAL:.1f} x\n")
    columns = ("GET ms", "x alone", "PUT ms", "x alone")
    titles = "".join(f"{title:>9}" for title in columns)
    print(f"{'beside':<13}{titles}  of what; connections opened, ended by the server")
    for name in (_ALONE, *names):
        cells = ""
        for method in ("GET", "PUT"):
            cells += f"{statistics.median(found[name, method]) * 1e3:>9.2f}"
            own = ratios.get((name, method))
            cells += f"{statistics.median(own):>9.2f}" if own else f"{'':>9}"
        counts = happened[name]
        ended = f"; {counts['opened']:,}, {counts['ended by the server']:,}"
        print(f"{name:<13}{cells}  {KINDS[name].does + ended if name in KINDS else ''}")
    print()


if __name__ == "__main__":
    sys.exit(main())
