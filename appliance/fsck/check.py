"""One run of fsck: opens catalog and volumes, compares, and says what it found.

Without repairs nothing is opened for writing, so nothing can be written. With them the catalog is
looked at in the same way first: one that is damaged must not tell what to free.
"""

from __future__ import annotations

import contextlib
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog import fsck
from appliance.catalog.check import check_catalog
from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.damage import list_body_owners
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogDamaged
from appliance.catalog.ledger import SWEPT_EPOCH_SETTING
from appliance.catalog.records import VolumeState
from appliance.catalog.settings import find_setting
from appliance.catalog.view import CatalogView, describe_place
from appliance.catalog.volumes import list_volumes
from appliance.catalog.workers import fence_all
from appliance.fsck.catalog_rules import KIND_OF_CHECK, REPAIRED_BY_COUNTING, is_trustworthy
from appliance.fsck.comparison import Comparison
from appliance.fsck.records import (
    FindingList,
    FsckReport,
    Kind,
    Outcome,
    Owner,
    name_owners,
)
from appliance.fsck.repairs import Repairs
from appliance.fsck.volume_check import VolumeCheck
from appliance.identity import load_identity
from appliance.objects.pipeline import open_pipeline
from appliance.preflight import check_tables, explain_unusable
from appliance.storage import inspect_volume
from hal.buffers import AlignedBuffer
from hal.errors import HalError
from hal.geometry import RECORD_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from appliance.catalog.records import Finding, VolumeRow
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.fsck.comparison import ReadCatalog
    from appliance.settings import Settings
    from hal.records import SegmentRef, VolumeId
    from hal.volume import Volume

__all__ = ["run_fsck"]


async def run_fsck(
    settings: Settings,
    *,
    repair: bool,
    with_data: bool,
    clock: Clock,
    report: Callable[[int, int], None],
) -> FsckReport:
    """Compare everything, and repair what can be where asked for.

    Args:
        settings: Whose catalog and volumes; no server may be running.
        repair: Write; else not a byte changes.
        with_data: Read every payload; else headers alone, which finds lost and misdirected
            records and no rot.
        clock: Stamps what is set aside.
        report: Told bytes done and bytes in all, by segment.

    Raises:
        CatalogBusy: A server is running.
        CatalogUnavailable: There is no catalog, or it cannot be reached.
        SchemaMismatch: The catalog is another program's.
    """
    findings = FindingList()
    run = _Run(settings, findings, repair=repair, with_data=with_data, report=report)
    url = parse_url(settings.catalog.url)
    path = database_path(url) if is_sqlite(url) else None
    try:
        async with _open_view(settings, path) as view:
            await check_tables(view, path)
            known = await run.look_at_catalog(view.read)
            if known is not None and not repair:
                await run.compare(view.read, None)
    except CatalogDamaged as error:
        findings.is_complete = False
        where = describe_place(settings.catalog.url)
        findings.add(Kind.CATALOG_DAMAGED, where=where, detail=str(error))
        known = None
    if known is not None and repair:
        async with _open_catalog(settings, with_data=with_data) as catalog:
            repairs = Repairs(catalog, clock)
            await run.mend_catalog(catalog.read, repairs, known)
            await run.compare(catalog.read, repairs)
            await repairs.record(findings.count())
    return run.make_report()


@contextlib.asynccontextmanager
async def _open_view(settings: Settings, path: Path | None) -> AsyncIterator[CatalogView]:
    with explain_unusable(path):
        view = await CatalogView.open(settings.catalog.url)
    try:
        yield view
    finally:
        await view.aclose()


@contextlib.asynccontextmanager
async def _open_catalog(settings: Settings, *, with_data: bool) -> AsyncIterator[Catalog]:
    """The catalog for writing, with its committer running."""
    catalog = await Catalog.open(settings.catalog.url, flusher=_flush_nothing, readers=1)
    try:
        async with open_pipeline() as nursery:
            await nursery.start(catalog.run)
            # A server that had lost its connections when it was looked for must not come back and
            # name what is freed here.
            await catalog.commit(fence_all)
            yield catalog
            nursery.cancel_scope.cancel()
    finally:
        # After a crash the next start reads again what was written last; a run that read headers
        # alone does not stand in for that.
        is_sure = with_data or not catalog.was_unclean
        # Of PostgreSQL nobody can say how the last run ended: its next start always reads again.
        is_clean = is_sure or not is_sqlite(parse_url(settings.catalog.url))
        await catalog.aclose(is_clean=is_clean)


class _Run:
    """The findings of one run, and what they were found with."""

    def __init__(
        self,
        settings: Settings,
        findings: FindingList,
        *,
        repair: bool,
        with_data: bool,
        report: Callable[[int, int], None],
    ) -> None:
        self._settings = settings
        self._findings = findings
        self._is_repair = repair
        self._with_data = with_data
        self._report = report
        self._pages = 0
        self._records = 0
        self._checked_bytes = 0
        self._owners: Mapping[int, tuple[Owner, ...]] = {}

    async def look_at_catalog(self, read: ReadCatalog) -> list[Finding] | None:
        """The catalog against itself; None where it may not judge volumes, which ends the run."""
        found = await read(check_catalog)
        if is_trustworthy(found) and self._is_repair:
            return found  # told once it is known what became of them
        for finding in found:
            self._add(finding, Outcome.FOUND)
        if is_trustworthy(found):
            return found
        self._findings.is_complete = False
        return None

    async def mend_catalog(self, read: ReadCatalog, repairs: Repairs, found: list[Finding]) -> None:
        """Repair the catalog by its own rows, and tell what was found and what is left of it."""
        if not found:
            return
        left: set[tuple[str, str]] = set()
        if any(KIND_OF_CHECK[finding.kind] in REPAIRED_BY_COUNTING for finding in found):
            await repairs.settle_catalog()
            left = {(finding.kind, finding.subject) for finding in await read(check_catalog)}
        else:
            left = {(finding.kind, finding.subject) for finding in found}
        for finding in found:
            is_left = (finding.kind, finding.subject) in left
            self._add(finding, Outcome.FOUND if is_left else Outcome.REPAIRED)

    async def compare(self, read: ReadCatalog, repairs: Repairs | None) -> None:
        """The catalog against every volume, and every volume against the catalog."""
        identity = await read(load_identity)
        # A row that names a removed volume is as wrong as one that names no volume.
        known = await read(list_volumes)
        rows = [row for row in known if row.state is not VolumeState.REMOVED]
        await self._check_volume_names(read, rows)
        with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
            comparison = Comparison(
                read=read,
                findings=self._findings,
                repairs=repairs,
                with_data=self._with_data,
                swept_epoch=int(await read(partial(find_setting, name=SWEPT_EPOCH_SETTING)) or 0),
                target=buffer.view,
                report=self._report,
            )
            async with AsyncExitStack() as opened:
                volumes = await self._open_volumes(read, rows, identity.appliance_uuid, opened)
                comparison.volumes = {volume.volume_id: volume for volume in volumes}
                comparison.total_bytes = sum(
                    facts.size_bytes for volume in volumes for facts in volume.list_segments()
                )
                for volume in volumes:
                    await self._check_volume(volume, comparison)
            self._pages = comparison.pages
            self._records = comparison.records
            self._checked_bytes = comparison.checked_bytes
        await self._find_owners(read)

    def make_report(self) -> FsckReport:
        """What was found, with the owners as far as they are known."""
        return FsckReport(
            findings=tuple(
                finding
                if finding.body_id is None
                else name_owners(finding, self._owners.get(finding.body_id, ()))
                for finding in self._findings.list_findings()
            ),
            counts=self._findings.count(),
            pages=self._pages,
            records=self._records,
            checked_bytes=self._checked_bytes,
            is_complete=self._findings.is_complete,
            is_repair=self._is_repair,
            with_data=self._with_data,
        )

    def _add(self, finding: Finding, outcome: Outcome) -> None:
        kind = KIND_OF_CHECK[finding.kind]
        is_whole = kind is Kind.CATALOG_DAMAGED
        self._findings.add(
            kind,
            where=describe_place(self._settings.catalog.url) if is_whole else finding.subject,
            detail=finding.detail,
            outcome=outcome,
            body_id=finding.body_id,
        )

    async def _check_volume_names(self, read: ReadCatalog, rows: list[VolumeRow]) -> None:
        known = {row.volume_id for row in rows}
        after = -1
        while True:
            volume_id = await read(partial(fsck.find_next_volume, after=after))
            if volume_id is None:
                return
            if volume_id not in known:
                await self._add_unread(read, Kind.VOLUME_UNKNOWN, volume_id, f"volume {volume_id}")
            after = volume_id

    async def _open_volumes(
        self,
        read: ReadCatalog,
        rows: list[VolumeRow],
        appliance_uuid: UUID,
        opened: AsyncExitStack,
    ) -> list[Volume]:
        volumes: list[Volume] = []
        for row in rows:
            try:
                volumes.append(
                    await inspect_volume(
                        row,
                        self._settings.volumes,
                        appliance_uuid=appliance_uuid,
                        read_only=not self._is_repair,
                        resources=opened,
                    )
                )
            except HalError as error:
                await self._add_unread(
                    read, Kind.VOLUME_UNUSABLE, row.volume_id, row.path, str(error)
                )
        return volumes

    async def _check_volume(self, volume: Volume, comparison: Comparison) -> None:
        try:
            await VolumeCheck(volume, comparison).run()
        except HalError as error:
            await self._add_unread(
                comparison.read,
                Kind.VOLUME_UNUSABLE,
                volume.volume_id,
                volume.device.name,
                str(error),
            )

    async def _add_unread(
        self, read: ReadCatalog, kind: Kind, volume_id: VolumeId, where: str, reason: str = ""
    ) -> None:
        pages = await read(partial(fsck.count_volume_pages, volume_id=volume_id))
        spared = await read(partial(fsck.count_spared_pages, volume_id=volume_id))
        self._findings.is_complete = False
        reason = f"{reason}; " if reason else ""
        elsewhere = f", {spared} of them elsewhere as well" if spared else ""
        self._findings.add(kind, where=where, detail=f"{reason}{pages} pages lie there{elsewhere}")

    async def _find_owners(self, read: ReadCatalog) -> None:
        body_ids = {
            finding.body_id
            for finding in self._findings.list_findings()
            if finding.body_id is not None
        }

        def unit(connection: Connection) -> Mapping[int, tuple[Owner, ...]]:
            return {
                body_id: tuple(
                    Owner(
                        tenant=owner.tenant,
                        bucket=owner.bucket,
                        key=owner.key.decode("utf-8", errors="backslashreplace"),
                        version_id=owner.version_id,
                        upload_id=owner.upload_id,
                        of_manifest=owner.of_manifest,
                    )
                    for owner in owners
                )
                for body_id, owners in list_body_owners(connection, body_ids=body_ids).items()
            }

        if body_ids:
            self._owners = await read(unit)


async def _flush_nothing(segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    """No unit of a repair writes records."""
    assert not segments
    await trio.lowlevel.checkpoint()
    return {}
