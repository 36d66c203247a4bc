"""A catalog with objects on the fast tier, for tests of plans, explanations and drains."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import trio

from appliance.catalog import versions
from appliance.catalog.records import VersionAttributes, VolumeRow, WriteConditions
from appliance.catalog.volumes import insert_volume
from hal.records import BodyId, VolumeId
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.standing_tiers import TIER_OF
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.catalog.engine import Catalog

__all__ = ["DRAINING", "OBJECTS", "PAGES_EACH", "fill", "make_filled_template"]

OBJECTS = 12
PAGES_EACH = 2
FIRST_BODY = 1 << 32
WRITTEN_US = 1_794_000_000_000_000  # 11 days before the clock of the harness
DRAINING = (
    'version = 1\n[[rule]]\nid = "down"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
    "threshold = { high = 0.9, low = 0.01, premigrate = 0.01 }\n"
    '[[rule]]\nid = "default"\nmanaged = true\n'
)
"""A policy under which the standing tiers are drained by whatever there is."""


async def fill(catalog: Catalog, *, tenant: str = "acme") -> None:
    """Volumes of both tiers, a tenant, a bucket, objects `logs/00` on, the last of slow class."""
    desk = CatalogDesk(catalog, flusher=None)  # type: ignore[arg-type]  # never asked
    desk.now_us = WRITTEN_US
    for volume_id, tier in TIER_OF.items():
        row = VolumeRow(
            volume_id=VolumeId(volume_id),
            uuid=f"00000000-0000-4000-8000-00000000000{volume_id}",
            tier=tier,
            path=f"/srv/{tier}",
            created_us=1,
        )
        await desk.commit(insert_volume, volume=row)
    bucket = await desk.make_bucket(await desk.make_tenant(tenant), "b")
    for number in range(OBJECTS):
        desk.start_bodies_at(BodyId(FIRST_BODY + number * PAGES_EACH))
        is_last = number == OBJECTS - 1
        attributes = VersionAttributes(
            content_type="text/plain", storage_class="STANDARD_IA" if is_last else "STANDARD"
        )
        new = desk.make_version(bucket, b"logs/%02d" % number, attributes=attributes)
        await desk.commit(
            versions.put_version,
            new=new,
            body=desk.make_body((PAGES_EACH - 1) * PAGE_BYTES_MAX + 1000),
            conditions=WriteConditions(),
            now_us=WRITTEN_US,
        )


def make_filled_template(template: Path, directory: Path) -> Path:
    """A copy of a migrated SQLite catalog with that in it: to copy, not to open."""
    path = directory / "filled.db"
    shutil.copy(template, path)

    async def work() -> None:
        async with open_desk(f"sqlite:///{path}", checks=False) as desk:
            await fill(desk.catalog)

    trio.run(work)
    return path
