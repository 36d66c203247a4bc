"""Databases for the catalog's contract suites."""

from __future__ import annotations

import shutil
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import schema
from appliance.catalog.connections import make_writer_engine, parse_url
from tests.catalog_fixtures import postgres_server, sqlite_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.catalog.unit import Connection

__all__: list[str] = []


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog: to copy, not to open."""
    path = tmp_path_factory.mktemp("catalog") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_catalog_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A fresh SQLite catalog."""
    return sqlite_url(tmp_path, sqlite_template)


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[Callable[[], str]]:
    """Makes fresh PostgreSQL catalogs, on one server for the whole run."""
    with postgres_server() as make:
        yield make


@pytest.fixture
def postgres_catalog_url(postgres_databases: Callable[[], str]) -> str:
    """A fresh PostgreSQL catalog."""
    return postgres_databases()


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])]
)
def shared_catalog_url(request: pytest.FixtureRequest) -> str:
    """A fresh catalog that several workers use, on either database."""
    url: str = request.getfixturevalue(f"{request.param}_catalog_url")
    return url


@pytest.fixture(scope="module")
def connection(sqlite_template: Path) -> Iterator[Connection]:
    """A writing connection to a fresh SQLite catalog, for units without a committer."""
    with TemporaryDirectory() as directory:
        path = f"{directory}/catalog.db"
        shutil.copy(sqlite_template, path)
        engine = make_writer_engine(parse_url(f"sqlite:///{path}"))
        with engine.connect() as connection:
            yield connection
        engine.dispose()
