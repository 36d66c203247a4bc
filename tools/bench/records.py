"""What the benchmark measures and what it found, as values: workloads, samples, rows. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.bench.spread import Bound

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "Against",
    "Background",
    "Body",
    "Kind",
    "Metric",
    "Pace",
    "Row",
    "RowId",
    "Sample",
    "Side",
    "Skipped",
    "Target",
    "Workload",
    "choose_unit",
    "format_bytes",
    "format_digits",
    "format_figure",
]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Side(enum.Enum):
    """Who is measured. `OURS` is in every row, at most one of the others beside it."""

    OURS = "ours"
    PEER = "peer"  # rclone serve s3, same disk, same load
    FEW = "few"  # our server with 10^4 objects, beside `OURS` with 10^6
    QUIET = "quiet"  # our server without background work, beside `OURS` with it


class Kind(enum.Enum):
    """How a workload is driven; `tools.bench.scenarios` has one class for each."""

    READ = "wrk reads what was put before"
    WRITE = "wrk puts new keys"
    REMOVE = "wrk deletes what was put before"
    DOWNLOAD = "curl reads large objects"
    UPLOAD = "curl puts large objects"
    MULTIPART = "s5cmd puts one large object in parts"
    COPY_TREE = "rclone copies many small files"
    BACKUP = "restic backs up a tree"
    LIST = "wrk lists pages of 1,000 keys of a filled catalog"


class Body(enum.Enum):
    """How a PUT's body is signed."""

    PRESIGNED = "presigned URL, UNSIGNED-PAYLOAD"
    UNSIGNED = "header, UNSIGNED-PAYLOAD"
    SIGNED = "header, SHA-256 of the payload"
    CHUNKS_SIGNED = "aws-chunked, every chunk signed"
    CHUNKS_TRAILER = "aws-chunked, unsigned with CRC32 trailer"

    @property
    def is_presigned(self) -> bool:
        """True where the signature is in the URL."""
        return self is Body.PRESIGNED


class Background(enum.Enum):
    """Work of the server's own that runs beside the load."""

    SCRUB = "scrub"
    MIGRATOR = "migrator"


class Metric(enum.Enum):
    """Which figure of a sample a row is about, and its unit."""

    OPERATIONS_PER_S = "1/s"
    BYTES_PER_S = "B/s"
    MEDIAN_S = "median s"
    P99_S = "p99 s"

    @property
    def is_time(self) -> bool:
        """True where less is better."""
        return self in {Metric.MEDIAN_S, Metric.P99_S}


class Against(enum.Enum):
    """What a target's number is a ratio to."""

    CEILING = "of the ceiling"
    OTHER_SIDE = "x the other side"
    ROW = "x another row of ours"
    LIMIT = "in the row's own unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a row should reach.

    Attributes:
        against: What the number is a ratio to.
        bound: The number.
        rows: For `Against.ROW`: names of the rows; the best of them counts.
        metric: What is compared, where it is not the row's own metric.
        connections: The rows of the workload that it is for; empty is all.
    """

    against: Against
    bound: Bound
    rows: tuple[str, ...] = ()
    metric: Metric | None = None
    connections: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A family of rows that share a preparation and differ in the number of connections.

    Attributes:
        name: As `--only` has it.
        does: One sentence for the reader.
        kind: Who drives it.
        size_bytes: Of one object, file or range read.
        objects: How many are prepared, or how many files a tree has.
        connections: One row each.
        metric: What the row shows.
        ceilings: Names of `tools.bench.ceilings`; the smallest of them in a round is the ceiling.
        shown: More of them, measured with the row and shown, and no limit of it.
        beside: The side that is measured in turn with ours; None is nobody.
        targets: Of issue and design, where there are any.
        method: GET or HEAD, of `Kind.READ`.
        object_bytes: Size of the object a range is read from; 0 reads whole objects.
        is_cold: True reads every object once, after caches were emptied.
        body: How a PUT is signed.
        background: What our side does beside.
        catalog_objects: Rows that the catalog has before; `Side.FEW` has a hundredth.
    """

    name: str
    does: str
    kind: Kind
    size_bytes: int = 0
    objects: int = 0
    connections: tuple[int, ...] = (1, 16, 64)
    metric: Metric = Metric.OPERATIONS_PER_S
    ceilings: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    beside: Side | None = Side.PEER
    targets: tuple[Target, ...] = ()
    method: str = "GET"
    object_bytes: int = 0
    is_cold: bool = False
    body: Body = Body.PRESIGNED
    background: Background | None = None
    catalog_objects: int = 0

    @property
    def sides(self) -> tuple[Side, ...]:
        """Who is measured, ours first."""
        return (Side.OURS,) if self.beside is None else (Side.OURS, self.beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long and how often.

    Attributes:
        rounds: Samples of every side of every row.
        seconds: Of a sample, where it can be chosen.
        seconds_max: Of the whole run; None is no bound.
        keeps_servers: Go on with the servers of the workload before, and what they stored, where
            this one does not need its own. Quicker; rows then depend on those before them.
    """

    rounds: int
    seconds: float
    seconds_max: float | None = None
    keeps_servers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RowId:
    """One line of the table: a workload at a number of connections."""

    workload: str
    connections: int

    def __str__(self) -> str:
        """As targets and `--only` name it."""
        return f"{self.workload}@{self.connections}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One timed run of one side in one round.

    Attributes:
        operations: Objects, requests or files that were answered whole.
        payload_bytes: Their bodies.
        seconds: Of the whole run.
        median_s: Of one request, None where the generator does not say; likewise `p99_s`.
        device_read_bytes: What the server's process had read from devices meanwhile, None where
            the system does not tell; likewise `device_written_bytes`.
    """

    operations: int
    payload_bytes: int
    seconds: float
    median_s: float | None = None
    p99_s: float | None = None
    device_read_bytes: int | None = None
    device_written_bytes: int | None = None

    def figure(self, metric: Metric) -> float:
        """The figure that a metric names.

        Raises:
            LookupError: The generator of this sample gives no such figure.
        """
        found = {
            Metric.OPERATIONS_PER_S: self.operations / self.seconds,
            Metric.BYTES_PER_S: self.payload_bytes / self.seconds,
            Metric.MEDIAN_S: self.median_s,
            Metric.P99_S: self.p99_s,
        }[metric]
        if found is None:
            raise LookupError(f"no {metric.value} in this sample")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A row, or a side of it, that was not measured, and why."""

    row: str
    side: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Row:
    """What was found of one row.

    Attributes:
        samples: By side and round.
        ceilings: By name and round, in the unit of the ceiling.
        skipped: What is missing and why.
    """

    workload: Workload
    connections: int
    samples: dict[Side, dict[int, Sample]] = field(default_factory=dict)
    ceilings: dict[str, dict[int, float]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def row_id(self) -> RowId:
        """Its name."""
        return RowId(workload=self.workload.name, connections=self.connections)

    def figures(self, side: Side, metric: Metric) -> dict[int, float]:
        """One figure of one side in every round that has it."""
        return {number: item.figure(metric) for number, item in self.samples.get(side, {}).items()}


def format_bytes(count: int) -> str:
    """A size as names of workloads have it: 4KiB, 1GiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return f"{count}B"


def choose_unit(value: float, metric: Metric) -> tuple[float, str]:
    """What a figure is multiplied by to be read, and the unit that it then has."""
    if metric.is_time:
        return 1e3, "ms p99" if metric is Metric.P99_S else "ms"
    if metric is Metric.BYTES_PER_S:
        return 1e-6, "MB/s"
    return (1e-3, "k/s") if value >= 10_000 else (1.0, "/s")


def format_digits(value: float) -> str:
    """The digits that count: 1,234, 470, 14.2, 0.12."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def format_figure(value: float, metric: Metric) -> str:
    """One figure with its unit: `470 MB/s`."""
    factor, unit = choose_unit(value, metric)
    return f"{format_digits(value * factor)} {unit}"
