"""How findings are told: counted beyond the bound, and by whom they hit."""

from __future__ import annotations

from appliance.fsck.records import (
    FINDINGS_MAX,
    FindingList,
    FsckFinding,
    Kind,
    Outcome,
    Owner,
    Severity,
    name_owners,
)

VERSION = Owner(tenant="acme", bucket="photos", key="key", version_id="null")
MANIFEST = Owner(tenant="acme", bucket="photos", key="key", version_id="null", of_manifest=True)


def lost_page() -> FsckFinding:
    findings = FindingList()
    findings.add(Kind.PAGE_LOST, where="somewhere", detail="rotten", body_id=1)
    return findings.list_findings()[0]


def test_findings_beyond_the_bound_are_counted_and_not_kept() -> None:
    findings = FindingList()

    for number in range(FINDINGS_MAX + 5):
        outcome = Outcome.REPAIRED if number % 2 else Outcome.FAILED
        findings.add(Kind.ORPHAN, where="", detail="", outcome=outcome)

    [count] = findings.count()
    assert len(findings.list_findings()) == FINDINGS_MAX
    assert (count.found, count.repaired) == (FINDINGS_MAX + 5, (FINDINGS_MAX + 5) // 2)
    assert findings.is_full


def test_a_manifest_that_is_lost_is_no_objects_loss() -> None:
    of_object = name_owners(lost_page(), (VERSION, MANIFEST))
    of_manifest = name_owners(lost_page(), (MANIFEST,))
    of_nobody = name_owners(lost_page(), ())

    assert of_object.severity is Severity.ERROR
    assert of_object.owners == (VERSION, MANIFEST)
    assert of_manifest.severity is Severity.WARNING
    assert "reads succeed" in of_manifest.meaning
    assert of_nobody == lost_page()
