"""Over S3, with pages on both tiers: a disk that is gone or hangs costs its own objects alone.

`hot` lies on the SSD, `cold` on the HDD, `both` on the SSD with a shadow on the HDD. The whole
appliance is the product's, under virtual time; only the devices fail.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
from sqlalchemy import select

from appliance.catalog import tables
from appliance.tiering import make_mover
from hal.faulty_device import Fault, Operation, OperationKind
from hal.geometry import HEADER_BYTES
from hal.records import BodyId
from tests.simulation.asgi_client import Answer, Request, send
from tests.simulation.seeded.faults import Profile, Tally, make_error
from tests.simulation.seeded.life import TIERS, Image, Life, SimulatedClock, format_devices
from tests.simulation.seeded.scheduler import run_seeded
from tests.simulation.seeded.voyage import shelf
from tests.simulation.world import SECRET, access_key_of
from tiers.decisions import Action
from tiers.move_records import MoveEntry, MoveOrder
from tiers.records import make_page_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from hal.memory_device import MemoryDevice

SSD, HDD = TIERS
BYTES = {name: name.encode() * 5_000 for name in ("hot", "cold", "both")}
EIO = 5
COLD_S_MAX = 30.0  # DURABILITY, F6


class FailingLife(Life):
    """A life whose devices can be taken away."""

    gone: str | None = None
    hanging: str | None = None

    def _plan(self, tier: str, operation: Operation) -> Fault | None:
        if tier == self.gone:
            return Fault(error=make_error(operation, EIO, device=tier))
        if tier == self.hanging and operation.kind is OperationKind.READ:
            return Fault(delay_seconds=1e9)
        return super()._plan(tier, operation)


class Site:
    """A running appliance with the three objects."""

    def __init__(
        self, life: FailingLife, clock: SimulatedClock, devices: Mapping[str, MemoryDevice]
    ) -> None:
        self.life = life
        self._clock = clock
        self._devices = devices

    async def ask(
        self,
        method: str,
        key: str = "",
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        request = Request(
            method=method,
            bucket="data",
            key=key.encode(),
            body=body,
            headers=headers,
            access_key=access_key_of("acme", "rw"),
        )
        return await send(self.life.application, request, secret=SECRET, clock=self._clock)

    async def get(self, key: str) -> int | bytes:
        """The bytes, or the status where they are refused."""
        answer = await self.ask("GET", key)
        return answer.body if answer.status == 200 else answer.status

    async def move(self, key: str, action: Action) -> None:
        """Have the product's mover carry out one order."""
        find = select(tables.versions.c.body_id).where(tables.versions.c.key == key.encode())
        body_id = await self.life.catalog.read(
            lambda connection: connection.execute(find).scalar_one()
        )
        assert body_id is not None
        mover = make_mover(self.life.core, tier_order=TIERS, on_suspect=self.life.scrubber.suspect)
        entry = MoveEntry(action=action, rule="test", reason="asked for")
        order = MoveOrder(page_id=make_page_id(BodyId(body_id), 0), target_tier=HDD, entry=entry)
        report = await mover.run_batch([order])
        assert report.moved_pages == 1, report

    async def places_of(self, key: str) -> tuple[str, str | None]:
        """The tiers of an object's page and of its shadow."""
        p, s, v = tables.pages.c, tables.page_shadows.c, tables.versions.c
        find = (
            select(p.volume_id, s.volume_id)
            .select_from(
                tables.versions.join(tables.pages, p.body_id == v.body_id).outerjoin(
                    tables.page_shadows, s.body_id == p.body_id
                )
            )
            .where(v.key == key.encode())
        )
        first, shadow = await self.life.catalog.read(
            lambda connection: tuple(connection.execute(find).one())
        )
        return TIERS[first - 1], None if shadow is None else TIERS[shadow - 1]

    async def rot(self, key: str) -> None:
        """Turn a bit of an object's page at its first place."""
        p, v = tables.pages.c, tables.versions.c
        find = (
            select(p.volume_id, p.segment_id, p.segment_offset)
            .select_from(tables.versions.join(tables.pages, p.body_id == v.body_id))
            .where(v.key == key.encode())
        )
        volume_id, segment_id, offset = await self.life.catalog.read(
            lambda connection: tuple(connection.execute(find).one())
        )
        tier = TIERS[volume_id - 1]
        device = self._devices[tier]
        [name] = [
            name for name in await device.list_files() if name.startswith(f"{segment_id:016x}")
        ]
        self.life.damage.add((tier, name, offset))
        device.flip_bit(name, offset + HEADER_BYTES, 0)


def play(scene: Callable[[Site], Awaitable[None]]) -> None:
    """Run a scene on a fresh appliance."""

    async def run() -> None:
        clock = SimulatedClock()
        image = Image(at=0, devices=await format_devices(), catalog=shelf().image, damage=set())
        life = FailingLife(
            image,
            database=shelf().database,
            box=shelf().box,
            random=random.Random(1),
            profile=Profile(rates={}),
            clock=clock,
            tally=Tally(),
            next_event=lambda: 1,
            # No moves by lot, and the scrub as in every server.
            movers=(0,),
            scrub_rate=1.0,
        )
        async with trio.open_nursery() as nursery:
            await life.start(nursery)
            site = Site(life, clock, image.devices)
            for name, payload in BYTES.items():
                assert (await site.ask("PUT", name, payload)).status == 200
            await site.move("cold", Action.DEMOTE)
            await site.move("both", Action.PREMIGRATE)
            await scene(site)
            nursery.cancel_scope.cancel()
        await life.close()

    run_seeded(1, run)


def test_the_objects_lie_where_the_scenes_want_them() -> None:
    async def scene(site: Site) -> None:
        assert [await site.places_of(key) for key in BYTES] == [
            (SSD, None),
            (HDD, None),
            (SSD, HDD),
        ]
        assert [await site.get(key) for key in BYTES] == list(BYTES.values())

    play(scene)


def test_an_hdd_that_is_gone_costs_its_own_objects_alone() -> None:
    async def scene(site: Site) -> None:
        site.life.gone = HDD

        assert await site.get("hot") == BYTES["hot"]
        assert await site.get("both") == BYTES["both"]
        refused = await site.ask("GET", "cold")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert (await site.ask("HEAD", "cold")).status == 200
        listed = await site.ask("GET")
        assert [node.text for node in listed.xml().iter("Key")] == ["both", "cold", "hot"]
        assert (await site.ask("PUT", "new", b"n" * 9_000)).status == 200
        assert await site.get("new") == b"n" * 9_000
        assert (await site.ask("DELETE", "cold")).status == 204

    play(scene)


def test_an_ssd_that_is_gone_leaves_what_has_a_shadow() -> None:
    async def scene(site: Site) -> None:
        site.life.gone = SSD

        assert await site.get("both") == BYTES["both"]
        assert await site.get("cold") == BYTES["cold"]
        assert await site.get("hot") == 503
        assert site.life.store.statistics().pages_lost == 0

    play(scene)


@pytest.mark.parametrize("tier", TIERS)
def test_a_disk_that_hangs_costs_its_own_objects_alone(tier: str) -> None:
    own, other = ("hot", "cold") if tier == SSD else ("cold", "hot")

    async def scene(site: Site) -> None:
        site.life.hanging = tier
        began = trio.current_time()
        assert await site.get(other) == BYTES[other]
        assert trio.current_time() == began
        assert await site.get(own) == 503
        assert trio.current_time() - began < COLD_S_MAX
        # What is known of the disk by now spares the next one the wait.
        began = trio.current_time()
        assert await site.get("both") == BYTES["both"]
        assert trio.current_time() == began

    play(scene)


def test_a_rotten_first_place_is_read_around_and_healed() -> None:
    async def scene(site: Site) -> None:
        await site.rot("both")

        assert await site.get("both") == BYTES["both"]
        await trio.sleep(3)
        assert await site.places_of("both") == (HDD, None)
        assert await site.get("both") == BYTES["both"]
        assert site.life.store.statistics().pages_spared == 1
        copied = await site.ask("PUT", "copy", headers=(("x-amz-copy-source", "/data/both"),))
        assert copied.status == 200
        assert await site.get("copy") == BYTES["both"]

    play(scene)


def test_a_range_of_a_rotten_first_place_is_the_shadows() -> None:
    async def scene(site: Site) -> None:
        await site.rot("both")

        answer = await site.ask("GET", "both", headers=(("range", "bytes=10-29"),))

        assert (answer.status, answer.body) == (206, BYTES["both"][10:30])

    play(scene)
