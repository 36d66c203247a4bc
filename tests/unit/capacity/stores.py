"""What the tests of capacity share: a catalog to copy, and a look at one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import schema

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["catalog_template"]


@pytest.fixture(scope="session")
def catalog_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog: to copy, not to open."""
    path = tmp_path_factory.mktemp("capacity-catalog") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path
