"""fsck on a real store: each kind of damage made for real, found, and repaired where it can be."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from appliance.fsck.records import Kind, Outcome
from hal.segment import decode_segment_header, encode_segment_header, parse_segment_name
from hal.superblock import SUPERBLOCK_NAME
from tests.unit.fsck.stores import Store, make_store, turn_byte

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.fsck.records import FsckReport
    from tiers.records import StoredPage

BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A store with two objects: `whole` of one page, `two pages` of two; and the second's pages."""

    store: Store
    pages: list[StoredPage]

    @property
    def segment(self) -> Path:
        """The file that holds both."""
        [path] = [
            path
            for path in self.store.segments()
            if path.name.startswith(f"{self.pages[0].extent.segment_id:016x}")
        ]
        return path


@pytest.fixture
async def filled(tmp_path: Path) -> Filled:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"whole", b"w" * 9_000)
        pages = await opened.put(b"two pages", b"1" * 10_000, b"2" * 5_000)
    return Filled(store=store, pages=pages)


def kinds(report: FsckReport) -> dict[Kind, tuple[int, int]]:
    return {count.kind: (count.found, count.repaired) for count in report.counts}


def owners(report: FsckReport) -> set[str]:
    return {owner.key for finding in report.findings for owner in finding.owners}


async def test_a_sound_store_has_no_findings(filled: Filled) -> None:
    before = filled.store.files()

    found = await filled.store.fsck()

    assert found.counts == ()
    assert (found.pages, found.records, found.is_complete) == (3, 3, True)
    assert found.checked_bytes == sum(page.extent.length_bytes for page in filled.pages) + 3 * BLOCK
    assert filled.store.files() == before


# Each of these changes a store behind its back; what it is called names the kind that is found.


def usage(filled: Filled) -> None:
    filled.store.sql("UPDATE tenants SET used_bytes = 5", "UPDATE buckets SET object_count = 9")


def open_uploads(filled: Filled) -> None:
    filled.store.sql("UPDATE tenants SET open_upload_count = 3")


def too_many_references(filled: Filled) -> None:
    filled.store.sql(f"UPDATE bodies SET reference_count = 7 WHERE body_id = {body(filled)}")


def nobody_refers(filled: Filled) -> None:
    # As if a delete had forgotten to mark the body; the counts of usage agree.
    filled.store.sql(
        "UPDATE bodies SET reference_count = 0",
        "DELETE FROM versions",
        "UPDATE tenants SET used_bytes = 0, object_count = 0",
        "UPDATE buckets SET used_bytes = 0, object_count = 0",
    )


def dead_and_referred_to(filled: Filled) -> None:
    filled.store.sql(f"UPDATE bodies SET died_us = 5 WHERE body_id = {body(filled)}")


def not_current(filled: Filled) -> None:
    filled.store.sql("UPDATE versions SET is_current = 0")


def superblock_copy(filled: Filled) -> None:
    turn_byte(filled.store.ssd / SUPERBLOCK_NAME, 20)


def other_superblock_copy(filled: Filled) -> None:
    turn_byte(filled.store.ssd / SUPERBLOCK_NAME, BLOCK + 20)


def scratch(filled: Filled) -> None:
    (filled.store.ssd / ".probe-abc").write_bytes(b"x")


def segment_header(filled: Filled) -> None:
    turn_byte(filled.segment, 30)


def segment_without_header(filled: Filled) -> None:
    with filled.segment.open("r+b") as file:
        file.write(bytes(BLOCK))


def empty_segment(filled: Filled) -> None:
    # Of an epoch that the sweep has passed, with nothing in it.
    parsed = parse_segment_name(filled.segment.name)
    assert parsed is not None
    filled.store.sql("UPDATE settings SET value = '9' WHERE name = 'swept_epoch'")
    name = f"{parsed[0] + 7:016x}-{uuid.UUID(int=5).hex}.segment"
    (filled.store.ssd / name).write_bytes(make_header(filled, name))


def bad_shadow(filled: Filled) -> None:
    page = filled.pages[0]
    extent = page.extent
    filled.store.sql(
        "INSERT INTO page_shadows VALUES"
        f" ({page.body_id}, 0, 2, {extent.segment_id}, {9 * 1024 * 1024}, {BLOCK})"
    )


def dead_extent_over_a_page(filled: Filled) -> None:
    extent = filled.pages[1].extent
    filled.store.sql(
        "INSERT INTO dead_extents (volume_id, segment_id, segment_offset, record_bytes, died_us)"
        f" VALUES (1, {extent.segment_id}, {extent.offset + BLOCK}, {BLOCK}, 1)"
    )


def good_page_in_quarantine(filled: Filled) -> None:
    page = filled.pages[0]
    extent = page.extent
    filled.store.sql(
        "INSERT INTO quarantined_pages VALUES"
        f" ({page.body_id}, 0, 1, {extent.segment_id}, {extent.offset}, 0, 'once', 1)"
    )


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (usage, Kind.COUNTERS),
        (open_uploads, Kind.COUNTERS),
        (too_many_references, Kind.REFERENCES),
        (nobody_refers, Kind.REFERENCES),
        (dead_and_referred_to, Kind.REFERENCES),
        (not_current, Kind.CURRENT_VERSION),
        (superblock_copy, Kind.SUPERBLOCK_COPY),
        (other_superblock_copy, Kind.SUPERBLOCK_COPY),
        (scratch, Kind.SCRATCH_FILE),
        (segment_header, Kind.SEGMENT_HEADER),
        (segment_without_header, Kind.SEGMENT_HEADER),
        (empty_segment, Kind.SEGMENT_EMPTY),
        (bad_shadow, Kind.SHADOW_BAD),
        (dead_extent_over_a_page, Kind.OVERLAP),
        (good_page_in_quarantine, Kind.QUARANTINE_STALE),
    ],
)
async def test_what_can_be_repaired_is_found_repaired_and_gone(
    filled: Filled, damage: Callable[[Filled], None], kind: Kind
) -> None:
    damage(filled)
    before = filled.store.files()

    found = await filled.store.fsck()
    untouched = filled.store.files()
    repaired = await filled.store.fsck(repair=True)
    again = await filled.store.fsck()

    assert set(kinds(found)) == {kind}
    assert found.left == found.found
    assert untouched == before
    [audited] = filled.store.ask("SELECT actor, detail FROM audit WHERE action = 'fsck repair'")
    assert audited == ("fsck", f"{kind} {found.found} of {found.found}")
    assert {count.kind for count in repaired.counts} == {kind}
    assert repaired.left == 0
    assert again.counts == ()


def record_file(filled: Filled) -> Path:
    return filled.segment


def payload_flip(filled: Filled) -> None:
    turn_byte(filled.segment, filled.pages[0].extent.offset + 600)


def header_flip(filled: Filled) -> None:
    turn_byte(filled.segment, filled.pages[0].extent.offset + 90)


def magic_gone(filled: Filled) -> None:
    turn_byte(filled.segment, filled.pages[0].extent.offset)


def misdirected(filled: Filled) -> None:
    """Another object's record, whole, in the place of this one's."""
    first, second = (page.extent.offset for page in filled.pages)
    data = filled.segment.read_bytes()
    with filled.segment.open("r+b") as file:
        file.seek(first)
        file.write(data[second : second + BLOCK])


def segment_gone(filled: Filled) -> None:
    filled.segment.unlink()


def segment_cut(filled: Filled) -> None:
    with filled.segment.open("r+b") as file:
        file.truncate(filled.pages[0].extent.offset + BLOCK)


@pytest.mark.parametrize(
    ("damage", "lost", "hit"),
    [
        (payload_flip, 1, {"two pages"}),
        (header_flip, 1, {"two pages"}),
        (magic_gone, 1, {"two pages"}),
        (misdirected, 1, {"two pages"}),
        (segment_cut, 2, {"two pages"}),
        (segment_gone, 3, {"two pages", "whole"}),
    ],
)
async def test_a_lost_page_is_named_and_set_aside_and_stays_a_loss(
    filled: Filled, damage: Callable[[Filled], None], lost: int, hit: set[str]
) -> None:
    damage(filled)
    before = filled.store.files()

    found = await filled.store.fsck()
    untouched = filled.store.files()
    repaired = await filled.store.fsck(repair=True)
    again = await filled.store.fsck()

    assert kinds(found)[Kind.PAGE_LOST] == (lost, 0)
    assert owners(found) == hit
    assert untouched == before
    assert {finding.outcome for finding in repaired.findings} == {Outcome.CONTAINED}
    assert filled.store.ask("SELECT count(*) FROM quarantined_pages") == [(lost,)]
    assert kinds(again)[Kind.PAGE_LOST] == (lost, 0)
    assert owners(again) == hit


@pytest.mark.parametrize("damage", [header_flip, magic_gone, misdirected, segment_gone])
async def test_headers_alone_tell_of_lost_and_misdirected_records(
    filled: Filled, damage: Callable[[Filled], None]
) -> None:
    damage(filled)

    found = await filled.store.fsck(with_data=False)

    assert Kind.PAGE_LOST in kinds(found)
    assert found.checked_bytes == 0


async def test_rot_in_a_payload_is_not_seen_by_its_header(filled: Filled) -> None:
    payload_flip(filled)

    assert (await filled.store.fsck(with_data=False)).counts == ()


@pytest.mark.parametrize("place", ["padding", "annex"])
async def test_a_blemish_is_told_apart_from_a_loss(filled: Filled, place: str) -> None:
    last = filled.pages[1]
    end = last.extent.offset + last.extent.length_bytes
    annex = last.extent.offset + 512 + last.payload_bytes + 3
    turn_byte(filled.segment, end - 1 if place == "padding" else annex)

    found = await filled.store.fsck(repair=True)

    assert kinds(found) == {Kind.PAGE_BLEMISHED: (1, 0)}
    assert owners(found) == {"two pages"}
    assert filled.store.ask("SELECT is_readable FROM quarantined_pages") == [(1,)]


def page_row_gone(filled: Filled) -> None:
    filled.store.sql(f"DELETE FROM pages WHERE body_id = {body(filled)} AND page_index = 1")


def body_row_gone(filled: Filled) -> None:
    filled.store.sql(
        f"DELETE FROM pages WHERE body_id = {body(filled)}",
        f"DELETE FROM bodies WHERE body_id = {body(filled)}",
    )


def bucket_row_gone(filled: Filled) -> None:
    filled.store.sql("DELETE FROM buckets")


def volume_row_gone(filled: Filled) -> None:
    filled.store.sql("DELETE FROM volumes WHERE volume_id = 1")


def volume_gone(filled: Filled) -> None:
    filled.store.ssd.rename(filled.store.ssd.with_name("elsewhere"))


def superblock_gone(filled: Filled) -> None:
    turn_byte(filled.store.ssd / SUPERBLOCK_NAME, 20)
    turn_byte(filled.store.ssd / SUPERBLOCK_NAME, BLOCK + 20)


def somebodys_file(filled: Filled) -> None:
    (filled.store.ssd / "holiday.txt").write_text("mine")


def segment_twice(filled: Filled) -> None:
    parsed = parse_segment_name(filled.segment.name)
    assert parsed is not None
    shutil.copy(
        filled.segment,
        filled.store.ssd / f"{parsed[0]:016x}-{'f' * 32}.segment",
    )


def segment_of_another_volume(filled: Filled) -> None:
    header = make_header(filled, filled.segment.name, volume_uuid=uuid.UUID(int=77))
    with filled.segment.open("r+b") as file:
        file.write(header)


def database_page(filled: Filled) -> None:
    with filled.store.catalog_path.open("r+b") as file:
        file.seek(10 * BLOCK)
        file.write(b"\xff" * BLOCK)


def database_header(filled: Filled) -> None:
    turn_byte(filled.store.catalog_path, 3)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (page_row_gone, Kind.PAGES_MISSING),
        (body_row_gone, Kind.BODY_MISSING),
        (bucket_row_gone, Kind.FOREIGN_KEY),
        (volume_row_gone, Kind.VOLUME_UNKNOWN),
        (volume_gone, Kind.VOLUME_UNUSABLE),
        (superblock_gone, Kind.VOLUME_UNUSABLE),
        (somebodys_file, Kind.UNKNOWN_FILE),
        (segment_twice, Kind.SEGMENT_TWICE),
        (segment_of_another_volume, Kind.SEGMENT_FOREIGN),
        (database_page, Kind.CATALOG_DAMAGED),
        (database_header, Kind.CATALOG_DAMAGED),
    ],
)
async def test_what_cannot_be_repaired_is_told_with_the_reason(
    filled: Filled, damage: Callable[[Filled], None], kind: Kind
) -> None:
    damage(filled)
    before = filled.store.files()

    found = await filled.store.fsck()

    assert kind in kinds(found)
    assert kinds(found)[kind][1] == 0
    assert filled.store.files() == before


@pytest.mark.parametrize("damage", [volume_gone, superblock_gone, database_page, bucket_row_gone])
async def test_nothing_is_repaired_by_the_word_of_what_is_damaged(
    filled: Filled, damage: Callable[[Filled], None]
) -> None:
    damage(filled)

    found = await filled.store.fsck(repair=True)

    assert not found.is_complete
    assert found.left == found.found
    assert not any(finding.kind is Kind.PAGE_LOST for finding in found.findings)


async def test_records_that_no_commit_named_are_told_with_their_names_and_punched(
    filled: Filled,
) -> None:
    async with filled.store.open() as opened:
        await opened.put(b"committed", b"c" * 5_000)
        await opened.write(b"never acknowledged", b"n" * 20_000, b"o" * 700)

    found = await filled.store.fsck()
    repaired = await filled.store.fsck(repair=True)
    again = await filled.store.fsck()

    assert kinds(found) == {Kind.ORPHAN: (2, 0)}
    assert owners(found) == {"never acknowledged"}
    assert kinds(repaired) == {Kind.ORPHAN: (2, 2)}
    assert again.counts == ()


async def test_a_segment_of_orphans_goes_as_a_whole(filled: Filled) -> None:
    async with filled.store.open() as opened:
        await opened.write(b"never acknowledged", b"n" * 20_000)
    segments = len(filled.store.segments())

    repaired = await filled.store.fsck(repair=True)

    assert kinds(repaired) == {Kind.ORPHAN: (1, 1)}
    assert len(filled.store.segments()) == segments - 1
    assert (await filled.store.fsck()).counts == ()


async def test_what_is_dead_is_no_finding_before_and_after_its_punch(filled: Filled) -> None:
    async with filled.store.open() as opened:
        await opened.put(b"dies", b"d" * 5_000)
        await opened.put(b"stays", b"s" * 5_000)
        await opened.delete(b"dies")
    dead = await filled.store.fsck()
    async with filled.store.open() as opened:
        await opened.reclaim()
    punched = await filled.store.fsck()

    assert dead.counts == ()
    assert punched.counts == ()


async def test_an_orphan_under_a_row_is_punched_only_beside_it(filled: Filled) -> None:
    async with filled.store.open() as opened:
        await opened.put(b"first", b"f" * 5_000)
        [orphan] = await opened.write(b"orphan", b"o" * 20_000)
        await opened.put(b"last", b"l" * 5_000)
    inside = orphan.extent.offset + 2 * BLOCK
    body_id = filled.store.ask("SELECT max(body_id) FROM bodies")[0][0]
    filled.store.sql(
        # A row that names the end of the orphan's record: a lost page, but its bytes stay.
        f"UPDATE pages SET segment_offset = {inside}, record_bytes = {BLOCK}"
        f" WHERE body_id = {body_id}"
    )
    segment = filled.store.segments()[-1]
    before = segment.read_bytes()

    await filled.store.fsck(repair=True)

    after = segment.read_bytes()
    assert after[orphan.extent.offset : inside] == bytes(inside - orphan.extent.offset)
    assert after[inside : inside + BLOCK] == before[inside : inside + BLOCK]


def body(filled: Filled) -> int:
    return filled.pages[0].body_id


def make_header(filled: Filled, name: str, **changes: uuid.UUID) -> bytes:
    """A segment's first block that is right for that name, but for the changes."""
    parsed = parse_segment_name(name)
    assert parsed is not None
    found = decode_segment_header(filled.segment.read_bytes()[:BLOCK], where=name)
    volume_uuid = changes.get("volume_uuid", found.volume_uuid)
    return encode_segment_header(
        type(found)(
            segment_id=parsed[0],
            segment_uuid=parsed[1],
            volume_uuid=volume_uuid,
            boot_epoch=parsed[0] >> 24,
            created_us=found.created_us,
        )
    )
