"""Every trace format: what is read, what is broken, what is refused."""

from __future__ import annotations

import gzip
import json
import lzma
import struct
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiers.errors import TraceInvalid
from tiers.simulator.trace import DEFAULT_SPAN_S, READ, UNIT_BYTES, WRITE, Trace
from tiers.simulator.trace_formats import BROKEN_FREE, FORMATS, load_trace

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
OWN = [
    {"time": 1.0, "op": "GET", "name": "b/a", "size": 8192, "client": "c1"},
    {"time": 2.0, "op": "PUT", "name": "b/b", "size": 5},
    {"time": 2.5, "op": "DELETE", "name": "b/b", "size": 5},
    {"time": 3.0, "op": "GET", "name": "b/a", "size": 8192, "offset": 4096, "length": 4096},
]


def load(tmp_path: Path, form: str, data: bytes | str, **options: int) -> Trace:
    path = tmp_path / "trace"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return load_trace(path, form, pages_of=options.get("pages_of")).trace


def refuse(tmp_path: Path, form: str, data: bytes | str) -> str:
    with pytest.raises(TraceInvalid) as caught:
        load(tmp_path, form, data)
    return caught.value.reason


def rows_of(trace: Trace) -> list[tuple[float, int, int, int]]:
    return list(zip(trace.times, trace.pages, trace.lengths, trace.ops, strict=True))


def own_lines() -> str:
    return "".join(json.dumps(row) + "\n" for row in OWN)


def test_our_own_log_as_json_lines(tmp_path: Path) -> None:
    trace = load(tmp_path, "own", own_lines())

    assert rows_of(trace) == [(1.0, 0, 8192, READ), (2.0, 1, 5, WRITE), (3.0, 0, 4096, READ)]
    assert list(trace.shares) == [1.0, 1.0, 0.5]
    assert list(trace.sizes) == [8192, 4096]
    assert trace.client_names == ["c1"]
    assert list(trace.clients) == [1, 0, 0]
    assert trace.objects == [b"b/a", b"b/b"]
    assert trace.has_times


def test_our_own_log_says_of_a_read_that_its_client_was_not_known(tmp_path: Path) -> None:
    rows = [OWN[0] | {"weight": 1.0, "stranger": True}, OWN[0] | {"weight": 1.0}]
    trace = load(tmp_path, "own", "".join(json.dumps(row) + "\n" for row in rows))

    assert trace.strangers == b"\x01\x00"


def test_our_own_log_as_parquet_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    names = ("time", "op", "name", "size", "client", "offset", "length")
    pq.write_table(pa.table({name: [row.get(name) for row in OWN] for name in names}), path)

    trace = load_trace(path, "own").trace

    assert rows_of(trace) == rows_of(load(tmp_path, "own", own_lines()))


def test_objects_are_cut_into_pages_where_asked(tmp_path: Path) -> None:
    row = {"time": 1, "op": "GET", "name": "x", "size": 10_000, "offset": 5000, "length": 4000}
    trace = load(tmp_path, "own", json.dumps(row), pages_of=4096)

    assert list(trace.lengths) == [3192, 808]
    assert list(trace.offsets) == [5000, 8192]
    assert trace.objects == [b"x", b"x"]


def test_oracle_general(tmp_path: Path) -> None:
    records = [(10, 7, 100, 2), (11, 8, 5000, -1), (12, 7, 100, 2**63 - 1)]
    data = b"".join(struct.pack("<IQIq", *record) for record in records)

    assert rows_of(load(tmp_path, "oracleGeneral", data)) == [
        (10.0, 0, 100, READ),
        (11.0, 1, 5000, READ),
        (12.0, 0, 100, READ),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "5,a,100\n6,b,200,write\n7,a,100,read\n",
        "timestamp,size,object,op\n5,100,a,get\n6,200,b,set\n7,100,a,get\n",
        "# obj_id; time; obj_size; op\na;5;100;GET\nb;6;200;PUT\na;7;100;r\nc;8;1;delete\n",
    ],
)
def test_csv_with_and_without_a_header(tmp_path: Path, text: str) -> None:
    assert rows_of(load(tmp_path, "csv", text)) == [
        (5.0, 0, 100, READ),
        (6.0, 1, 200, WRITE),
        (7.0, 0, 100, READ),
    ]


def test_arc_counts_blocks(tmp_path: Path) -> None:
    trace = load(tmp_path, "arc", "10 3 0 1\n11 1 0 2\n")

    assert list(trace.pages) == [0, 1, 2, 1]
    assert set(trace.lengths) == {512}
    assert set(trace.sizes) == {4096}


def test_ids_without_times_are_spread_over_the_span(tmp_path: Path) -> None:
    trace = load(tmp_path, "u32le", struct.pack("<4I", 9, 8, 9, 2**32 - 1))

    assert list(trace.pages) == [0, 1, 0, 2]
    assert list(trace.times) == [number * DEFAULT_SPAN_S / 4 for number in range(4)]
    assert set(trace.sizes) == {UNIT_BYTES}
    assert not trace.has_times


def test_time_id_size(tmp_path: Path) -> None:
    assert rows_of(load(tmp_path, "time-id-size", "1 0 68\n2.5 x 7454\n# a remark\n\n")) == [
        (1.0, 0, 68, READ),
        (2.5, 1, 7454, READ),
    ]


def test_ibm_object_traces(tmp_path: Path) -> None:
    text = (
        "1219008 REST.PUT.OBJECT 8d4fcda3d675bac9 1056\n"
        "1221974 REST.HEAD.OBJECT 39d177fb735ac5df 528\n"
        "1232437 REST.GET.OBJECT 8d4fcda3d675bac9 1056 0 527\n"
        "1232488 REST.DELETE.OBJECT 8d4fcda3d675bac9\n"
    )
    trace = load(tmp_path, "snia-ibm", text)

    assert rows_of(trace) == [(1219.008, 0, 1056, WRITE), (1232.437, 0, 528, READ)]
    assert list(trace.shares) == [1.0, 0.5]


def test_swim(tmp_path: Path) -> None:
    text = "job0\t1\t1\t2267942\t0\t1937944\tinputPath1\t\t\njob1\t2\t1\t0\t0\t5\tinputPath1\n"

    assert rows_of(load(tmp_path, "swim", text)) == [(1.0, 0, 2267942, READ)]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_compressed_files_are_read_as_they_are(tmp_path: Path, pack: object) -> None:
    assert callable(pack)

    assert len(load(tmp_path, "time-id-size", pack(b"1 a 1\n2 b 2\n"))) == 2


def test_a_clock_that_jumps_back_stands_still(tmp_path: Path) -> None:
    assert list(load(tmp_path, "time-id-size", "5 a 1\n3 b 1\n6 c 1\n").times) == [5.0, 5.0, 6.0]


def test_a_few_broken_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("1 a 1\nbroken\n2 b 1\n3 c -1\n4 d 4 4\n")

    loaded = load_trace(path, "time-id-size")

    assert (len(loaded.trace), loaded.broken, loaded.ignored) == (2, 3, 0)
    assert loaded.first_broken is not None
    assert loaded.first_broken[0] == 2


def test_more_than_a_hundredth_of_broken_lines_is_refused_with_the_first(tmp_path: Path) -> None:
    text = "1 a 1\n" * 500 + "broken\n" * (BROKEN_FREE + 1) + "1 a 1\n" * 500

    reason = refuse(tmp_path, "time-id-size", text)

    assert "more than 1% of the lines are broken, the first is line 501: ValueError" in reason
    assert reason.endswith("is it time-id-size?")
    assert len(load(tmp_path, "time-id-size", text.replace("broken\n", "", 1))) == 1000


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    reason = refuse(tmp_path, "lirs", "1\n")

    assert reason == f"unknown format 'lirs'; known: {', '.join(FORMATS)}"


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_nothing_in_a_file_is_an_error(tmp_path: Path, form: str) -> None:
    assert refuse(tmp_path, form, b"") == f"holds no read or write in format {form}"


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\xff" * 4001,
        b"{" * 70_000,
        b"[" * 60_000 + b"\n",
        b'{"op": "GET", "name": 1, "size": 1e400, "time": "x"}\n' * 30,
        b"\xff\xfe\n" * 50,
        b"-1 -1 -1 -1\n" * 50,
        b"nan,nan,nan\n" * 50,
        b"PAR1" + b"\x00" * 40,
        b"1" * 5000 + b" 1 1 1\n",
    ],
)
def test_junk_is_refused_or_read_but_never_a_fault(tmp_path: Path, form: str, junk: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(junk)
    try:
        assert len(load_trace(path, form).trace) > 0
    except TraceInvalid as error:
        assert len(str(error)) < 1000  # noqa: PT017  # both outcomes are right


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_cut_off_file_says_so(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    text = "".join(f"{number} a{number * 7919} 1\n" for number in range(5000))

    assert "damaged after line" in refuse(tmp_path, "time-id-size", pack(text.encode())[:-20])
