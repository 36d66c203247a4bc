"""The simulated device keeps the device contract, plain and behind a wrapper without faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hal.faulty_device import FaultyDevice
from hal.memory_device import MemoryDevice
from tests.contract.device import DeviceContract

if TYPE_CHECKING:
    from hal.device import Device

CAPACITY_BYTES = 64 * 1024 * 1024


class TestMemoryDevice(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return MemoryDevice(capacity_bytes=CAPACITY_BYTES)


class TestFaultyDevice(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return FaultyDevice(MemoryDevice(capacity_bytes=CAPACITY_BYTES), lambda _operation: None)
