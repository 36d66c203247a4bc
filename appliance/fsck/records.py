"""What fsck finds: kinds, how bad each is, what it means, and what can be done about it. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FINDINGS_MAX",
    "KIND_FACTS",
    "FindingList",
    "FsckFinding",
    "FsckReport",
    "Kind",
    "KindCount",
    "Outcome",
    "Owner",
    "Severity",
    "name_owners",
]

FINDINGS_MAX = 1_000  # told one by one; a lost segment alone has more than anybody reads


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Bytes or names that somebody stored are lost, or may be."""
    WARNING = "warning"
    """Nothing is lost, and it does not mend itself."""
    NOTE = "note"
    """Nothing is lost, and the next start of the server would mend it."""


class Outcome(enum.StrEnum):
    """What became of a finding."""

    FOUND = "found"
    """Nothing was tried: without `--repair`, or because nothing can be done."""
    REPAIRED = "repaired"
    CONTAINED = "contained"
    """The loss stands, and is on record where operators look."""
    FAILED = "failed"
    """The repair was tried and refused."""


class Kind(enum.StrEnum):
    """What is wrong. Part of the interface: scripts read it."""

    CATALOG_DAMAGED = "catalog-damaged"
    FOREIGN_KEY = "foreign-key"
    COUNTERS = "counters"
    REFERENCES = "references"
    BODY_MISSING = "body-missing"
    PAGES_MISSING = "pages-missing"
    CURRENT_VERSION = "current-version"
    VOLUME_UNUSABLE = "volume-unusable"
    VOLUME_UNKNOWN = "volume-unknown"
    SUPERBLOCK_COPY = "superblock-copy"
    UNKNOWN_FILE = "unknown-file"
    SCRATCH_FILE = "scratch-file"
    SEGMENT_HEADER = "segment-header"
    SEGMENT_FOREIGN = "segment-foreign"
    SEGMENT_TWICE = "segment-twice"
    SEGMENT_MISSING = "segment-missing"
    SEGMENT_EMPTY = "segment-empty"
    PAGE_LOST = "page-lost"
    PAGE_BLEMISHED = "page-blemished"
    PAGE_HEALABLE = "page-healable"
    SHADOW_BAD = "shadow-bad"
    SHADOW_MISPLACED = "shadow-misplaced"
    SHADOW_STRAY = "shadow-stray"
    OVERLAP = "overlap"
    ORPHAN = "orphan"
    QUARANTINE_STALE = "quarantine-stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """What every finding of a kind has in common.

    Attributes:
        meaning: In a sentence.
        remedy: What `--repair` does about it, or why nothing can be done and who can do what.
    """

    severity: Severity
    meaning: str
    remedy: str


KIND_FACTS: Mapping[Kind, KindFacts] = {
    Kind.CATALOG_DAMAGED: KindFacts(
        severity=Severity.ERROR,
        meaning="The database itself is damaged; what it says cannot be relied on.",
        remedy="None: volumes are not touched by the word of a damaged catalog. See `thermocline"
        " catalog copies`, then `thermocline catalog restore FILE`; without a good copy"
        " `thermocline fsck --rebuild-catalog`.",
    ),
    Kind.FOREIGN_KEY: KindFacts(
        severity=Severity.ERROR,
        meaning="A row names another one that is gone; what belonged to it cannot be reached.",
        remedy="None: nothing tells what the row was. `thermocline catalog restore` a copy.",
    ),
    Kind.COUNTERS: KindFacts(
        severity=Severity.WARNING,
        meaning="Counted usage is not what the rows add up to; quotas are judged wrongly.",
        remedy="Counts are set to the sum of the rows.",
    ),
    Kind.REFERENCES: KindFacts(
        severity=Severity.WARNING,
        meaning="A body's references are miscounted: it would never be freed, or too early.",
        remedy="The count is set to the rows that refer to it; a body nobody refers to is dead.",
    ),
    Kind.BODY_MISSING: KindFacts(
        severity=Severity.ERROR,
        meaning="An object's bytes have no row in the catalog; reading it fails.",
        remedy="None: the catalog knows no place of them. Write the object again, or delete it.",
    ),
    Kind.PAGES_MISSING: KindFacts(
        severity=Severity.ERROR,
        meaning="Pages of an object have no row in the catalog; reading them fails.",
        remedy="None: the catalog knows no place of them. Write the object again, or delete it.",
    ),
    Kind.CURRENT_VERSION: KindFacts(
        severity=Severity.WARNING,
        meaning="The version that a key's readers get is not its newest one.",
        remedy="The newest version is made the current one.",
    ),
    Kind.VOLUME_UNUSABLE: KindFacts(
        severity=Severity.ERROR,
        meaning="A volume cannot be opened; nothing on it can be read.",
        remedy="None: no page is given up for a volume that may come back. Mount it, or mend what"
        " is said, and check again.",
    ),
    Kind.VOLUME_UNKNOWN: KindFacts(
        severity=Severity.ERROR,
        meaning="Rows name a volume that this appliance never formatted.",
        remedy="None: nothing tells where the volume is.",
    ),
    Kind.SUPERBLOCK_COPY: KindFacts(
        severity=Severity.WARNING,
        meaning="One of the two copies of a volume's identity is damaged; the other one is in use.",
        remedy="The damaged copy is written anew from the intact one.",
    ),
    Kind.UNKNOWN_FILE: KindFacts(
        severity=Severity.WARNING,
        meaning="A file on a volume is nobody's; the server leaves it alone.",
        remedy="None: it may be somebody's. Move it away.",
    ),
    Kind.SCRATCH_FILE: KindFacts(
        severity=Severity.NOTE,
        meaning="A scratch file of a start that was cut off.",
        remedy="It is removed.",
    ),
    Kind.SEGMENT_HEADER: KindFacts(
        severity=Severity.WARNING,
        meaning="The first block of a segment is damaged; its records are read all the same.",
        remedy="The block is written anew from the file's name and the volume's identity.",
    ),
    Kind.SEGMENT_FOREIGN: KindFacts(
        severity=Severity.WARNING,
        meaning="A segment says that it was made on another volume.",
        remedy="None: it was copied or moved here by hand. Put it back where it belongs.",
    ),
    Kind.SEGMENT_TWICE: KindFacts(
        severity=Severity.ERROR,
        meaning="Two files have the id of one segment; only one of them is read.",
        remedy="None: nothing tells which one is right. Move away the one that was copied here.",
    ),
    Kind.SEGMENT_MISSING: KindFacts(
        severity=Severity.ERROR,
        meaning="The catalog names a segment that is not on its volume.",
        remedy="Its pages are listed as lost, but for those with a good second place.",
    ),
    Kind.SEGMENT_EMPTY: KindFacts(
        severity=Severity.WARNING,
        meaning="A segment that no row names, left by a crash between its last page and its end.",
        remedy="It is removed.",
    ),
    Kind.PAGE_LOST: KindFacts(
        severity=Severity.ERROR,
        meaning="A page's record is not what was written; reading that part of the object fails.",
        remedy="The page is set aside, so that `thermocline scrub status` names it; its bytes"
        " cannot be brought back. Write the object again, then delete the damaged version.",
    ),
    Kind.PAGE_BLEMISHED: KindFacts(
        severity=Severity.WARNING,
        meaning="Bytes beside a page's data changed; reads succeed, but the medium rots.",
        remedy="The page is set aside, so that `thermocline scrub status` names it. Write the"
        " object again, and watch the disk.",
    ),
    Kind.PAGE_HEALABLE: KindFacts(
        severity=Severity.WARNING,
        meaning="A page's first place does not hold it, its second one does: nothing is lost, but"
        " the medium rots.",
        remedy="The second place becomes the page's only one, the bad one is freed like any dead"
        " extent. Watch the disk.",
    ),
    Kind.SHADOW_BAD: KindFacts(
        severity=Severity.WARNING,
        meaning="A page's second place does not hold it; its first place counts.",
        remedy="The second place is given up, and freed like any dead extent; not so where the"
        " first place is bad too, which is told of by itself.",
    ),
    Kind.SHADOW_MISPLACED: KindFacts(
        severity=Severity.WARNING,
        meaning="A page's second place is on the same volume as its first one: it saves nothing,"
        " and where it is the very same place, freeing one would free the other.",
        remedy="The second place is given up; its bytes are freed unless another row names them.",
    ),
    Kind.SHADOW_STRAY: KindFacts(
        severity=Severity.WARNING,
        meaning="The catalog names a second place of a page that it does not know.",
        remedy="Where the body is gone as well, the place is given up and freed. Where the body"
        " lives it may be all that is left of the page: `thermocline catalog restore` a copy, or"
        " `thermocline fsck --rebuild-catalog`.",
    ),
    Kind.OVERLAP: KindFacts(
        severity=Severity.ERROR,
        meaning="Two rows name the same bytes; freeing one of them would destroy the other.",
        remedy="Where one of the two is dead its name is forgotten, so that it is never freed;"
        " of two live places at most one can be whole, and is read as long as it verifies.",
    ),
    Kind.ORPHAN: KindFacts(
        severity=Severity.NOTE,
        meaning="A record that no row names: never acknowledged, or newer than a restored catalog.",
        remedy="It is punched out, as the next start of the server does with those it has not"
        " looked at yet.",
    ),
    Kind.QUARANTINE_STALE: KindFacts(
        severity=Severity.NOTE,
        meaning="A page that was set aside verifies again.",
        remedy="It is taken out of the quarantine.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """An object, or an upload in progress, that a finding hits.

    Attributes:
        version_id: As S3 shows it; None for an upload and where only a record tells.
        upload_id: None for a version.
        of_manifest: True where no byte of it is hit, but what is said of it (or, without a key, of
            the bucket) to rebuild a catalog.
    """

    tenant: str
    bucket: str
    key: str
    version_id: str | None = None
    upload_id: str | None = None
    of_manifest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckFinding:
    """One thing that is wrong.

    Attributes:
        where: File, extent or row.
        detail: What was found there.
        meaning: What that is, in a sentence.
        remedy: What `--repair` does, or why nothing can be done.
        body_id: The body it is about, None where it is about none.
        page_index: 0-based page of that body.
        owners: Whose objects are hit, as far as anything tells.
    """

    kind: Kind
    severity: Severity
    where: str
    detail: str
    meaning: str
    remedy: str
    outcome: Outcome = Outcome.FOUND
    body_id: int | None = None
    page_index: int | None = None
    owners: tuple[Owner, ...] = ()


MANIFEST_LOST = KindFacts(
    severity=Severity.WARNING,
    meaning="A manifest is not what was written: reads succeed, but a rebuild of the catalog would"
    " not know what it says.",
    remedy="The page is set aside, so that `thermocline scrub status` names it. A change of"
    " what it states writes it anew.",
)
"""Of a `PAGE_LOST` that hits manifests alone."""


def name_owners(finding: FsckFinding, owners: tuple[Owner, ...]) -> FsckFinding:
    """The finding with whom it hits, told as what it is to them."""
    if finding.owners or not owners:
        return finding
    named = replace(finding, owners=owners)
    if finding.kind is not Kind.PAGE_LOST or not all(owner.of_manifest for owner in owners):
        return named
    return replace(
        named,
        severity=MANIFEST_LOST.severity,
        meaning=MANIFEST_LOST.meaning,
        remedy=MANIFEST_LOST.remedy,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCount:
    """How often a kind was found, and how often repaired."""

    kind: Kind
    severity: Severity
    found: int
    repaired: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """Everything that was found.

    Attributes:
        findings: At most `FINDINGS_MAX`; `counts` is of all.
        pages: Rows of live pages that were compared with their records.
        records: Records found by their headers.
        checked_bytes: Of records that were read in full.
        is_complete: False where something could not be looked at; a finding says what.
        is_repair: Whether repairs were asked for.
        with_data: Whether payloads were read, or headers alone.
    """

    findings: tuple[FsckFinding, ...]
    counts: tuple[KindCount, ...]
    pages: int
    records: int
    checked_bytes: int
    is_complete: bool
    is_repair: bool
    with_data: bool

    @property
    def found(self) -> int:
        """Findings in all."""
        return sum(count.found for count in self.counts)

    @property
    def left(self) -> int:
        """Findings that were not repaired."""
        return self.found - sum(count.repaired for count in self.counts)


class FindingList:
    """Gathers findings: the first ones whole, all of them counted."""

    def __init__(self) -> None:
        self._findings: list[FsckFinding] = []
        self._found: Counter[Kind] = Counter()
        self._repaired: Counter[Kind] = Counter()
        self.is_complete = True

    def add(  # noqa: PLR0913  # a finding's own fields
        self,
        kind: Kind,
        *,
        where: str,
        detail: str,
        outcome: Outcome = Outcome.FOUND,
        severity: Severity | None = None,
        body_id: int | None = None,
        page_index: int | None = None,
        owners: tuple[Owner, ...] = (),
    ) -> None:
        """Take one finding; `severity` where it is not the kind's own."""
        self._found[kind] += 1
        self._repaired[kind] += outcome is Outcome.REPAIRED
        if len(self._findings) >= FINDINGS_MAX:
            return
        facts = KIND_FACTS[kind]
        self._findings.append(
            FsckFinding(
                kind=kind,
                severity=severity or facts.severity,
                where=where,
                detail=detail,
                meaning=facts.meaning,
                remedy=facts.remedy,
                outcome=outcome,
                body_id=body_id,
                page_index=page_index,
                owners=owners,
            )
        )

    @property
    def is_full(self) -> bool:
        """Whether further findings are only counted."""
        return len(self._findings) >= FINDINGS_MAX

    def list_findings(self) -> list[FsckFinding]:
        """The first ones, in the order they were found."""
        return list(self._findings)

    def count(self) -> tuple[KindCount, ...]:
        """Every kind that was found, in the order of `Kind`."""
        return tuple(
            KindCount(
                kind=kind,
                severity=KIND_FACTS[kind].severity,
                found=self._found[kind],
                repaired=self._repaired[kind],
            )
            for kind in Kind
            if self._found[kind]
        )
