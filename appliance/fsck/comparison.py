"""What the checks of all volumes of one run have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.catalog.unit import Connection
    from appliance.fsck.records import FindingList
    from appliance.fsck.repairs import Repairs
    from hal.records import VolumeId
    from hal.volume import Volume

__all__ = ["Comparison", "ReadCatalog"]

T = TypeVar("T")


class ReadCatalog(Protocol):
    """Runs units that read the catalog."""

    async def __call__(self, unit: Callable[[Connection], T], /) -> T:
        """The value of a unit."""
        ...


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What is common to all volumes of one run.

    Attributes:
        read: Runs a unit that reads the catalog.
        findings: Gets what is wrong.
        repairs: None where nothing may be written.
        with_data: Whether payloads are read, or headers alone.
        swept_epoch: Segments of boot epochs below it no start looks at again.
        target: Aligned memory for one record.
        report: Told bytes done, and bytes in all.
        volumes: All that could be opened.
    """

    read: ReadCatalog
    findings: FindingList
    repairs: Repairs | None
    with_data: bool
    swept_epoch: int
    target: memoryview
    report: Callable[[int, int], None]
    volumes: Mapping[VolumeId, Volume] = field(default_factory=dict)
    total_bytes: int = 0
    done_bytes: int = 0
    pages: int = 0
    records: int = 0
    checked_bytes: int = 0
