"""What of the stored revisions is in force, and what may come into force."""

from __future__ import annotations

import pytest

from appliance.catalog.policies import ActiveRevisions, PolicyRevision
from appliance.policy_store import (
    DEFAULT_SOURCE,
    OverlayUnfit,
    Proposal,
    check_proposal,
    hash_source,
    judge_revisions,
)
from tenants.records import TenantId
from tiers.errors import PolicyInvalid
from tiers.policy import default_policy
from tiers.policy_file import parse_policy

EAGER = (
    'version = 1\n[[rule]]\nid = "up"\nfrom_pool = "hdd"\nto_pool = "ssd"\n{}'
    '[[rule]]\nid = "default"\nmanaged = true\n'
)
NARROW = (
    'version = 1\n[[rule]]\nid = "mine"\nfrom_pool = "hdd"\nto_pool = "ssd"\n'
    "insertion_threshold = 2\nhysteresis = 0.5\n"
)
TIERS = {"ssd": 100 << 30, "hdd": 1 << 40}


def make_revision(
    source: str, *, revision: int = 1, tenant: str | None = None, blake3: bytes | None = None
) -> PolicyRevision:
    return PolicyRevision(
        revision=revision,
        tenant_id=None if tenant is None else TenantId(revision),
        tenant=tenant,
        blake3=blake3 or hash_source(source),
        source=source,
        author="socket",
        note="",
        created_us=1,
        is_active=True,
    )


def stored(*revisions: PolicyRevision) -> ActiveRevisions:
    return ActiveRevisions(change_number=len(revisions), revisions=revisions)


def check(source: str, *revisions: PolicyRevision, tenant: str | None = None) -> list[str]:
    proposal = Proposal(source=source, tenant=tenant, file="p.toml")
    found = check_proposal(proposal, stored(*revisions), tier_bytes=TIERS)
    return [fault.format("p.toml") for fault in found]


def test_the_default_holds_without_a_revision_and_is_what_its_text_says() -> None:
    active = judge_revisions(stored())

    assert active.revision is None
    assert active.policy == default_policy()
    assert parse_policy(DEFAULT_SOURCE.encode()).policy == default_policy()


def test_an_overlay_is_in_force_for_its_tenant_only() -> None:
    policy = make_revision(EAGER.format(""), revision=1)

    active = judge_revisions(stored(policy, make_revision(NARROW, revision=2, tenant="acme")))

    assert (active.revision, active.failures) == (1, ())
    assert [rule.id for rule in active.policy_of("acme").rules] == ["mine", "up", "default"]
    assert active.policy_of("globex") is active.policy


def test_a_policy_that_does_not_parse_any_more_leaves_the_default_and_its_overlays() -> None:
    policy = make_revision("version = 1\n[heat]\nnew_field = 1\nother = 2\n", revision=4)

    active = judge_revisions(stored(policy, make_revision(NARROW, revision=5, tenant="acme")))

    assert active.revision is None
    assert active.policy == default_policy()
    assert "acme" in active.overlays
    [failure] = active.failures
    assert failure.startswith("revision 4:3:1: heat.new_field: unknown key")
    assert failure.endswith(" and 1 more; the default policy is in force instead")


def test_an_overlay_that_does_not_fit_leaves_the_policy() -> None:
    widening = NARROW.replace("0.5", "0.1")

    active = judge_revisions(stored(make_revision(widening, revision=3, tenant="acme")))

    assert active.policy_of("acme") == default_policy()
    [failure] = active.failures
    assert "revision 3:7:14: rule[1].hysteresis: an overlay may only narrow" in failure
    assert failure.endswith("the policy is in force without this overlay")


def test_a_text_that_was_changed_in_the_catalog_is_not_in_force() -> None:
    policy = make_revision(EAGER.format(""), blake3=hash_source(DEFAULT_SOURCE))

    [failure] = judge_revisions(stored(policy)).failures

    assert "the text in the catalog is not the one applied" in failure


def test_a_policy_is_checked_against_the_tiers_that_there_are() -> None:
    pinned = '[[rule]]\nid = "pin"\nfilter = {{ prefix = "a" }}\npin = "ssd"\npin_limit = "{}GiB"\n'
    text = EAGER.format("").replace("version = 1\n", "version = 1\n" + pinned)
    tier = '[[tier]]\nname = "nvme"\nstorage_class = "STANDARD"\n'

    assert check(text.format(50)) == []
    with pytest.raises(PolicyInvalid, match="more than 80% of its 100GiB"):
        check(text.format(90))
    with pytest.raises(PolicyInvalid, match="no volume is of the tier nvme"):
        check("version = 1\n" + tier)


def test_what_is_doubtful_is_told() -> None:
    pinned = EAGER.format("").replace(
        "version = 1\n", 'version = 1\n[[rule]]\nid = "a"\nfilter = { prefix = "a" }\npin = "ssd"\n'
    )

    [warning] = check(pinned)

    assert "a pin without pin_limit may fill ssd" in warning


def test_an_overlay_is_checked_against_the_policy_in_force() -> None:
    eager = make_revision(EAGER.format("hysteresis = 0.1\n"))
    narrow = NARROW.replace("0.5", "0.2")

    assert check(narrow, eager, tenant="acme") == []
    with pytest.raises(PolicyInvalid, match=r"p\.toml:7:14: .*: at least 0\.3"):
        check(narrow, tenant="acme")


def test_a_policy_that_an_overlay_does_not_narrow_is_refused_with_its_name() -> None:
    overlay = make_revision(NARROW, revision=9, tenant="acme")

    assert check(EAGER.format("hysteresis = 0.4\n"), overlay) == []
    with pytest.raises(OverlayUnfit) as caught:
        check(EAGER.format("hysteresis = 0.6\n"), overlay)
    assert (caught.value.tenant, caught.value.revision) == ("acme", 9)
    assert "the overlay of tenant acme (revision 9) does not fit it" in str(caught.value)
    assert "revision 9:7:14: rule[1].hysteresis" in str(caught.value)
