"""The policy through the admin API."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog.policies import REVISIONS_KEPT, begin_change, load_active
from appliance.policy_store import DEFAULT_SOURCE, PolicyStore
from tests.admin_harness import open_admin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from appliance.catalog.policies import ActiveRevisions
    from tests.admin_harness import AdminDesk
    from tiers.errors import PolicyFault

A, B = 'version = 1\n[heat]\nhalf_life = "1d"\n', 'version = 1\n[heat]\nhalf_life = "2d"\n'
NARROW = (
    'version = 1\n[[rule]]\nid = "mine"\nfrom_pool = "hdd"\nto_pool = "ssd"\nhysteresis = 0.5\n'
)
SHY = (
    'version = 1\n[[rule]]\nid = "up"\nfrom_pool = "hdd"\nto_pool = "ssd"\nhysteresis = 0.6\n'
    '[[rule]]\nid = "default"\nmanaged = true\n'
)


async def apply(desk: AdminDesk, source: str, **fields: object) -> dict[str, object]:
    return await desk.call("PUT", "/v1/policy", {"source": source, "file": "p.toml", **fields})


async def actions(desk: AdminDesk) -> list[tuple[str, str, str]]:
    entries = (await desk.call("GET", "/v1/audit"))["entries"]
    assert isinstance(entries, list)
    return [(entry["action"], entry["subject"], entry["detail"]) for entry in entries]


async def in_force(desk: AdminDesk) -> object:
    return (await desk.call("GET", "/v1/status"))["policy_revision"]


async def test_without_a_file_the_default_is_shown(desk: AdminDesk) -> None:
    shown = await desk.call("GET", "/v1/policy")

    assert shown == {"revision": None, "source": DEFAULT_SOURCE}
    assert await in_force(desk) is None


async def test_an_applied_file_is_in_force_at_once_and_audited(desk: AdminDesk) -> None:
    done = await apply(desk, A, note="quieter nights")

    assert done == {"revision": 1, "is_new": True, "is_dry_run": False, "warnings": []}
    assert desk.state.policies.active().policy.heat.half_life_s == 86_400
    assert await in_force(desk) == 1
    shown = await desk.call("GET", "/v1/policy")
    assert shown["source"] == A
    revision = shown["revision"]
    assert isinstance(revision, dict)
    assert (revision["author"], revision["note"]) == ("tcp:127.0.0.1", "quieter nights")
    [(action, subject, detail)] = await actions(desk)
    assert (action, subject) == ("policy apply", "appliance")
    assert detail == f"{revision['blake3'][:12]} quieter nights"


async def test_an_equal_file_makes_no_revision_and_a_dry_run_nothing(desk: AdminDesk) -> None:
    tried = await apply(desk, A, dry_run=True)
    await apply(desk, A)
    again = await apply(desk, A, note="again")

    assert tried == {"revision": None, "is_new": True, "is_dry_run": True, "warnings": []}
    assert again == {"revision": 1, "is_new": False, "is_dry_run": False, "warnings": []}
    assert len(await actions(desk)) == 1


async def test_a_file_with_faults_is_refused_with_all_of_them(desk: AdminDesk) -> None:
    body = {"source": "version = 1\nx = 1\n[heat]\nhalf_lief = 2\n", "file": "p.toml"}

    error = (await desk.call("PUT", "/v1/policy", body, status=400))["error"]

    assert isinstance(error, dict)
    assert error["code"] == "PolicyInvalid"
    assert error["message"] == "\n".join(error["fields"])
    assert len(error["fields"]) == 2
    assert "p.toml:4:1: heat.half_lief: unknown key; did you mean half_life?" in error["fields"]
    assert await in_force(desk) is None


async def test_the_servers_own_tiers_are_what_counts(desk: AdminDesk) -> None:
    other = 'version = 1\n[[tier]]\nname = "nvme"\nstorage_class = "STANDARD"\n'

    code, message = await desk.refuse("PUT", "/v1/policy", {"source": other}, status=400)

    assert code == "PolicyInvalid"
    assert "no volume is of the tier nvme" in message


async def test_what_is_no_text_is_refused(desk: AdminDesk) -> None:
    for body in ({"source": A, "note": "a\nb"}, {"source": A, "note": "a\0"}):
        assert (await desk.refuse("PUT", "/v1/policy", body, status=400))[0] == "RequestInvalid"
    lone = b'{"source": "version = 1\\ud800"}'
    answer = await desk.client.request("PUT", "/v1/policy", content=lone)
    assert answer.status_code == 400
    assert (await desk.refuse("GET", "/v1/policy?revision=x", status=400))[0] == "RequestInvalid"


async def test_an_older_revision_comes_back_and_is_audited(desk: AdminDesk) -> None:
    await apply(desk, A)
    await apply(desk, B)

    back = await desk.call("POST", "/v1/policy/rollback", {"revision": 1})

    assert (back["revision"], back["is_active"]) == (1, True)
    assert await in_force(desk) == 1
    found = (await desk.call("GET", "/v1/policy/revisions"))["revisions"]
    assert isinstance(found, list)
    assert [(item["revision"], item["is_active"]) for item in found] == [(2, False), (1, True)]
    assert (await actions(desk))[0] == ("policy rollback", "appliance", "to revision 1")
    refused = await desk.refuse("POST", "/v1/policy/rollback", {"revision": 1}, status=409)
    assert refused[0] == "RevisionActive"
    refused = await desk.refuse("POST", "/v1/policy/rollback", {"revision": 7}, status=404)
    assert refused[0] == "NoSuchRevision"
    shown = await desk.call("GET", "/v1/policy?revision=2")
    assert shown["source"] == B


async def test_a_revision_that_an_overlay_does_not_narrow_does_not_come_back(
    desk: AdminDesk,
) -> None:
    await desk.call("POST", "/v1/tenants", {"name": "acme"}, status=201)
    await apply(desk, SHY)
    await apply(desk, A)
    await apply(desk, NARROW, tenant="acme")

    code, message = await desk.refuse("POST", "/v1/policy/rollback", {"revision": 1}, status=409)

    assert code == "OverlayUnfit"
    assert "the overlay of tenant acme (revision 3) does not fit it" in message
    body = {"source": SHY}
    assert (await desk.refuse("PUT", "/v1/policy", body, status=409))[0] == "OverlayUnfit"
    assert await in_force(desk) == 2


async def test_an_overlay_that_widens_by_now_does_not_come_back(desk: AdminDesk) -> None:
    await desk.call("POST", "/v1/tenants", {"name": "acme"}, status=201)
    await apply(desk, NARROW, tenant="acme")
    await apply(desk, NARROW.replace("0.5", "0.7"), tenant="acme")
    await apply(desk, SHY)
    body = {"revision": 1, "tenant": "acme"}

    code, message = await desk.refuse("POST", "/v1/policy/rollback", body, status=409)

    assert code == "PolicyInvalid"
    assert message.startswith("revision 1:6:14: rule[1].hysteresis: an overlay may only narrow")
    found = await desk.call("GET", "/v1/policy?tenant=acme")
    assert "0.7" in str(found["source"])
    assert (await desk.call("GET", "/v1/status"))["policy_failures"] == []


async def test_an_overlay_is_its_tenants_alone_and_ends_with_it(desk: AdminDesk) -> None:
    await desk.call("POST", "/v1/tenants", {"name": "acme"}, status=201)
    path = "/v1/policy?tenant=acme"
    assert (await desk.refuse("GET", path, status=404))[0] == "NoSuchRevision"

    await apply(desk, NARROW, tenant="acme")

    assert (await desk.call("GET", path))["source"] == NARROW
    assert (await desk.call("GET", "/v1/policy"))["revision"] is None
    assert list(desk.state.policies.active().overlays) == ["acme"]
    assert (await actions(desk))[0][:2] == ("policy apply", "acme:overlay")
    body = {"source": NARROW, "tenant": "nobody"}
    assert (await desk.refuse("PUT", "/v1/policy", body, status=404))[0] == "NoSuchTenant"
    await desk.call("DELETE", "/v1/tenants/acme")
    await desk.call("POST", "/v1/tenants", {"name": "acme"}, status=201)
    assert not desk.state.policies.active().overlays
    assert (await desk.refuse("GET", path, status=404))[0] == "NoSuchRevision"


async def test_two_changes_at_once_are_not_judged_against_each_others_past(
    desk: AdminDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = PolicyStore.check

    async def overtaken(
        self: PolicyStore, proposal: object, stored: ActiveRevisions, *, tier_bytes: object
    ) -> tuple[PolicyFault, ...]:
        del proposal, tier_bytes
        unit = partial(begin_change, expected=stored.change_number)
        assert await desk.state.catalog.commit(unit)
        del self
        return ()

    monkeypatch.setattr(PolicyStore, "check", overtaken)
    refused = await desk.refuse("PUT", "/v1/policy", {"source": A}, status=409)
    monkeypatch.setattr(PolicyStore, "check", check)

    assert refused[0] == "PolicyChanged"
    assert (await desk.state.catalog.read(load_active)).revisions == ()
    assert await actions(desk) == []
    assert (await apply(desk, A))["is_new"] is True


async def test_the_last_ones_are_listed(desk: AdminDesk) -> None:
    for days in range(1, REVISIONS_KEPT + 3):
        await apply(desk, A.replace("1d", f"{days}d"))

    found = (await desk.call("GET", "/v1/policy/revisions"))["revisions"]

    assert isinstance(found, list)
    numbers = [item["revision"] for item in found]
    assert numbers == list(range(REVISIONS_KEPT + 2, 2, -1))


async def test_a_restart_finds_it_and_says_what_does_not_parse(
    catalog_template: Path, tmp_path: Path
) -> None:
    def spoil(connection: object) -> None:
        connection.exec_driver_sql("UPDATE policy_revisions SET source = 'version = 2'")  # type: ignore[attr-defined]  # SQLAlchemy is the catalog's

    failures: list[str] = []
    async with open_admin(catalog_template, tmp_path) as desk:
        await apply(desk, A)
        restarted = PolicyStore(desk.state.catalog, on_failure=failures.append)
        await restarted.load()
        assert (restarted.active().revision, failures) == (1, [])
        await desk.state.catalog.commit(spoil)
        await restarted.load()
        await desk.state.policies.load()
        status: Mapping[str, object] = await desk.call("GET", "/v1/status")

    assert restarted.active().revision is None
    [failure] = failures
    assert failure.startswith("revision 1:1:1:")
    assert failure.endswith("the default policy is in force instead")
    assert (status["policy_revision"], status["policy_failures"]) == (None, [failure])
