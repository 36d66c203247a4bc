"""The real device keeps the device contract, with more files than descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hal.errors import DeviceUnsuitable
from hal.file_device import FileDevice
from tests.contract.device import DeviceContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hal.device import Device


@pytest.mark.direct_io
class TestFileDevice(DeviceContract):
    @pytest.fixture
    async def device(self, tmp_path: Path) -> AsyncIterator[Device]:
        try:
            device = await FileDevice.open(tmp_path, io_slots=2, descriptors_max=3)
        except DeviceUnsuitable as error:
            pytest.skip(str(error))
        yield device
        await device.aclose()
