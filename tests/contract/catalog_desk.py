"""The base of the catalog's contract suites: a desk at a fresh catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.catalog_fixtures import CatalogDesk, open_desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["CatalogContract"]


class CatalogContract:
    """Subclasses provide the fixture `catalog_url`: a fresh, migrated catalog."""

    @pytest.fixture
    async def desk(self, catalog_url: str) -> AsyncIterator[CatalogDesk]:
        async with open_desk(catalog_url) as desk:
            yield desk
