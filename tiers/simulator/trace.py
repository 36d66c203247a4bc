"""A trace in memory: one row an access, in columns; about 30 bytes each.

A replay needs the future (MIN) and the sum of all sizes (`--ssd 10%`) before it begins, so a file
is read once, as a stream, into these columns.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

from tiers.temperature import access_weight

__all__ = [
    "ACCESSES_MAX",
    "DEFAULT_SPAN_S",
    "READ",
    "UNIT_BYTES",
    "WRITE",
    "Access",
    "Trace",
    "TraceBuilder",
]

READ, WRITE = 0, 1
ACCESSES_MAX = 200_000_000  # 5 GB of columns; sample a longer trace
DEFAULT_SPAN_S = 7 * 86_400.0
"""Over which a trace without times is spread: residency and cooling are hours of a week then."""
UNIT_BYTES = 4 << 20
"""Size of what a format gives no size for: a page."""
RECORD_BYTES = 4096  # a record takes whole blocks of this


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One line of a trace.

    Attributes:
        time: Seconds, None where the format has none.
        name: Of what is moved as one: an object, or a page of it.
        size_bytes: Of the whole of it.
        length: Bytes of it that were read.
        op: `READ` or `WRITE`.
        client: Who read; None where that is not known.
        offset: Of the first byte in its object.
        object_name: Its object, in the order of listings; `name` where that is the object.
        weight: That whoever wrote the trace gave the read, 0 for one that is part of a scan; None
            where that is to be found out.
        is_stranger: Whoever wrote the trace knew nothing else of the client.
    """

    time: float | None
    name: bytes
    size_bytes: int = UNIT_BYTES
    length: int | None = None
    op: int = READ
    client: str | None = None
    offset: int = 0
    object_name: bytes | None = None
    weight: float | None = None
    is_stranger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Columns of equal length, and what is known of each page.

    Attributes:
        pages: Page of each access, 0-based in the order of first appearance.
        times: Seconds, never falling.
        lengths: Bytes read or written.
        shares: Those bytes as a share of what could be read, 0 to 1.
        ops: `READ` or `WRITE`.
        clients: Index into `client_names` plus 1; 0 for unknown.
        offsets: Of the first byte in the object.
        weights: Of the reads that say so, 0 to 1; nan for all others.
        strangers: 1 for a read that says that its client was not known.
        sizes: Of each page, its largest, in whole blocks.
        objects: Name of the object of each page.
        has_times: The times are the trace's own.
    """

    pages: array[int]
    times: array[float]
    lengths: array[int]
    shares: array[float]
    ops: bytearray
    clients: array[int]
    offsets: array[int]
    weights: array[float]
    strangers: bytearray
    sizes: array[int]
    objects: list[bytes]
    client_names: list[str]
    has_times: bool

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def footprint_bytes(self) -> int:
        """Sizes of all pages together."""
        return sum(self.sizes)


class TraceBuilder:
    """Makes a trace of accesses as they come.

    Args:
        span_s: Over which to spread accesses without a time.
    """

    def __init__(self, *, span_s: float) -> None:
        self._span_s = span_s
        self._ids: dict[bytes, int] = {}
        self._client_ids: dict[str, int] = {}
        self._latest = 0.0
        self._timed = 0
        self._trace = Trace(
            pages=array("I"),
            times=array("d"),
            lengths=array("Q"),
            shares=array("f"),
            ops=bytearray(),
            clients=array("I"),
            offsets=array("Q"),
            weights=array("f"),
            strangers=bytearray(),
            sizes=array("Q"),
            objects=[],
            client_names=[],
            has_times=True,
        )

    def __len__(self) -> int:
        return len(self._trace)

    def add(self, access: Access) -> None:
        """Append an access; a time before the latest counts as the latest."""
        trace = self._trace
        page = self._ids.setdefault(access.name, len(self._ids))
        size = max(-(-access.size_bytes // RECORD_BYTES), 1) * RECORD_BYTES  # rounded up
        if page == len(trace.sizes):
            trace.sizes.append(size)
            trace.objects.append(access.object_name or access.name)
        elif size > trace.sizes[page]:
            trace.sizes[page] = size
        if access.time is not None:
            self._timed += 1
            self._latest = max(self._latest, access.time)
        trace.pages.append(page)
        trace.times.append(self._latest)
        length = access.size_bytes if access.length is None else access.length
        trace.lengths.append(length)
        trace.shares.append(access_weight(length, access.size_bytes))
        trace.ops.append(access.op)
        trace.offsets.append(access.offset)
        trace.weights.append(math.nan if access.weight is None else access.weight)
        trace.strangers.append(access.is_stranger)
        trace.clients.append(self._find_client(access.client))

    def _find_client(self, client: str | None) -> int:
        if client is None:
            return 0
        number = self._client_ids.setdefault(client, len(self._client_ids))
        if number == len(self._trace.client_names):
            self._trace.client_names.append(client)
        return number + 1

    def finish(self) -> Trace:
        """The trace; where not every access has a time, all are spread evenly."""
        trace = self._trace
        count = len(trace)
        if self._timed == count:
            return trace
        step = self._span_s / max(count, 1)
        times = array("d", (number * step for number in range(count)))
        return Trace(
            pages=trace.pages,
            times=times,
            lengths=trace.lengths,
            shares=trace.shares,
            ops=trace.ops,
            clients=trace.clients,
            offsets=trace.offsets,
            weights=trace.weights,
            strangers=trace.strangers,
            sizes=trace.sizes,
            objects=trace.objects,
            client_names=trace.client_names,
            has_times=False,
        )
