"""`thermocline report`: formats, files, and calls that are wrong."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet

from tiers.report_columns import COLUMNS
from tiers.report_facts import Cut

if TYPE_CHECKING:
    from tests.admin_harness import AdminServer
    from tests.cli_harness import Shell

NAMES = [column.name for column in COLUMNS]


@pytest.fixture
def demo(server: AdminServer, shell: Shell) -> AdminServer:
    shell.do("tenant", "create", "demo")
    shell.do("bucket", "create", "demo/photos")
    return server


def test_csv_has_the_columns_and_no_formulas(demo: AdminServer, shell: Shell) -> None:
    printed = shell.do(
        *("report", "capacity", "--bucket", "demo/photos", "--prefix-depth", "1"),
        *("--by", "prefix,tier", "--format", "csv"),
    ).output

    head, *rows = csv.reader(io.StringIO(printed))
    assert head == NAMES
    assert [row[2] for row in rows] == ["'=cmd|'/c calc'!A1/", "2026/"]
    assert demo.reports.cuts[-1].prefix_depth == 1


def test_parquet_has_the_rows_of_json(demo: AdminServer, shell: Shell) -> None:
    assert demo.socket.exists()
    words = ("report", "capacity", "--by", "tenant,bucket,tier")
    document = shell.do(*words, "--json").decode()
    said = shell.do(*words, "--format", "parquet", "--output", "r.parquet").output

    table = parquet.read_table(shell.directory / "r.parquet")
    assert re.fullmatch(r"wrote r\.parquet, [0-9.]+KiB\n", said)
    assert table.column_names == NAMES
    assert table.to_pylist() == document["rows"]


@pytest.mark.parametrize(
    ("name", "begins"), [("r.json", b"{"), ("r.CSV", b"tenant,"), ("r.html", b"<!doctype html>")]
)
def test_the_name_of_a_file_says_its_format(
    demo: AdminServer, shell: Shell, name: str, begins: bytes
) -> None:
    assert demo.socket.exists()
    shell.do("report", "capacity", "--output", name)

    assert (shell.directory / name).read_bytes().startswith(begins)


def test_a_page_loads_nothing_and_escapes_what_is_foreign(demo: AdminServer, shell: Shell) -> None:
    assert demo.socket.exists()
    words = ("report", "capacity", "--by", "prefix", "--format", "html")
    shell.do(*words, "--output", "r.html")

    page = (shell.directory / "r.html").read_text()
    assert "=cmd|&#x27;/c calc&#x27;!A1/" in page
    assert "=cmd|'" not in page
    assert not re.search(r"(src|href)=|url\(|@import|<script|<link|https?:", page)
    assert "default-src 'none'" in page
    assert page.count("<svg") == page.count("</svg>") == 5
    # The plots need tenants, buckets and tiers, whatever the table is cut by.
    assert demo.reports.cuts[-1].by == {"tenant", "bucket", "prefix", "tier"}
    assert "<h2>By tenant, bucket, prefix</h2>" in page


def test_a_page_of_heat_shows_it(demo: AdminServer, shell: Shell) -> None:
    blind = shell.do("report", "capacity", "--format", "html").output
    demo.reports.has_heat = True
    seeing = shell.do("report", "capacity", "--format", "html").output

    assert "No heat is kept here" in blind
    assert "var(--h10)" not in blind.partition("<body>")[2]
    assert "var(--h10)" in seeing.partition("<body>")[2]


def test_a_bucket_may_be_named_with_its_tenant_or_beside_it(
    demo: AdminServer, shell: Shell
) -> None:
    shell.do("report", "capacity", "--bucket", "demo/photos")
    shell.do("report", "capacity", "--tenant", "demo", "--bucket", "photos")
    shell.do("report", "capacity", "--tenant", "demo", "--bucket", "demo/photos", "--prefix", "a")

    first, second, third = demo.reports.cuts
    assert first == second == Cut(by=frozenset({"tenant", "tier"}), tenant_id=1, bucket_id=1)
    assert third.prefix == b"a"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--format xml", "'xml' is not one of 'table', 'json', 'csv', 'parquet', 'html'"),
        ("--json --format csv", "contradict each other"),
        ("--by colour", "'colour' is none of tenant, bucket, prefix, tier"),
        ("--prefix a", "--prefix needs --bucket"),
        ("--bucket photos", "--bucket needs --tenant"),
        ("--tenant acme --bucket demo/photos", "contradict each other"),
        ("--prefix-depth 0", "1<=x<=32"),
        ("--output r.txt", "--output needs --format"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    demo: AdminServer, shell: Shell, words: str, says: str
) -> None:
    errors = shell.refuse("report", "capacity", *words.split(), status=2)

    assert says in errors
    assert demo.reports.cuts == []


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ("capacity --tenant nobody", 1, "nobody"),
        ("capacity --bucket demo/nowhere", 1, "demo/nowhere"),
        ("tenant nobody", 1, "nobody"),
        ("tenant demo --month 2999-01", 2, "2999-01 has not begun"),
        ("tenant demo --month 11/2026", 2, "write it as 2026-11"),
        ("tenant demo --format xml", 2, "is not one of"),
        ("capacity --format csv --output missing/r.csv", 1, "missing does not exist"),
        ("tenant demo --format csv --output .", 2, "is a directory"),
    ],
)
def test_what_is_not_there_says_so(
    demo: AdminServer, shell: Shell, words: str, status: int, says: str
) -> None:
    assert demo.socket.exists()
    assert says in shell.refuse("report", *words.split(), status=status)


def test_a_file_that_may_not_be_written_is_refused_before_the_server_is_asked(
    demo: AdminServer, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere

    errors = shell.refuse("report", "capacity", "--format", "json", "--output", "r.json", status=1)

    assert "r.json: may not be written" in errors
    assert demo.reports.cuts == []


def test_a_disk_that_is_full_is_told(demo: AdminServer, shell: Shell) -> None:
    assert demo.socket.exists()
    errors = shell.refuse(
        "report", "capacity", "--format", "json", "--output", "/dev/full", status=1
    )

    assert "/dev/full: No space left on device" in errors


def test_a_report_of_too_many_rows_says_what_to_do(demo: AdminServer, shell: Shell) -> None:
    demo.reports.is_too_large = True

    errors = shell.refuse("report", "capacity", "--by", "prefix", status=1)

    assert "name a tenant or a bucket, or a smaller prefix depth" in errors


def test_a_month_without_records_shows_dashes(demo: AdminServer, shell: Shell) -> None:
    assert demo.socket.exists()
    table = shell.do("report", "tenant", "demo", "--month", "2025-03").output
    rows = list(
        csv.DictReader(
            io.StringIO(
                shell.do("report", "tenant", "demo", "--month", "2025-03", "--format", "csv").output
            )
        )
    )

    assert "counted  nothing recorded" in table
    assert re.search(r"^requests +read +-", table, re.MULTILINE)
    assert {row["quantity"] for row in rows} == {""}
