"""Plans, the state of tiering, explanations and drains over the admin API."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.admin.application import AdminApplication
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.records import VolumeRow
from appliance.catalog.volumes import insert_volume, list_volumes
from hal.records import Extent, SegmentId, VolumeId
from tests.admin_harness import VOLUMES, make_state, open_client
from tests.tiering_fixtures import DRAINING, OBJECTS, PAGES_EACH, fill
from tiers.decisions import Action
from tiers.move_records import MoveEntry, PageFlip
from tiers.records import PageId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.documents import VolumeView
    from tests.admin_harness import AdminDesk

GIB = 1 << 30
PAGES = OBJECTS * PAGES_EACH
FIRST = PageId(1 << 32)


@pytest.fixture
async def full(desk: AdminDesk) -> AdminDesk:
    """A catalog with objects, all of them on the fast tier."""
    await fill(desk.state.catalog)
    for number in range(PAGES):
        desk.tiering.priorities[PageId(FIRST + number)] = float(number)
    return desk


def records(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def record(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


async def test_a_plan_says_what_is_chosen_and_why_the_rest_stays(full: AdminDesk) -> None:
    made = await full.call("POST", "/v1/tier/plans", {"source": DRAINING, "file": "new.toml"})

    plan = record(made["plan"])
    assert (plan["policy"], plan["is_in_force"], plan["pages"]) == ("new.toml", False, PAGES)
    [down, default] = records(plan["rules"])
    assert (down["rule"], down["kind"], down["matched_pages"]) == ("down", "demote", PAGES)
    assert records(down["chosen"])[0]["action"] == "demote"
    assert default["matched_pages"] == 0
    [ssd, hdd] = records(plan["tiers"])
    assert ssd["used_after_bytes"] == 1900 * GIB - PAGES * 8192
    assert hdd["written_bytes"] == PAGES * 8192
    [hop] = records(plan["hops"])
    assert hop["seconds"] == PAGES * 8192 / (100 * 1024**2)
    assert made["before"] is None


async def test_a_plan_changes_nothing(full: AdminDesk) -> None:
    await full.call("POST", "/v1/tier/plans", {"source": DRAINING})

    assert full.tiering.submitted == {}
    assert records((await full.call("GET", "/v1/audit"))["entries"]) == []
    assert (await full.call("GET", "/v1/policy"))["revision"] is None


async def test_two_policies_are_compared(full: AdminDesk) -> None:
    made = await full.call("POST", "/v1/tier/plans", {"source": DRAINING, "compare": True})

    before = record(made["before"])
    assert (before["policy"], before["is_in_force"]) == ("default", True)
    assert (before["chosen_pages"], record(made["plan"])["chosen_pages"]) == (0, PAGES)


async def test_a_plan_of_the_policy_in_force_is_applied(full: AdminDesk) -> None:
    await full.call("PUT", "/v1/policy", {"source": DRAINING})
    plan = record((await full.call("POST", "/v1/tier/plans", {}))["plan"])
    assert plan["policy"] == "revision 1"

    done = await full.call("POST", f"/v1/tier/plans/{plan['plan_id']}/apply")

    assert (done["state"], done["done_pages"]) == ("done", PAGES)
    [runs] = full.tiering.submitted.values()
    assert sum(len(run.orders) for run in runs) == PAGES
    assert await full.call("GET", f"/v1/tier/plans/{plan['plan_id']}/progress") == done
    entries = records((await full.call("GET", "/v1/audit"))["entries"])
    assert (entries[0]["action"], entries[0]["subject"]) == ("tier apply", plan["plan_id"])
    again = await full.refuse("POST", f"/v1/tier/plans/{plan['plan_id']}/apply", status=404)
    assert again[0] == "NoSuchPlan"


async def test_a_plan_that_is_not_what_would_be_planned_is_refused(full: AdminDesk) -> None:
    plan = record((await full.call("POST", "/v1/tier/plans", {"source": DRAINING}))["plan"])
    path = f"/v1/tier/plans/{plan['plan_id']}/apply"

    code, message = await full.refuse("POST", path, status=409)
    assert (code, "made by a policy that is not in force" in message) == ("PlanStale", True)
    await full.call("PUT", "/v1/policy", {"source": DRAINING + "# the same\n"})
    full.tiering.fill("ssd", 1700 * GIB)
    code, message = await full.refuse("POST", path, status=409)
    assert (code, "ssd was 95.0% full" in message) == ("PlanStale", True)
    full.tiering.fill("ssd", 1900 * GIB)
    full.tiering.is_paused = True
    assert (await full.refuse("POST", path, status=409))[0] == "TieringPaused"
    full.tiering.is_paused = False
    await full.call("POST", path)


async def test_a_policy_with_faults_plans_nothing(full: AdminDesk) -> None:
    wrong = {"source": "version = 1\n[heat]\nhalf_lif = 3\n", "file": "p.toml"}

    code, message = await full.refuse("POST", "/v1/tier/plans", wrong, status=400)

    assert code == "PolicyInvalid"
    assert message.startswith("p.toml:3:1: heat.half_lif: unknown key")


async def test_a_policy_that_an_overlay_would_widen_plans_nothing(full: AdminDesk) -> None:
    narrow = 'version = 1\n[[rule]]\nid = "m"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
    await full.call("PUT", "/v1/policy", {"source": narrow, "tenant": "acme"})

    wide = {"source": DRAINING, "file": "p.toml"}
    code, _ = await full.refuse("POST", "/v1/tier/plans", wide, status=409)

    assert code == "OverlayUnfit"


async def test_plans_that_nobody_made_are_unknown(desk: AdminDesk) -> None:
    for method, path in (("POST", "apply"), ("GET", "progress")):
        code, message = await desk.refuse(method, f"/v1/tier/plans/p7/{path}", status=404)
        assert (code, "no plan p7 is kept" in message) == ("NoSuchPlan", True)


async def test_moves_are_paused_and_resumed(desk: AdminDesk) -> None:
    paused = await desk.call("POST", "/v1/tier/pause")
    assert (paused["state"], desk.tiering.is_paused) == ("paused", True)
    resumed = await desk.call("POST", "/v1/tier/resume")
    assert (resumed["state"], desk.tiering.is_paused) == ("running", False)
    entries = records((await desk.call("GET", "/v1/audit"))["entries"])
    assert [entry["action"] for entry in entries] == ["tier resume", "tier pause"]


async def test_trouble_is_shown(desk: AdminDesk) -> None:
    desk.tiering.has_trouble = True

    shown = await desk.call("GET", "/v1/tier")

    assert shown["failure"] == "the catalog is busy"
    assert records(shown["parked"])[0]["reason"] == "no room"
    assert shown["breaker_factor"] == 2.0


async def test_a_server_that_moves_nothing_says_so(desk: AdminDesk) -> None:
    state = make_state(desk.state.catalog, clock=desk.clock, keyring=desk.keyring, scrub=desk.scrub)
    async with open_client(AdminApplication(replace(state, tiering=None))) as client:
        for path in ("/v1/tier", "/v1/tier/explain/a/b/c"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "TieringOff")


async def explain(desk: AdminDesk, key: str = "logs%2F03", query: str = "") -> dict[str, object]:
    return await desk.call("GET", f"/v1/tier/explain/acme/b/{key}{query}")


async def test_a_page_is_explained(full: AdminDesk) -> None:
    found = await explain(full, query="?page=1")

    assert (found["tier"], found["page"], found["pages"]) == ("ssd", 1, PAGES_EACH)
    assert found["page_id"] == FIRST + 3 * PAGES_EACH + 1
    assert (found["arrived_by"], found["written_at"]) == ("written here", "2026-11-06T21:20:00Z")
    assert (found["priority"], found["percentile"], found["cut"]) == (7.0, 0.37, 3.25)
    assert (found["rule"], found["action"], found["stays"]) == ("demote", "stay", "not-needed")
    assert found["decision"] == (
        "stays: ssd is 95.0% full, and its coldest pages leave from 95.0% on until it is at 94.9%;"
        " its priority 7.00 (p37) (rule demote)"
    )
    assert found["moves"] == []


async def test_the_decision_is_the_planners(full: AdminDesk) -> None:
    await full.call("PUT", "/v1/policy", {"source": DRAINING})

    hot = await explain(full, query="?page=1")
    cold = await explain(full, key="logs%2F00")

    assert hot["decision"] == (
        "stays: priority 7.00 (p37) is above the cut line 3.25 of ssd; it sinks once it is not"
        " (rule down)"
    )
    assert cold["decision"] == (
        "leaves next, to hdd: priority 0.00 (p37) is not above the cut line 3.25 (rule down)"
    )
    assert (cold["action"], cold["stays"]) == ("demote", None)


async def move(desk: AdminDesk, number: int, entry: MoveEntry, *, at_us: int) -> None:
    """Let a page sink as the mover would."""
    ledger = SqlMoveLedger(desk.state.catalog)
    page_id = PageId(FIRST + number)
    found = (await ledger.find_pages([page_id]))[page_id]
    extent = Extent(VolumeId(2), SegmentId(7 << 24), (number + 1) * 8192, 8192)
    flip = PageFlip(page=found.page, shadow=None, extent=extent, new_shadow=None, entry=entry)
    assert list(await ledger.flip([flip], at_us=at_us)) == [True]


async def test_the_way_of_a_page_is_told(full: AdminDesk) -> None:
    entry = MoveEntry(action=Action.DEMOTE, rule="down", reason="among the coldest", plan="plan-7")
    await move(full, 6, entry, at_us=1_794_500_000_000_000)

    found = await explain(full)

    assert (found["tier"], found["volume_id"]) == ("hdd", 2)
    assert found["arrived_by"] == "demote by rule down, plan plan-7: among the coldest"
    assert found["arrived_at"] == "2026-11-12T16:13:20Z"
    [line] = records(found["moves"])
    assert (line["from_volume"], line["to_volume"], line["plan"]) == (1, 2, "plan-7")
    assert found["rule"] == "promote"
    assert found["decision"] == (
        "stays: the next read brings it to ssd: hotter than the cut line by the hysteresis"
        " (priority 7.00, needed 3.63) (rule promote)"
    )


async def test_the_class_that_was_asked_for_is_told(full: AdminDesk) -> None:
    found = await explain(full, key=f"logs%2F{OBJECTS - 1:02}")

    assert found["storage_class"] == "STANDARD_IA"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("acme/b/nothing", "NoSuchPage"),
        ("acme/b/logs%2F00?page=2", "NoSuchPage"),
        ("acme/b/logs%2F00?version=AAAA", "NoSuchPage"),
        ("acme/other/k", "NoSuchBucket"),
        ("nobody/b/k", "NoSuchTenant"),
    ],
)
async def test_what_does_not_exist_is_not_explained(full: AdminDesk, path: str, code: str) -> None:
    assert (await full.refuse("GET", f"/v1/tier/explain/{path}", status=404))[0] == code


@pytest.mark.parametrize("page", ["-1", "x", "", "9999999999"])
async def test_a_page_number_that_is_none_is_refused(full: AdminDesk, page: str) -> None:
    path = f"/v1/tier/explain/acme/b/logs%2F00?page={page}"
    assert (await full.refuse("GET", path, status=400))[0] == "RequestInvalid"


def add_volumes(desk: AdminDesk, *, free_bytes: int) -> None:
    """A second fast volume, for the first one to be emptied into."""
    second = replace(VOLUMES[0], volume_id=3, path="/srv/ssd two", free_bytes=free_bytes)
    views = [*VOLUMES, second]

    async def facts() -> Sequence[VolumeView]:
        await trio.lowlevel.checkpoint()
        return views

    object.__setattr__(desk.state, "list_volume_facts", facts)


async def register_third(desk: AdminDesk) -> None:
    row = VolumeRow(
        volume_id=VolumeId(3),
        uuid="00000000-0000-4000-8000-000000000003",
        tier="ssd",
        path="/srv/ssd two",
        created_us=1,
    )
    await desk.state.catalog.commit(partial(insert_volume, volume=row))


async def test_a_volume_is_emptied_and_removed(full: AdminDesk) -> None:
    add_volumes(full, free_bytes=GIB)
    await register_third(full)
    full.tiering.left_pages[VolumeId(3)] = 7

    started = await full.call("POST", "/v1/volumes/3/drain")
    assert (started["state"], started["left_pages"]) == ("draining", 7)
    assert full.tiering.draining == {3}
    assert (await full.call("POST", "/v1/volumes/3/drain")) == started
    code, message = await full.refuse("DELETE", "/v1/volumes/3", status=409)
    assert (code, "is not empty yet" in message) == ("VolumeNotEmpty", True)
    full.tiering.left_pages[VolumeId(3)] = 0
    full.drains.bare.add(3)
    assert (await full.call("GET", "/v1/volumes/3/drain"))["state"] == "empty"

    removed = await full.call("DELETE", "/v1/volumes/3")

    assert removed["state"] == "removed"
    assert full.tiering.draining == set()
    rows = await full.state.catalog.read(list_volumes)
    assert [(row.volume_id, row.state.value) for row in rows] == [
        (1, "active"),
        (2, "active"),
        (3, "removed"),
    ]
    assert (await full.refuse("POST", "/v1/volumes/3/drain", status=409))[0] == "VolumeRemoved"
    entries = records((await full.call("GET", "/v1/audit"))["entries"])
    assert [entry["action"] for entry in entries] == ["volume remove", "volume drain"]


async def test_a_volume_that_rows_still_name_is_not_removed(full: AdminDesk) -> None:
    add_volumes(full, free_bytes=GIB)
    await register_third(full)
    await full.call("POST", "/v1/volumes/1/drain")
    full.drains.bare.add(1)

    assert (await full.refuse("DELETE", "/v1/volumes/1", status=409))[0] == "VolumeNotEmpty"


async def test_a_drain_is_cancelled(full: AdminDesk) -> None:
    add_volumes(full, free_bytes=GIB)
    await register_third(full)
    await full.call("POST", "/v1/volumes/1/drain")

    cancelled = await full.call("DELETE", "/v1/volumes/1/drain")

    assert (cancelled["state"], full.tiering.draining) == ("active", set())
    for method, path in (("DELETE", "/drain"), ("GET", "/drain"), ("DELETE", "")):
        code, _ = await full.refuse(method, f"/v1/volumes/1{path}", status=409)
        assert code == "NotDraining"


async def test_the_last_volume_of_a_tier_is_not_emptied(full: AdminDesk) -> None:
    code, message = await full.refuse("POST", "/v1/volumes/1/drain", status=409)

    assert code == "LastVolume"
    assert "the last one of tier ssd that takes writes" in message


async def test_two_volumes_that_would_empty_into_each_other_are_not(full: AdminDesk) -> None:
    add_volumes(full, free_bytes=GIB)
    await register_third(full)
    await full.call("POST", "/v1/volumes/1/drain")

    assert (await full.refuse("POST", "/v1/volumes/3/drain", status=409))[0] == "LastVolume"


async def test_a_drain_without_room_is_refused(full: AdminDesk) -> None:
    add_volumes(full, free_bytes=PAGES * 8192 - 1)
    await register_third(full)

    code, message = await full.refuse("POST", "/v1/volumes/1/drain", status=409)

    assert code == "NoRoom"
    assert message == (
        "192KiB lie on volume 1, and the other volumes of tier ssd have 191.9KiB free"
    )


@pytest.mark.parametrize("name", ["9", "x", "-1", "123456"])
async def test_a_volume_that_does_not_exist_is_not_emptied(full: AdminDesk, name: str) -> None:
    code, message = await full.refuse("POST", f"/v1/volumes/{name}/drain", status=404)

    assert (code, "there are 1, 2" in message) == ("NoSuchVolume", True)
