"""Every format of the reports against its file in `tests/golden/cli`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet

from appliance.catalog import schema
from tests.admin_harness import AdminServer
from tests.cli_harness import Shell
from tests.golden.test_cli_output import compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MONTH = """
INSERT INTO tenants VALUES (1, 'demo', 'aa', 'active', 0, NULL, NULL, NULL, 0, 0, 0, 0);
INSERT INTO buckets VALUES (1, 1, 'photos', 0, 'off', NULL, NULL, 0, 0, NULL);
INSERT INTO volume_samples VALUES (1793600000000000, 1, 'ssd', 9, 9, 9, 0, 0);
INSERT INTO volume_samples VALUES (1794996400000000, 1, 'ssd', 9, 9, 9, 0, 0);
INSERT INTO usage_stored VALUES (1, 202611, 'hdd', 1200000000000000);
INSERT INTO usage_stored VALUES (1, 202611, 'ssd', 23000000000000);
INSERT INTO usage_months VALUES (1, 202611, 812345, 20111, 930, 417, 6400000000, 51200000000);
UPDATE counters SET value = 1793600000000000 WHERE name = 'usage_counted_since';
"""


@pytest.fixture(scope="module")
def catalog_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with a tenant that used something in the month of the tests' clock."""
    path = tmp_path_factory.mktemp("golden-reports") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as catalog:
        catalog.executescript(MONTH)
    return path


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """A shell in a directory of its own."""
    return Shell(capsys, monkeypatch, tmp_path)


@pytest.fixture
def server(catalog_template: Path, tmp_path: Path, shell: Shell) -> Iterator[AdminServer]:
    """A server of that catalog, with a store that stands still."""
    with AdminServer(catalog_template, tmp_path) as running:
        shell.set_environment(THERMOCLINE_SOCKET=str(running.socket))
        yield running


@pytest.mark.parametrize("form", ["table", "json", "csv", "html"])
def test_a_capacity_report_in_each_format(server: AdminServer, shell: Shell, form: str) -> None:
    assert server.socket.exists()
    printed = shell.do("report", "capacity", "--format", form).output

    compare(f"report-capacity.{form}", printed.replace("\r\n", "\n"))


def test_a_capacity_report_with_heat_by_bucket(server: AdminServer, shell: Shell) -> None:
    server.reports.has_heat = True

    compare(
        "report-capacity-heat.table", shell.do("report", "capacity", "--by", "bucket,tier").output
    )


def test_a_capacity_report_by_prefix(server: AdminServer, shell: Shell) -> None:
    assert server.socket.exists()
    words = ("--bucket", "demo/photos", "--prefix-depth", "1", "--format", "csv")

    compare(
        "report-capacity-prefix.csv",
        shell.do("report", "capacity", *words).output.replace("\r\n", "\n"),
    )


def test_the_schema_of_parquet(server: AdminServer, shell: Shell) -> None:
    server.reports.has_heat = True
    shell.do("report", "capacity", "--format", "parquet", "--output", "capacity.parquet")
    shell.do("report", "tenant", "demo", "--format", "parquet", "--output", "month.parquet")
    described = ""
    for name in ("capacity.parquet", "month.parquet"):
        schema_of = parquet.read_schema(shell.directory / name)
        described += f"{name}\n{schema_of.to_string(truncate_metadata=False)}\n\n"

    compare("report.parquet-schema", described)
    table = parquet.read_table(shell.directory / "capacity.parquet")
    assert table.num_rows == 4
    assert table.column("tenant").to_pylist() == ["acme", "demo", "acme", "demo"]


@pytest.mark.parametrize("form", ["table", "json", "csv", "html"])
def test_a_tenants_month_in_each_format(server: AdminServer, shell: Shell, form: str) -> None:
    assert server.socket.exists()
    printed = shell.do("report", "tenant", "demo", "--format", form).output

    compare(f"report-tenant.{form}", printed.replace("\r\n", "\n"))
