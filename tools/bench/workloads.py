"""The table of what is measured: names, sizes, ceilings, and the targets of the design. Pure data.

`--quick` measures the same names at a smaller scale; figures of the two are not to be compared.
"""

from __future__ import annotations

from dataclasses import replace

from tools.bench.records import (
    GIB,
    KIB,
    MIB,
    Against,
    Background,
    Body,
    Kind,
    Metric,
    Side,
    Target,
    Workload,
    format_bytes,
)
from tools.bench.spread import Bound

__all__ = ["WORKLOADS", "scale_down", "select"]

LARGE = GIB
_RESPONDER = "bare-head"
_LARGE_PUT = ("md5", "raw-write-4MiB")

# Objects of one preparation. Cold reads take each once, so there are as many as may be read in the
# time of a sample; hot ones fit any cache.
_COLD_OBJECTS = {4 * KIB: 60_000, 64 * KIB: 20_000, MIB: 2_000}
_HOT_OBJECTS = {4 * KIB: 1_000, 64 * KIB: 500, MIB: 64}
_NEW_KEYS = {4 * KIB: 60_000, 64 * KIB: 20_000, MIB: 4_000}


def _other(least: float, *connections: int) -> Target:
    return Target(
        against=Against.OTHER_SIDE, bound=Bound(least=least), connections=tuple(connections)
    )


def _ceiling(least: float, *connections: int) -> Target:
    return Target(against=Against.CEILING, bound=Bound(least=least), connections=tuple(connections))


_GROWTH = Target(against=Against.OTHER_SIDE, bound=Bound(most=2.0))
_BACKGROUND = Target(
    against=Against.OTHER_SIDE, bound=Bound(most=1.10), metric=Metric.P99_S, connections=(16,)
)


def _rate(size_bytes: int) -> Metric:
    return Metric.OPERATIONS_PER_S if size_bytes <= 4 * KIB else Metric.BYTES_PER_S


def _small_gets() -> list[Workload]:
    found = []
    for size, objects in _HOT_OBJECTS.items():
        text = format_bytes(size)
        found.append(
            Workload(
                name=f"get-{text}-hot",
                does=f"GET of {text} objects that were read before, presigned",
                kind=Kind.READ,
                size_bytes=size,
                objects=objects,
                metric=_rate(size),
                ceilings=(_RESPONDER,),
                shown=("bare-h11",),
                targets=(_other(1.0, 16),) if size == 4 * KIB else (),
            )
        )
        raw = "raw-read-4MiB" if size > 64 * KIB else f"raw-read-{text}"
        found.append(
            Workload(
                name=f"get-{text}-cold",
                does=f"GET of {text} objects from the device, each once, presigned",
                kind=Kind.READ,
                size_bytes=size,
                objects=_COLD_OBJECTS[size],
                metric=_rate(size),
                ceilings=(raw, _RESPONDER),
                is_cold=True,
            )
        )
    return found


def _small_puts() -> list[Workload]:
    return [
        Workload(
            name=f"put-{format_bytes(size)}",
            does=f"durable PUT of {format_bytes(size)} under new keys, presigned",
            kind=Kind.WRITE,
            size_bytes=size,
            objects=objects,
            metric=_rate(size),
            ceilings=("raw-sync-4KiB",) if size == 4 * KIB else _LARGE_PUT,
            shown=(f"raw-write-{format_bytes(size)}",) if size <= 64 * KIB else (),
            targets=(_other(2.0, 16), _other(1.0, 1)) if size == 4 * KIB else (),
        )
        for size, objects in _NEW_KEYS.items()
    ]


def _large() -> list[Workload]:
    best_put = Target(
        against=Against.ROW,
        bound=Bound(least=0.9),
        rows=("put-1GiB@1", "put-1GiB@16", "put-1GiB@64"),
        connections=(16,),
    )
    found = []
    for size, objects in ((16 * MIB, 32), (LARGE, 4)):
        text = format_bytes(size)
        is_largest = size == LARGE
        found += [
            Workload(
                name=f"put-{text}",
                does=f"durable PUT of {text}, unsigned payload",
                kind=Kind.UPLOAD,
                size_bytes=size,
                objects=1 if is_largest else 4,
                metric=Metric.BYTES_PER_S,
                ceilings=_LARGE_PUT,
                shown=("sha256", "blake3"),
                targets=(_ceiling(0.75, 1),) if is_largest else (best_put, _other(2.0, 16)),
            ),
            Workload(
                name=f"get-{text}-cold",
                does=f"GET of {objects} objects of {text} from the device, each once if enough",
                kind=Kind.DOWNLOAD,
                size_bytes=size,
                objects=objects,
                metric=Metric.BYTES_PER_S,
                ceilings=("raw-read-4MiB",),
                is_cold=True,
                targets=(_ceiling(0.95, 1),) if is_largest else (),
            ),
            Workload(
                name=f"get-{text}-hot",
                does=f"GET of one {text} object that was read before",
                kind=Kind.DOWNLOAD,
                size_bytes=size,
                objects=1,
                metric=Metric.BYTES_PER_S,
                ceilings=(_RESPONDER,),
                targets=(_other(2.0, 1),) if is_largest else (),
            ),
        ]
    found.append(
        Workload(
            name="put-1GiB-multipart",
            does="multipart PUT of 1 GiB in parts of 16 MiB, s5cmd with as many parts at once",
            kind=Kind.MULTIPART,
            size_bytes=LARGE,
            objects=1,
            connections=(1, 16),
            metric=Metric.BYTES_PER_S,
            ceilings=_LARGE_PUT,
        )
    )
    return found


def _ranges() -> list[Workload]:
    return [
        Workload(
            name="get-range-64KiB-cold",
            does="range GET of 64 KiB at random places of a 1 GiB object, each once, device",
            kind=Kind.READ,
            size_bytes=64 * KIB,
            objects=LARGE // (64 * KIB),
            object_bytes=LARGE,
            metric=Metric.BYTES_PER_S,
            ceilings=("raw-read-64KiB",),
            is_cold=True,
            targets=(_ceiling(0.6),),
        )
    ]


def _bodies() -> list[Workload]:
    names = {
        Body.UNSIGNED: "unsigned",
        Body.SIGNED: "signed",
        Body.CHUNKS_SIGNED: "aws-chunked",
        Body.CHUNKS_TRAILER: "trailer",
    }
    return [
        Workload(
            name=f"put-1MiB-{name}",
            does=f"durable PUT of 1 MiB to 32 keys in turn; {body.value}",
            kind=Kind.WRITE,
            size_bytes=MIB,
            objects=32,
            connections=(16,),
            metric=Metric.BYTES_PER_S,
            ceilings=_LARGE_PUT if body in {Body.UNSIGNED, Body.CHUNKS_TRAILER} else _SIGNED_PUT,
            body=body,
        )
        for body, name in names.items()
    ]


_SIGNED_PUT = (*_LARGE_PUT, "sha256")


def _small_others() -> list[Workload]:
    head_target = Target(
        against=Against.ROW, bound=Bound(least=1.2), rows=("get-4KiB-hot@16",), connections=(16,)
    )
    return [
        Workload(
            name="head",
            # wrk waits for the body that the answer to a HEAD announces: the objects have none.
            does="HEAD of empty objects that were asked for before, presigned",
            kind=Kind.READ,
            size_bytes=0,
            objects=1_000,
            ceilings=(_RESPONDER,),
            targets=(head_target,),
            method="HEAD",
        ),
        Workload(
            name="delete",
            does="durable DELETE of 4 KiB objects, each once, presigned",
            kind=Kind.REMOVE,
            size_bytes=4 * KIB,
            objects=20_000,
            ceilings=("raw-sync-4KiB",),
        ),
    ]


def _lists() -> list[Workload]:
    return [
        Workload(
            name="list-1000",
            does="LIST of 1,000 keys of 10,000 at random places",
            kind=Kind.LIST,
            connections=(1,),
            metric=Metric.MEDIAN_S,
            size_bytes=KIB,
            objects=10_000,
        ),
        Workload(
            name="list-1000-in-million",
            does="LIST of 1,000 keys of 1,000,000 at random places; beside: of 10,000",
            kind=Kind.LIST,
            connections=(1,),
            metric=Metric.MEDIAN_S,
            beside=Side.FEW,
            catalog_objects=1_000_000,
            targets=(Target(against=Against.LIMIT, bound=Bound(most=0.050)), _GROWTH),
        ),
    ]


def _clients() -> list[Workload]:
    return [
        Workload(
            name="rclone-copy",
            does="rclone copy of 20,000 files of 8 KiB, as many transfers as connections",
            kind=Kind.COPY_TREE,
            size_bytes=8 * KIB,
            objects=20_000,
            connections=(16,),
            ceilings=("raw-sync-4KiB",),
        ),
        Workload(
            name="restic-backup",
            does="restic backup of 2 GiB that does not compress, into a new repository",
            kind=Kind.BACKUP,
            size_bytes=64 * MIB,
            objects=32,
            connections=(5,),  # restic's own default for S3
            metric=Metric.BYTES_PER_S,
            ceilings=_LARGE_PUT,
        ),
    ]


def _beside_background() -> list[Workload]:
    found = []
    for work in Background:
        # Two rows that read and one that writes; the objects lie long enough for a pass to last.
        for name in ("get-4KiB-hot", "get-64KiB-cold", "put-4KiB"):
            plain = next(item for item in (*_small_gets(), *_small_puts()) if item.name == name)
            found.append(
                replace(
                    plain,
                    name=f"{name}-{work.value}",
                    does=f"{plain.does}; while {work.value} runs; beside: while it does not",
                    connections=(16,),
                    metric=Metric.P99_S,
                    ceilings=(),
                    shown=(),
                    beside=Side.QUIET,
                    background=work,
                    targets=(_BACKGROUND,),
                )
            )
    return found


def _growth() -> list[Workload]:
    found = []
    for name in ("get-4KiB-hot", "head", "put-4KiB"):
        plain = next(
            item for item in (*_small_gets(), *_small_puts(), *_small_others()) if item.name == name
        )
        found.append(
            replace(
                plain,
                name=f"{name}-million",
                does=f"{plain.does}; beside 1,000,000 other objects, and beside 10,000",
                connections=(16,),
                ceilings=(),
                shown=(),
                beside=Side.FEW,
                catalog_objects=1_000_000,
                targets=(),
            )
        )
    return found


WORKLOADS: tuple[Workload, ...] = (
    *_small_gets(),
    *_small_puts(),
    *_small_others(),
    *_ranges(),
    *_bodies(),
    *_lists(),
    *_beside_background(),
    *_growth(),
    *_clients(),
    *_large(),
)
"""In the order in which they run: the longest last, for a run that is bounded in time."""


_QUICK_BYTES = {LARGE: 64 * MIB, 16 * MIB: 8 * MIB, 64 * MIB: 2 * MIB}
_QUICK_OBJECTS_MAX = 3_000
_QUICK_CATALOG_MAX = 20_000
_QUICK_STORED_MAX = GIB


def scale_down(workload: Workload) -> Workload:
    """The same workload, small enough for a run of all of them in some minutes.

    Large objects are 64 MiB, 16 MiB ones are 8 MiB, counts end at 3,000 or a GiB, and of the
    numbers of connections only 16 stays, or the first where there is no 16.
    """
    connections = (16,) if 16 in workload.connections else workload.connections[:1]
    object_bytes = _QUICK_BYTES.get(workload.object_bytes, workload.object_bytes)
    size_bytes = _QUICK_BYTES.get(workload.size_bytes, workload.size_bytes)
    objects = min(workload.objects, _QUICK_OBJECTS_MAX, _QUICK_STORED_MAX // max(size_bytes, 1))
    if workload.object_bytes:
        objects = object_bytes // workload.size_bytes
    return replace(
        workload,
        does=f"{workload.does} (scaled down)",
        connections=connections,
        size_bytes=size_bytes,
        object_bytes=object_bytes,
        objects=objects,
        catalog_objects=min(workload.catalog_objects, _QUICK_CATALOG_MAX),
    )


def select(pattern: str | None, *, quick: bool) -> tuple[Workload, ...]:
    """The workloads whose names contain a pattern; several are separated by commas.

    Args:
        pattern: Parts of names, or of `name@connections`; None is all.
        quick: Scale down.

    Raises:
        LookupError: Nothing has such a name.
    """
    chosen: list[Workload] = []
    words = [word for word in (pattern or "").split(",") if word]
    for workload in WORKLOADS:
        item = scale_down(workload) if quick else workload
        kept = tuple(
            number
            for number in item.connections
            if not words or any(word in f"{item.name}@{number}" for word in words)
        )
        if kept:
            chosen.append(replace(item, connections=kept))
    if not chosen:
        raise LookupError(f"no workload is named like {pattern!r}")
    return tuple(chosen)
