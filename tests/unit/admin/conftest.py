"""A migrated catalog to copy, and the admin API on a copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import schema
from tests.admin_harness import open_admin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.admin_harness import AdminDesk

__all__: list[str] = []


@pytest.fixture(scope="session")
def catalog_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog: to copy, not to open."""
    path = tmp_path_factory.mktemp("admin-catalog") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
async def desk(catalog_template: Path, tmp_path: Path) -> AsyncIterator[AdminDesk]:
    """The admin API, called without a network."""
    async with open_admin(catalog_template, tmp_path) as opened:
        yield opened
