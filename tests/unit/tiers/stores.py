"""Page stores on simulated devices."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from hal.geometry import ANNEX_BYTES_MAX, HEADER_BYTES, record_bytes
from hal.memory_device import MemoryDevice
from hal.page_codec import annex_of, decode_header, seal_record
from hal.records import BodyId, VolumeId
from hal.volume import Volume
from tests.contract.device import aligned
from tiers.page_store import PageStore, RecordIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.device import Device
    from tiers.records import StoredPage

__all__ = [
    "APPLIANCE_UUID",
    "copy_record",
    "identity",
    "make_store",
    "open_volume",
    "read_back",
    "write_page",
]

APPLIANCE_UUID = uuid.UUID(int=1)
SEGMENT_BYTES = 16 * 1024 * 1024


async def open_volume(
    device: Device, *, volume_id: int, tier: str, epoch: int, formats: bool
) -> Volume:
    """A volume on a device, formatted first if asked for."""
    if formats:
        await Volume.format(
            device,
            volume_id=VolumeId(volume_id),
            volume_uuid=uuid.UUID(int=100 + volume_id),
            appliance_uuid=APPLIANCE_UUID,
            tier=tier,
            segment_bytes=SEGMENT_BYTES,
            created_us=1,
        )
    numbers = itertools.count(volume_id * 1_000_000 + epoch * 1_000)
    return await Volume.open(
        device,
        appliance_uuid=APPLIANCE_UUID,
        boot_epoch=epoch,
        keep_free_bytes=0,
        random_uuid=lambda: uuid.UUID(int=next(numbers)),
        now_us=lambda: 1,
    )


async def make_store(
    devices: Sequence[Device], *, epoch: int = 1, formats: bool = True
) -> PageStore:
    """A store over devices, the first one of tier `ssd`, the others of tier `hdd`."""
    volumes = [
        await open_volume(
            device,
            volume_id=number,
            tier="ssd" if number == 1 else "hdd",
            epoch=epoch,
            formats=formats,
        )
        for number, device in enumerate(devices, start=1)
    ]
    store = PageStore(volumes, tier_order=("ssd", "hdd"))
    await store.measure_rooms()
    return store


def make_device(*, capacity_bytes: int = 256 * 1024 * 1024) -> MemoryDevice:
    """An empty simulated device."""
    return MemoryDevice(capacity_bytes=capacity_bytes)


def identity(body_id: int = 7, *, page_index: int = 0, is_last: bool = True) -> RecordIdentity:
    """A header's words."""
    return RecordIdentity(
        tenant_id=1, body_id=BodyId(body_id), page_index=page_index, is_last=is_last, written_us=1
    )


async def write_page(
    store: PageStore,
    payload: bytes,
    *,
    body_id: int = 7,
    annex: bytes = b"",
    tier: str | None = None,
) -> StoredPage:
    """One page of a body of its own."""
    record = aligned(bytes(record_bytes(payload_bytes=len(payload), annex_bytes=ANNEX_BYTES_MAX)))
    record[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
    return await store.write_page(
        record, payload_bytes=len(payload), identity=identity(body_id), annex=annex, tier=tier
    )


async def read_back(store: PageStore, page: StoredPage) -> bytes:
    """The page's whole payload."""
    return bytes(await store.read_page(page, aligned(bytes(page.extent.length_bytes))))


async def copy_record(store: PageStore, page: StoredPage, *, to_volume: int) -> StoredPage:
    """A second record of a page on another volume, on stable storage, as a move writes it."""
    record = aligned(bytes(page.extent.length_bytes))
    await store.volume(page.extent.volume_id).read(page.extent, record)
    header = decode_header(record)
    volume = store.volume(VolumeId(to_volume))
    extent = await volume.reserve(page.extent.length_bytes)
    seal_record(
        record,
        segment_uuid=volume.segment_uuid(extent.segment_id),
        offset=extent.offset,
        tenant_id=header.tenant_id,
        body_id=header.body_id,
        page_index=header.page_index,
        payload_bytes=header.payload_bytes,
        annex=bytes(annex_of(record, header, where="copied")),
        is_last=header.is_last,
        written_us=header.written_us,
        kind=header.kind,
    )
    await volume.write_record(extent, record)
    assert not await volume.flush([extent.segment_id])
    volume.settle([extent])
    return replace(page, extent=extent)
