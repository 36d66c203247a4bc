"""What every rule of the state machine uses: one appliance, one model, and how they are compared.

A rule draws a request, plays it in both, and compares the answers. What a rule needs of the state
(a version, an upload) it draws as a number and looks up, so that a failing run stays playable while
Hypothesis takes steps out of it.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from appliance.s3.codes import S3Code
from appliance.s3.dates import http_date
from tenants.records import QuotaLimits
from tests.simulation.asgi_client import Answer, Request, send
from tests.simulation.catalogs import CatalogHome, FileHome, MemoryHome
from tests.simulation.model import Ask, Bucket, Limits, Model, Refused, Version, Words
from tests.simulation.seeded.database import Database, compact_image
from tests.simulation.seeded.scheduler import threads_in_place
from tests.simulation.stepped_loop import SteppedLoop
from tests.simulation.world import PART_BYTES_MIN, Template, World, access_key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

__all__ = [
    "ASKS",
    "BUCKETS",
    "KEYS",
    "LIMITS",
    "SIZES",
    "WORDS",
    "Machine",
    "Tally",
    "body_of",
    "condition_headers",
    "iso_time",
    "word_headers",
]

T = TypeVar("T")

LIMITS: dict[str, Limits] = {
    "acme": (None, None, None),
    "beta": (200_000, 7, None),
    "gamma": (None, None, 1),
}


def _ask(caller: tuple[str, str], bucket: str, key: bytes) -> Ask:
    return Ask(caller[0], caller[1], bucket, key)


# Most steps meet each other in few places; the rest see to the edges.
CALLERS = [
    *[("acme", "rw")] * 12,
    *[("beta", "rw")] * 5,
    *[("gamma", "rw")] * 2,
    ("acme", "ro"),
    ("acme", "wo"),
]
BUCKETS = st.sampled_from([*["data"] * 6, "logs"])
MISSING_KEY = b"a/c"
KEYS = st.sampled_from(
    [*[b"a"] * 4, *[b"a/b"] * 2, MISSING_KEY, b"b", b"d/e f+g", "d/\u00fc&<".encode()]
)
PAGE = 4 * 1024 * 1024
SIZES = st.sampled_from(
    [0, 1, 700, PART_BYTES_MIN, PART_BYTES_MIN + 1, 65_535, 65_536, 65_537] * 16
    + [PAGE - 1, PAGE, PAGE + 1]
)
WORDS = st.sampled_from(
    [
        Words(),
        Words((("content-type", "text/plain"), ("x-amz-meta-colour", "red")), (("k", "v"),)),
        Words((("content-type", "a/b"), ("cache-control", "no-cache")), (("a", ""), ("b", "x y"))),
    ]
)
ASKS = st.builds(_ask, st.sampled_from(CALLERS), BUCKETS, KEYS)
STATUSES = {code.code: code.status for code in S3Code} | {"NotModified": 304}
STEP_S = 1.0  # so that no two steps share a second: times are shown in seconds
_NOISE = random.Random(0).randbytes(2 * PAGE)


def body_of(size: int, seed: int) -> bytes:
    """A body; few seeds, so that equal ones happen."""
    return _NOISE[seed * 1009 : seed * 1009 + size]


def word_headers(words: Words) -> tuple[tuple[str, str], ...]:
    """How an upload says its words."""
    tags = "&".join(f"{name}={text.replace(' ', '+')}" for name, text in words.tags)
    return (*words.headers, *((("x-amz-tagging", tags),) if tags else ()))


def condition_headers(ask: Ask, prefix: str = "") -> tuple[tuple[str, str], ...]:
    """How a request says its conditions."""
    dates = {
        "if-modified-since": ask.modified_since,
        "if-unmodified-since": ask.unmodified_since,
    }
    found = {"if-match": ask.if_match, "if-none-match": ask.if_none_match}
    found |= {n: None if at is None else http_date(at * 1_000_000) for n, at in dates.items()}
    return tuple((prefix + name, text) for name, text in found.items() if text is not None)


def iso_time(seconds: int) -> str:
    """A time as documents show it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class _Shelf:
    """What is made once a process: the first catalog, and a database to load it into."""

    def __init__(self) -> None:
        limits = {
            name: QuotaLimits(bytes_max=size, objects_max=objects, buckets_max=buckets)
            for name, (size, objects, buckets) in LIMITS.items()
        }
        with tempfile.TemporaryDirectory(prefix="model-") as directory:
            self.template = Template(Path(directory), limits)
            self.file = self.template.path.read_bytes()
            self.image = compact_image(self.template.path)
        self.database = Database()


@cache
def _shelf() -> _Shelf:
    return _Shelf()


@dataclass(slots=True)
class Tally:
    """What histories came to; `moves` are pages that changed their places."""

    runs: int = 0
    steps: int = 0
    requests: int = 0
    moves: int = 0

    def add(self, other: Tally) -> None:
        """Count what another has counted."""
        self.runs += other.runs
        self.steps += other.steps
        self.requests += other.requests
        self.moves += other.moves


class Machine(RuleBasedStateMachine):
    """One run: a fresh appliance and a fresh model.

    Attributes:
        tally: Counts over all runs since `open`.
    """

    loop: SteppedLoop
    template: Template
    tally: Tally
    _make_home: Callable[[Path], CatalogHome]

    def __init__(self) -> None:
        super().__init__()
        self._resources = ExitStack()
        directory = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        self.world = World(self.loop, self.template, self._make_home(directory))
        self.loop.call(self.world.create)
        self.model = Model(LIMITS, part_bytes_min=PART_BYTES_MIN)
        self.seen_ids: set[str] = set()

    @classmethod
    def open(cls, resources: ExitStack, *, is_on_files: bool = True) -> None:
        """Make what all runs share. A history depends on nothing but its draws: no threads.

        Args:
            resources: What ends with it.
            is_on_files: Whether the catalog lies in files, as in a server.
        """
        shelf = _shelf()
        cls.tally = Tally()
        cls.template = shelf.template
        if is_on_files:
            cls._make_home = staticmethod(partial(FileHome, shelf.file))
        else:
            cls._make_home = staticmethod(
                lambda _directory: MemoryHome(shelf.image, shelf.database)
            )
        resources.enter_context(threads_in_place(has_turns=False))
        cls.loop = resources.enter_context(SteppedLoop())

    def destroy(self) -> None:
        """Give everything back."""
        self.loop.call(self.world.destroy)
        self._resources.close()

    @property
    def now(self) -> int:
        """Seconds, as the appliance's clock has them."""
        return int(self.world.clock.now())

    def step(self, ask: Ask, *, aims: bool = True) -> Ask:
        """Begin a step: time runs on. Who aims mostly asks for a bucket that is there."""
        self.world.clock.advance(STEP_S)  # nothing runs in the loop between two steps
        if aims and self.bucket(ask) is None and ask.key != MISSING_KEY:
            ask = ask._replace(bucket="data")
        return ask._replace(now=self.now)

    def send(self, ask: Ask, request: Request) -> Answer:
        """The appliance's answer."""
        return self.loop.call(self.exchange, ask, request)

    async def exchange(
        self,
        ask: Ask,
        request: Request,
        gate: trio.Event | None = None,
        *,
        secret: str | None = None,
    ) -> Answer:
        """As `send`, inside of the loop; the client takes the body once the gate is open.

        Without a `secret` it signs with that of its key.
        """
        self.tally.requests += 1
        access_key = access_key_of(ask.tenant, ask.role)
        return await send(
            self.world.application,
            replace(request, access_key=access_key),
            secret=self.world.secret_of(access_key) if secret is None else secret,
            clock=self.world.clock,
            gate=gate,
        )

    def play(
        self, ask: Ask, request: Request, operation: Callable[[], T]
    ) -> tuple[Answer, T | None]:
        """Play a request in both; they must agree on whether it is refused, and how.

        Returns:
            The appliance's answer, and what the model says, None where both refused.
        """
        answer = self.send(ask, request)
        try:
            expected = operation()
        except Refused as refused:
            code = str(refused)
            assert answer.status == STATUSES[code], (answer.status, answer.body[:300], code)
            if answer.body:
                assert answer.text("Code") == code
            return answer, None
        assert answer.status < 300, (answer.status, answer.body[:600])
        return answer, expected

    def bucket(self, ask: Ask) -> Bucket | None:
        """The model's bucket, whoever asks."""
        return self.model.tenants[ask.tenant].get(ask.bucket)

    def name_version(self, ask: Ask, made: Version, answer: Answer) -> None:
        """Hold a write's answer against the version it made, and take the id given to it."""
        bucket = self.bucket(ask)
        assert bucket is not None
        shown = answer.headers.get("x-amz-version-id")
        if bucket.versioning == "Off":
            assert shown is None
        elif made.version_id == "null":
            assert shown == "null"
        else:
            assert shown is not None
            assert shown not in self.seen_ids
            self.seen_ids.add(shown)
            made.version_id = shown

    def pick_version(self, ask: Ask, number: int | None) -> Ask:
        """The request for the n-th version of the key, or for its current one.

        Where the key has none, another key that has some takes its place; one key is left missing.
        """
        bucket = self.bucket(ask)
        objects = bucket.objects if bucket else {}
        if objects and ask.key not in objects and ask.key != MISSING_KEY:
            ask = ask._replace(key=min(objects))
        if number is None:
            return ask
        kept = objects.get(ask.key, [])
        chosen = kept[number % len(kept)].version_id if kept else "null"
        return ask._replace(version_id=chosen)

    def check_shown(self, ask: Ask, version: Version, answer: Answer) -> None:
        """GET and HEAD show what the version's upload said, and nothing else."""
        headers = answer.headers
        bucket = self.bucket(ask)
        assert bucket is not None
        assert headers["etag"] == f'"{version.etag}"'
        assert headers["last-modified"] == http_date(version.modified * 1_000_000)
        version_id = None if bucket.versioning == "Off" else version.version_id
        assert headers.get("x-amz-version-id") == version_id
        if answer.status == 304:
            return
        said = {n: v for n, v in headers.items() if n.startswith("x-amz-meta-")}
        said |= {n: headers[n] for n in ("content-type", "cache-control") if n in headers}
        assert said == dict(version.words.headers)
        count = len(version.words.tags)
        assert headers.get("x-amz-tagging-count") == (str(count) if count else None)
