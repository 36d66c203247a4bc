"""One seed: a history of an appliance over several lives, each crash of which is checked.

A life serves a few clients, meets what its profile has in store, and ends cleanly, by a kill or by
a power cut. At random events a crash image is taken besides, started and checked on the side. What
the end left is the next life's beginning; there every name is read again over S3.
"""

from __future__ import annotations

import logging
import random
import tempfile
from contextlib import contextmanager
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.catalog import buckets
from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.catalog.records import Versioning
from tests.simulation.seeded.census import check_image
from tests.simulation.seeded.clients import BUCKETS, LIMITS, VERSIONED, Client
from tests.simulation.seeded.database import Database, compact_image
from tests.simulation.seeded.faults import FaultKind, Profile, Tally, draw_profile
from tests.simulation.seeded.history import History
from tests.simulation.seeded.life import (
    MOVERS,
    SCRUB_RATE,
    Image,
    Life,
    SimulatedClock,
    Violation,
    format_devices,
)
from tests.simulation.seeded.scheduler import run_seeded
from tests.simulation.world import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.secrets import SecretBox

__all__ = ["Options", "SeedFailed", "Shelf", "run_seed", "shelf"]

LIVES = (1, 1, 2)
ENDINGS = (None, FaultKind.KILL, FaultKind.KILL, FaultKind.POWER_CUT, FaultKind.POWER_CUT)
CLIENTS = (1, 2, 3)
STEPS = (2, 3, 4)
ENDS_AT_MAX = 120
CRASH_IMAGE_RATE = 0.008
CRASH_IMAGES_MAX = 3
COUNTED_RATE = 0.1
CLOCK_JUMP_RATE = 0.15
_QUIET = Profile(rates={})


class Options:
    """How a seed is run beside what the seed itself decides.

    Attributes:
        crash_image_rate: How often an event is a crash point, 0 to 1.
        crash_images_max: Of one life.
        volatile_commits: Sabotage: see `Life`.
        scrub_rate: See `Life`.
        movers: See `Life`.
        profile: The one of `PROFILES` that every life has, else each draws its own.
    """

    def __init__(
        self,
        *,
        crash_image_rate: float = CRASH_IMAGE_RATE,
        crash_images_max: int = CRASH_IMAGES_MAX,
        volatile_commits: int = 0,
        scrub_rate: float = SCRUB_RATE,
        movers: Sequence[int] = MOVERS,
        profile: str | None = None,
    ) -> None:
        self.crash_image_rate = crash_image_rate
        self.crash_images_max = crash_images_max
        self.volatile_commits = volatile_commits
        self.scrub_rate = scrub_rate
        self.movers = movers
        self.profile = profile


class SeedFailed(AssertionError):
    """A seed broke a promise; the message has the seed and the end of its trace."""

    def __init__(self, seed: int, cause: BaseException, trace: list[str]) -> None:
        super().__init__(f"seed {seed}: {cause}\n" + "\n".join(f"  {line}" for line in trace[-40:]))
        self.seed = seed
        self.cause = cause


class Shelf:
    """What is made once a process: the first catalog, and databases to load images into."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="seeded-") as directory:
            template = Template(Path(directory), LIMITS)
            engine = make_writer_engine(parse_url(f"sqlite:///{template.path}"))
            with engine.begin() as connection:
                for name, tenant_id in template.tenant_ids.items():
                    for bucket in BUCKETS:
                        buckets.create_bucket(
                            connection, tenant_id=tenant_id, name=bucket, now_us=1
                        )
                    if name == next(iter(LIMITS)):
                        buckets.set_versioning(
                            connection,
                            tenant_id=tenant_id,
                            name=VERSIONED,
                            versioning=Versioning.ENABLED,
                        )
            engine.dispose()
            self.box: SecretBox = template.box
            self.image = compact_image(template.path)
        self.database = Database()
        self.side_database = Database()


@cache
def shelf() -> Shelf:
    return Shelf()


def run_seed(seed: int, options: Options | None = None) -> tuple[Tally, str]:
    """Run one seed.

    Returns:
        What happened, and a digest of the trace: equal for equal seeds.

    Raises:
        SeedFailed: A promise was broken.
    """
    voyage = _Voyage(seed, options or Options(), shelf())
    try:
        with _without_logs():
            run_seeded(seed, voyage.run)
    except Exception as error:
        cause = _find_cause(error)
        raise SeedFailed(seed, cause, voyage.history.trace) from error
    digest = blake2b("\n".join(voyage.history.trace).encode(), digest_size=16).hexdigest()
    return voyage.history.tally, digest


@contextmanager
def _without_logs() -> Iterator[None]:
    """Requests that fail are what this is about; each would be logged."""
    was = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        structlog.configure(**was)


def _find_cause(error: BaseException) -> BaseException:
    """The violation in a group of what else then failed, or the first real error."""
    found: list[BaseException] = []

    def walk(one: BaseException) -> None:
        if isinstance(one, BaseExceptionGroup):
            for inner in one.exceptions:
                walk(inner)
        else:
            found.append(one)

    walk(error)
    return next((one for one in found if isinstance(one, Violation)), found[0])


class _Voyage:
    def __init__(self, seed: int, options: Options, shelf: Shelf) -> None:
        self._random = random.Random(seed)
        self._options = options
        self._shelf = shelf
        self._clock = SimulatedClock()
        self.history = History()

    async def run(self) -> None:
        image = Image(at=0, devices=await format_devices(), catalog=self._shelf.image, damage=set())
        for number in range(self._random.choice(LIVES)):
            image = await self._live(image, is_first=number == 0)
        await self._check(image, counts_rows=True)

    async def _live(self, image: Image, *, is_first: bool) -> Image:
        random = self._random
        profile = draw_profile(random, self._options.profile)
        ending = random.choice(ENDINGS)
        life = Life(
            image,
            database=self._shelf.database,
            box=self._shelf.box,
            random=random,
            profile=profile,
            clock=self._clock,
            tally=self.history.tally,
            next_event=self.history.next_event,
            crash_image_rate=self._options.crash_image_rate,
            crash_images_max=self._options.crash_images_max,
            ends_at=None if ending is None else random.randrange(1, ENDS_AT_MAX),
            ending=ending or FaultKind.POWER_CUT,
            volatile_commits=self._options.volatile_commits,
            scrub_rate=self._options.scrub_rate,
            movers=self._options.movers,
        )
        self.history.note("life", sorted(kind.value for kind in profile.rates), ending)
        async with trio.open_nursery() as nursery:
            await life.start(nursery)
            served = trio.Event()
            nursery.start_soon(partial(self._serve, life, served, is_first=is_first))
            await _wait_for_either(served, life.ended)
            if not life.ended.is_set():
                if ending is None:
                    await life.seal()
                else:
                    life.cut_power()
            nursery.cancel_scope.cancel()
        end = life.end or await life.close()
        for taken in life.images:
            await self._check(taken, counts_rows=self._random.random() < COUNTED_RATE)
        return end

    async def _serve(self, life: Life, served: trio.Event, *, is_first: bool) -> None:
        random = self._random
        if not is_first:
            await self._look_at_everything(life)
        async with trio.open_nursery() as nursery:
            for _ in range(random.choice(CLIENTS)):
                client = Client(life, self.history, self._clock, random)
                nursery.start_soon(client.run, random.choice(STEPS))
            if random.random() < CLOCK_JUMP_RATE:
                nursery.start_soon(self._jump, life)
        served.set()

    async def _jump(self, life: Life) -> None:
        await trio.sleep(self._random.uniform(0.0, 60.0))
        life.jump_clock()

    async def _look_at_everything(self, life: Life) -> None:
        """Over S3: everything acknowledged is there, and what is there is the truth from now on."""
        client = Client(life, self.history, self._clock, self._random)
        for name in sorted(self.history.registers):
            if life.ended.is_set():
                return
            await client.look(name)

    async def _check(self, image: Image, *, counts_rows: bool) -> None:
        """Start a crash image on the side, and hold it against the history."""
        self.history.tally.crash_points += 1
        clock = SimulatedClock(self._clock.step_us)
        life = Life(
            image,
            database=self._shelf.side_database,
            box=self._shelf.box,
            random=random.Random(self._random.getrandbits(64)),
            profile=_QUIET,
            clock=clock,
            tally=Tally(),
            next_event=lambda: image.at,
        )
        async with trio.open_nursery() as nursery:
            await life.start(nursery, with_background=False)
            await check_image(life, self.history, clock, at=image.at, counts_rows=counts_rows)
            nursery.cancel_scope.cancel()
        await life.close()


async def _wait_for_either(one: trio.Event, other: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)
