"""Reads traces in the formats that are about, `.gz` and `.xz` included, as a stream.

    own             JSON lines or Parquet, as the access log writes them (docs/TIERING.md)
    oracleGeneral   24-byte records: time u32, id u64, size u32, next access i64, little-endian
    csv             libCacheSim: a header of column names, else time,id,size[,op]
    arc             start block, count, ignored, request number; a block is 512 bytes
    u32le           32-bit little-endian ids
    time-id-size    three columns in text
    snia-ibm        time in ms, REST.<VERB>.OBJECT, object, size[, first byte, last byte]
    swim            tab: job, submit s, gap s, input, shuffle, output bytes, input path

Broken lines are counted and left out while they are few; a file of which more than the stated share
is broken is refused, with the number of its first broken line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tiers.errors import TraceInvalid
from tiers.simulator.trace import (
    ACCESSES_MAX,
    DEFAULT_SPAN_S,
    READ,
    UNIT_BYTES,
    WRITE,
    Access,
    Trace,
    TraceBuilder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["BROKEN_SHARE_MAX", "FORMATS", "LoadedTrace", "load_trace"]

BROKEN_SHARE_MAX = 0.01
BROKEN_FREE = 10  # so many broken lines never refuse a file: a torn tail, a header
LINE_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 1 << 20
ARC_BLOCK_BYTES = 512
ARC_COUNT_MAX = 65_536  # blocks of one request: 32 MiB; more is no ARC trace
SIZE_BYTES_MAX = 1 << 60
_ORACLE = struct.Struct("<IQIq")
_READS = {"get", "gets", "read", "r", "rest.get.object", "0"}
_WRITES = {"put", "set", "write", "w", "rest.put.object", "add", "replace", "1"}

Parsed = Access | None
"""None for a line that is right and says nothing about reads and writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTrace:
    """A trace and what was left out of its file.

    Attributes:
        ignored: Lines that are neither reads nor writes of data.
        broken: Lines that could not be read.
        first_broken: Number of the first of them, from 1, and why; None where there is none.
    """

    trace: Trace
    ignored: int
    broken: int
    first_broken: tuple[int, str] | None


def load_trace(
    path: Path, form: str, *, span_s: float = DEFAULT_SPAN_S, pages_of: int | None = None
) -> LoadedTrace:
    """Reads a whole trace.

    Args:
        path: A file; compression is told from its first bytes.
        form: One of `FORMATS`.
        span_s: Over which to spread accesses that have no time.
        pages_of: Cut objects into pages of so many bytes; None moves them whole.

    Raises:
        TraceInvalid: Unknown format, no readable access, too many broken lines, damaged file.
        OSError: The file cannot be read.
    """
    reader = FORMATS.get(form)
    if reader is None:
        raise TraceInvalid(str(path), f"unknown format {form!r}; known: {', '.join(FORMATS)}")
    builder = TraceBuilder(span_s=span_s)
    ignored = broken = total = 0
    first_broken: tuple[int, str] | None = None
    try:
        with path.open("rb") as raw:
            for number, parsed in reader(_decompress(raw)):
                total = number
                if isinstance(parsed, Access):
                    _add(builder, parsed, pages_of, str(path))
                elif parsed is None:
                    ignored += 1
                else:
                    broken += 1
                    first_broken = first_broken or (number, parsed)
                    # A wrong format shows at once; do not read gigabytes of it.
                    if broken > BROKEN_FREE and broken > max(total, 1000) * BROKEN_SHARE_MAX:
                        break
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException) as error:
        raise TraceInvalid(str(path), f"damaged after line {total}: {error}") from error
    _judge(str(path), form, len(builder), broken, total, first_broken)
    return LoadedTrace(
        trace=builder.finish(), ignored=ignored, broken=broken, first_broken=first_broken
    )


def _judge(
    file: str,
    form: str,
    count: int,
    broken: int,
    total: int,
    first_broken: tuple[int, str] | None,
) -> None:
    if first_broken is not None:
        number, why = first_broken
        if count == 0 or (broken > BROKEN_FREE and broken > max(total, 1000) * BROKEN_SHARE_MAX):
            share = f"more than {BROKEN_SHARE_MAX:.0%} of the lines are broken"
            raise TraceInvalid(
                file, f"{share}, the first is line {number}: {why}; is it {form}?", line=number
            )
    if count == 0:
        raise TraceInvalid(file, f"holds no read or write in format {form}")


def _add(builder: TraceBuilder, access: Access, pages_of: int | None, file: str) -> None:
    if len(builder) >= ACCESSES_MAX:
        raise TraceInvalid(file, f"more than {ACCESSES_MAX} accesses; sample it first")
    if pages_of is None or access.size_bytes <= pages_of:
        builder.add(access)
        return
    length = access.size_bytes if access.length is None else access.length
    end = min(access.offset + length, access.size_bytes)
    for first in range(access.offset // pages_of, -(-end // pages_of)):  # rounded up
        start = first * pages_of
        builder.add(
            Access(
                time=access.time,
                name=access.name + first.to_bytes(8, "big"),
                size_bytes=min(pages_of, access.size_bytes - start),
                length=min(end, start + pages_of) - max(access.offset, start),
                op=access.op,
                client=access.client,
                offset=max(access.offset, start),
                object_name=access.name,
                weight=access.weight,
                is_stranger=access.is_stranger,
            )
        )


def _decompress(raw: io.BufferedReader) -> io.BufferedIOBase:
    magic = raw.peek(6)[:6]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if magic == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    return raw


Result = Iterator[tuple[int, Parsed | str]]
"""Line number and access, or None for one to ignore, or a text that says what is broken."""


def _iter_lines(stream: io.BufferedIOBase, parse: Callable[[str], Parsed]) -> Result:
    number = 0
    while line := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            yield number, f"longer than {LINE_BYTES_MAX} bytes"
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_BYTES_MAX)
            continue
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text or text.startswith("#"):
            yield number, None
            continue
        try:
            yield number, parse(text)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            yield number, f"{type(error).__name__}: {str(error)[:120]}"


def _text(parse: Callable[[str], Parsed]) -> Callable[[io.BufferedIOBase], Result]:
    return lambda stream: _iter_lines(stream, parse)


def _size(text: str) -> int:
    size = int(text)
    if not 0 <= size <= SIZE_BYTES_MAX:
        raise ValueError(f"size {size}")
    return size


def _time(text: str) -> float:
    time = float(text)
    if not 0 <= time < 1e12:
        raise ValueError(f"time {text}")
    return time


def _parse_time_id_size(line: str) -> Parsed:
    time, name, size = line.replace(",", " ").split()
    return Access(time=_time(time), name=name.encode(), size_bytes=_size(size))


def _parse_swim(line: str) -> Parsed:
    fields = line.split("\t")
    path, size = fields[6].strip(), _size(fields[3])
    _size(fields[5])
    if not path or size == 0:
        return None
    return Access(time=_time(fields[1]), name=path.encode(), size_bytes=size)


def _parse_ibm(line: str) -> Parsed:
    fields = line.split()
    time, verb, name = _time(fields[0]) / 1000.0, fields[1], fields[2]
    op = READ if verb == "REST.GET.OBJECT" else WRITE if verb == "REST.PUT.OBJECT" else None
    if op is None:
        if not verb.startswith("REST."):
            raise ValueError(f"verb {verb[:40]}")
        return None
    size = _size(fields[3])
    first, length = 0, size
    if len(fields) > 5:
        first = _size(fields[4])
        length = _size(fields[5]) - first + 1
        if length < 0 or first > size:
            raise ValueError(f"range {fields[4]}-{fields[5]} of {size}")
    return Access(
        time=time, name=name.encode(), size_bytes=size, length=length, op=op, offset=first
    )


def _read_arc(stream: io.BufferedIOBase) -> Result:
    for number, parsed in _iter_lines(stream, _parse_arc):
        if not isinstance(parsed, Access):
            yield number, parsed
            continue
        start, count = int(parsed.name), parsed.size_bytes
        for block in range(start, start + count):
            yield (
                number,
                Access(time=None, name=block.to_bytes(9, "big"), size_bytes=ARC_BLOCK_BYTES),
            )


def _parse_arc(line: str) -> Parsed:
    start, count, _, _ = line.split()
    blocks = int(count)
    if not 1 <= blocks <= ARC_COUNT_MAX or not 0 <= int(start) < 1 << 64:
        raise ValueError(f"{blocks} blocks from {start[:20]}")
    return Access(time=None, name=str(int(start)).encode(), size_bytes=blocks)


def _read_records(stream: io.BufferedIOBase, width: int) -> Iterator[tuple[int, bytes]]:
    """Records of a fixed width; the last is shorter where the file is cut off."""
    number, rest = 0, b""
    while chunk := stream.read(CHUNK_BYTES):
        rest += chunk
        whole = len(rest) // width * width
        for at in range(0, whole, width):
            number += 1
            yield number, rest[at : at + width]
        rest = rest[whole:]
    if rest:
        yield number + 1, rest


def _read_u32le(stream: io.BufferedIOBase) -> Result:
    for number, record in _read_records(stream, 4):
        if len(record) < 4:
            yield number, f"ends in the middle of an id, after {len(record)} bytes"
        else:
            yield number, Access(time=None, name=record)


def _read_oracle(stream: io.BufferedIOBase) -> Result:
    for number, record in _read_records(stream, _ORACLE.size):
        if len(record) < _ORACLE.size:
            yield number, f"ends in the middle of a record, after {len(record)} bytes"
            continue
        time, _, size, following = _ORACLE.unpack(record)
        # -1 and the largest number both stand for never; an earlier access is none.
        if following < -1:
            yield number, f"next access {following}"
        else:
            yield number, Access(time=float(time), name=record[4:12], size_bytes=size)


_COLUMNS = {
    "time": ("time", "timestamp", "ts", "clock_time"),
    "id": ("id", "obj", "object", "obj_id", "object_id", "key", "lbn", "lba"),
    "size": ("size", "obj_size", "object_size", "bytes"),
    "op": ("op", "operation", "command"),
}


def _read_csv(stream: io.BufferedIOBase) -> Result:
    places: dict[str, int] | None = None

    def parse(line: str) -> Parsed:
        assert places is not None
        fields = next(csv.reader([line], delimiter=";" if ";" in line else ","))
        if "op" in places and len(fields) > places["op"]:
            op = _op_of(fields[places["op"]])
            if op is None:
                return None
        else:
            op = READ
        time = _time(fields[places["time"]].strip()) if "time" in places else None
        size = _size(fields[places["size"]].strip()) if "size" in places else UNIT_BYTES
        name = fields[places["id"]].strip()
        if not name:
            raise ValueError("no id")
        return Access(time=time, name=name.encode(), size_bytes=size, op=op)

    first = stream.readline(LINE_BYTES_MAX)
    heads = [
        head.strip().strip('"').lower()
        for head in first.decode("utf-8", "replace").lstrip("#").replace(";", ",").split(",")
    ]
    found = {
        name: heads.index(known)
        for name, spellings in _COLUMNS.items()
        for known in spellings
        if known in heads
    }
    places = found if "id" in found else {"time": 0, "id": 1, "size": 2, "op": 3}
    if "id" not in found:
        yield from _iter_lines(io.BytesIO(first), parse)
    for number, parsed in _iter_lines(stream, parse):
        yield number + 1, parsed


def _op_of(text: str) -> int | None:
    word = text.strip().lower()
    return READ if word in _READS else WRITE if word in _WRITES else None


def _read_own(stream: io.BufferedIOBase) -> Result:
    if isinstance(stream, io.BufferedReader) and stream.peek(4)[:4] == b"PAR1":
        number = 0
        for batch in pq.ParquetFile(stream).iter_batches():
            for row in batch.to_pylist():
                number += 1
                try:
                    yield number, _parse_row(row)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    yield number, f"{type(error).__name__}: {str(error)[:120]}"
        return
    yield from _iter_lines(stream, _parse_json)


def _parse_json(line: str) -> Parsed:
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(row, dict):
        raise TypeError("no JSON object")
    return _parse_row(row)


def _parse_row(row: dict[str, object]) -> Parsed:
    op = _op_of(str(row["op"]))
    if op is None:
        return None
    size = _size(str(row["size"]))
    offset = _size(str(row.get("offset") or 0))
    length = row.get("length")
    name = str(row["name"]).encode("utf-8", "surrogatepass")
    client = row.get("client")
    return Access(
        time=_time(str(row["time"])),
        name=name,
        size_bytes=size,
        length=size if length is None else _size(str(length)),
        op=op,
        client=None if client is None else str(client),
        offset=offset,
        weight=_weight(row.get("weight")),
        is_stranger=row.get("stranger") is True,
    )


def _weight(value: object) -> float | None:
    if value is None:
        return None
    weight = float(str(value))
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"a weight of {weight}")
    return weight


FORMATS: dict[str, Callable[[io.BufferedIOBase], Result]] = {
    "own": _read_own,
    "oracleGeneral": _read_oracle,
    "csv": _read_csv,
    "arc": _read_arc,
    "u32le": _read_u32le,
    "time-id-size": _text(_parse_time_id_size),
    "snia-ibm": _text(_parse_ibm),
    "swim": _text(_parse_swim),
}
