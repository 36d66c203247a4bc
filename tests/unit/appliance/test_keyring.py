from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from appliance.catalog.errors import CatalogBusy
from appliance.clock import FakeClock
from appliance.keyring import ENTRIES_MAX, TRUST_S, UNKNOWN_MAX, KeyRing
from appliance.log import start_log
from appliance.s3.sigv4 import derive_signing_key
from appliance.secrets import SecretBox
from appliance.settings import LogSettings
from tests.unit.tenants.records import make_principal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenants.records import AccessKey, Tenant, User

KEY_ID = "TCAAAAAAAAAAAAAAAAAA"
SECRET = "canary-secret-of-acme"


class FakeCatalog:
    """Keys in a dict; counts what it is asked and fails when told."""

    def __init__(self) -> None:
        self.box = SecretBox.create(bytes(range(32)))
        self.rows: dict[str, tuple[AccessKey, bytes, Tenant, User]] = {}
        self.revision = 1
        self.loads = 0
        self.is_down = False
        self.gate: trio.Event | None = None

    def store(self, *, access_key_id: str = KEY_ID, secret: str = SECRET) -> None:
        principal = make_principal(access_key_id=access_key_id)
        sealed = self.box.seal(principal.tenant.tenant_id, access_key_id, secret)
        self.rows[access_key_id] = (principal.key, sealed, principal.tenant, principal.user)
        self.revision += 1

    def disable(self, access_key_id: str) -> None:
        key, sealed, tenant, user = self.rows[access_key_id]
        self.rows[access_key_id] = (dataclasses.replace(key, enabled=False), sealed, tenant, user)
        self.revision += 1

    async def load_key(self, access_key_id: str) -> tuple[AccessKey, bytes, Tenant, User] | None:
        self.loads += 1
        row = self.rows.get(access_key_id)
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise CatalogBusy("down")
        return row

    async def load_revision(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise CatalogBusy("down")
        return self.revision


@pytest.fixture
def catalog() -> FakeCatalog:
    catalog = FakeCatalog()
    catalog.store()
    return catalog


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ring(catalog: FakeCatalog, clock: FakeClock) -> KeyRing:
    return KeyRing(
        load_key=catalog.load_key,
        load_revision=catalog.load_revision,
        box=catalog.box,
        clock=clock,
    )


@pytest.fixture
def log_lines(clock: FakeClock) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    start_log(LogSettings(), clock=clock, stream=stream)
    yield stream
    start_log(LogSettings(), clock=clock)


async def test_a_key_is_loaded_once_and_then_held(ring: KeyRing, catalog: FakeCatalog) -> None:
    await ring.poll()

    first = await ring.resolve(KEY_ID)
    second = await ring.resolve(KEY_ID)

    assert first is not None
    assert first is second
    assert first.secret == SECRET
    assert first.principal.tenant.name == "acme"
    assert catalog.loads == 1


async def test_an_id_that_does_not_exist_is_asked_for_once(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    await ring.poll()

    assert await ring.resolve("TCNOBODY") is None
    assert await ring.resolve("TCNOBODY") is None
    assert catalog.loads == 1


@pytest.mark.parametrize("access_key_id", ["", "k" * 129, "k" * 4_096])
async def test_an_id_that_cannot_exist_is_not_asked_for(
    ring: KeyRing, catalog: FakeCatalog, access_key_id: str
) -> None:
    assert await ring.resolve(access_key_id) is None
    assert catalog.loads == 0


async def test_without_a_look_at_the_revision_nothing_cached_is_believed(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    await ring.resolve(KEY_ID)
    await ring.resolve(KEY_ID)

    assert catalog.loads == 2


async def test_a_change_by_another_worker_holds_from_the_next_look(
    ring: KeyRing, catalog: FakeCatalog, clock: FakeClock
) -> None:
    await ring.poll()
    before = await ring.resolve(KEY_ID)
    catalog.disable(KEY_ID)
    clock.advance(0.5)
    await ring.poll()

    after = await ring.resolve(KEY_ID)

    assert before is not None
    assert before.principal.key.enabled
    assert after is not None
    assert not after.principal.key.enabled


async def test_a_new_key_works_from_the_next_look_although_it_was_missed_before(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    await ring.poll()
    assert await ring.resolve("TCNEW") is None
    catalog.store(access_key_id="TCNEW")
    await ring.poll()

    assert await ring.resolve("TCNEW") is not None


async def test_a_change_holds_within_a_second_even_when_looks_fail(
    ring: KeyRing, catalog: FakeCatalog, clock: FakeClock, log_lines: io.StringIO
) -> None:
    await ring.poll()
    await ring.resolve(KEY_ID)
    catalog.disable(KEY_ID)
    catalog.is_down = True
    await ring.poll()
    clock.advance(TRUST_S)

    with pytest.raises(CatalogBusy):
        await ring.resolve(KEY_ID)
    catalog.is_down = False
    entry = await ring.resolve(KEY_ID)

    assert entry is not None
    assert not entry.principal.key.enabled
    assert ring.statistics().poll_failures_total == 1
    assert "keyring_poll_failed" in log_lines.getvalue()


async def test_invalidate_works_at_once(ring: KeyRing, catalog: FakeCatalog) -> None:
    await ring.poll()
    await ring.resolve(KEY_ID)
    del catalog.rows[KEY_ID]

    ring.invalidate()

    assert await ring.resolve(KEY_ID) is None


async def test_a_load_that_began_before_an_invalidation_is_not_kept(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    await ring.poll()
    catalog.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ring.resolve, KEY_ID)
        await trio.testing.wait_all_tasks_blocked()
        catalog.disable(KEY_ID)
        ring.invalidate()
        catalog.gate.set()
    await ring.poll()

    entry = await ring.resolve(KEY_ID)

    assert entry is not None
    assert not entry.principal.key.enabled


async def test_a_damaged_secret_makes_only_its_key_unusable_and_alarms(
    ring: KeyRing, catalog: FakeCatalog, log_lines: io.StringIO
) -> None:
    catalog.store(access_key_id="TCOTHER", secret="other")
    key, sealed, tenant, user = catalog.rows[KEY_ID]
    catalog.rows[KEY_ID] = (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), tenant, user)
    await ring.poll()

    assert await ring.resolve(KEY_ID) is None
    other = await ring.resolve("TCOTHER")

    assert other is not None
    assert other.secret == "other"
    assert ring.statistics().damaged_total == 1
    assert "access_key_damaged" in log_lines.getvalue()
    assert "alarm=True" in log_lines.getvalue()
    assert SECRET not in log_lines.getvalue()


async def test_two_swapped_secrets_open_neither_key(
    ring: KeyRing, catalog: FakeCatalog, log_lines: io.StringIO
) -> None:
    catalog.store(access_key_id="TCOTHER", secret="other")
    one, two = catalog.rows[KEY_ID], catalog.rows["TCOTHER"]
    catalog.rows[KEY_ID] = (one[0], two[1], one[2], one[3])
    catalog.rows["TCOTHER"] = (two[0], one[1], two[2], two[3])

    assert await ring.resolve(KEY_ID) is None
    assert await ring.resolve("TCOTHER") is None
    assert log_lines.getvalue().count("access_key_damaged") == 2


async def test_the_caches_are_bounded(ring: KeyRing, catalog: FakeCatalog) -> None:
    for number in range(ENTRIES_MAX + 5):
        catalog.rows[f"TC{number}"] = catalog.rows[KEY_ID]
    catalog.rows = {
        name: (dataclasses.replace(row[0]), row[1], row[2], row[3])
        for name, row in catalog.rows.items()
    }
    await ring.poll()
    for number in range(ENTRIES_MAX + 5):
        await ring.resolve(f"TC{number}")
    for number in range(UNKNOWN_MAX + 5):
        await ring.resolve(f"TCNOBODY{number}")

    statistics = ring.statistics()
    assert statistics.entry_count == ENTRIES_MAX
    assert statistics.unknown_count == UNKNOWN_MAX


async def test_a_flood_of_unknown_ids_drives_no_known_key_out(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    await ring.poll()
    await ring.resolve(KEY_ID)
    for number in range(UNKNOWN_MAX * 2):
        await ring.resolve(f"TCNOBODY{number}")
    loads = catalog.loads

    assert await ring.resolve(KEY_ID) is not None
    assert catalog.loads == loads


async def test_a_signing_key_is_the_one_that_sigv4_derives(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    entry = await ring.resolve(KEY_ID)
    assert entry is not None

    signing_key = ring.signing_key(entry, date="20261120", region="us-east-1")

    assert signing_key == derive_signing_key(SECRET, date="20261120", region="us-east-1")
    assert ring.signing_key(entry, date="20261120", region="us-east-1") is signing_key
    assert ring.signing_key(entry, date="20261121", region="us-east-1") != signing_key
    assert ring.signing_key(entry, date="20261120", region="eu-west-1") != signing_key
    assert ring.statistics().signing_key_count == 3


async def test_a_new_secret_under_the_same_id_never_meets_the_old_signing_key(
    ring: KeyRing, catalog: FakeCatalog
) -> None:
    old = await ring.resolve(KEY_ID)
    assert old is not None
    ring.signing_key(old, date="20261120", region="us-east-1")
    catalog.store(secret="rotated")

    new = await ring.resolve(KEY_ID)

    assert new is not None
    assert ring.signing_key(new, date="20261120", region="us-east-1") == derive_signing_key(
        "rotated", date="20261120", region="us-east-1"
    )


async def test_an_entry_does_not_show_its_secret(ring: KeyRing) -> None:
    entry = await ring.resolve(KEY_ID)

    assert entry is not None
    assert SECRET not in repr(entry)


async def test_run_looks_twice_a_second(
    catalog: FakeCatalog, autojump_clock: trio.testing.MockClock
) -> None:
    class TrioClock(FakeClock):
        def monotonic(self) -> float:
            return trio.current_time()

    ring = KeyRing(
        load_key=catalog.load_key,
        load_revision=catalog.load_revision,
        box=catalog.box,
        clock=TrioClock(),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(ring.run)
        await ring.resolve(KEY_ID)
        await trio.sleep(10)
        assert await ring.resolve(KEY_ID) is not None
        assert catalog.loads == 1
        catalog.disable(KEY_ID)
        await trio.sleep(0.99)
        entry = await ring.resolve(KEY_ID)
        nursery.cancel_scope.cancel()

    assert entry is not None
    assert not entry.principal.key.enabled
    assert catalog.loads == 2
