"""The catalog as the ledgers of `tiers` call it: its errors in the words of that package.

Background work must outlive a moment in which the catalog cannot answer: a full disk, an I/O error
of a read, a lost conflict. It knows `LedgerUnavailable` and tries again. A catalog that is unfit
for good ends the process by itself (`Catalog.run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from appliance.catalog.errors import CatalogBusy, CatalogError, CatalogFull
from tiers.errors import LedgerRefused, LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.catalog.engine import Catalog
    from appliance.catalog.unit import Connection

__all__ = ["LedgerUnits"]

T = TypeVar("T")


class LedgerUnits:
    """See `Catalog.read` and `Catalog.commit`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """The value of a unit that reads.

        Raises:
            LedgerUnavailable: The catalog cannot be read now.
        """
        try:
            return await self._catalog.read(unit)
        except CatalogError as error:
            raise LedgerUnavailable(str(error)) from error

    async def commit(self, unit: Callable[[Connection], T], *, order: int = 0) -> T:
        """The value of a unit that writes, once it is durable.

        Args:
            unit: See `Catalog.commit`.
            order: Its place in a batch, see there.

        Raises:
            LedgerRefused: Nothing of it was committed.
            LedgerUnavailable: What became of it is unknown.
        """
        try:
            return await self._catalog.commit(unit, order=order)
        except (CatalogBusy, CatalogFull) as error:
            raise LedgerRefused(str(error)) from error
        except CatalogError as error:
            raise LedgerUnavailable(str(error)) from error
