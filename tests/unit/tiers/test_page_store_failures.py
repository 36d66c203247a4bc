"""Devices that cannot make a segment: for want of descriptors, memory or a working directory."""

from __future__ import annotations

import pytest

from hal.errors import DeviceError, DeviceFailed, MediumError
from hal.faulty_device import Fault, FaultyDevice, OperationKind
from tests.unit.tiers.stores import make_device, make_store, read_back, write_page

FAILURES = [
    DeviceError("memory", "cannot open: Too many open files"),
    DeviceFailed("memory", "fsync of the directory"),
    MediumError("memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="write failed"),
]


def fail_on(device: FaultyDevice, kind: OperationKind, error: DeviceError) -> None:
    device.replace_plan(lambda operation: Fault(error=error) if operation.kind is kind else None)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_volume_that_cannot_make_a_segment_leaves_the_page_to_the_next(
    error: DeviceError,
) -> None:
    kinds = (OperationKind.CREATE, OperationKind.WRITE, OperationKind.FLUSH_DIRECTORY)
    for kind in kinds:
        bad = FaultyDevice(make_device(), lambda _: None)
        store = await make_store([bad, make_device()])
        fail_on(bad, kind, error)

        page = await write_page(store, b"payload")

        assert store.volume(page.extent.volume_id).tier == "hdd"
        assert await read_back(store, page) == b"payload"


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_where_every_volume_fails_the_failure_is_told_and_not_a_lack_of_room(
    error: DeviceError,
) -> None:
    bad = FaultyDevice(make_device(), lambda _: None)
    store = await make_store([bad, make_device(capacity_bytes=1024 * 1024)])
    fail_on(bad, OperationKind.CREATE, error)

    for _ in range(2):  # the second time both rest, and nobody is asked
        with pytest.raises(DeviceError, match="takes no writes") as caught:
            await write_page(store, b"payload")
        assert error.reason in caught.value.reason
    with pytest.raises(DeviceError):
        store.check_room()
