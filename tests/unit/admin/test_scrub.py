"""The scrub over the admin API: orders that arrive, what is shown, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.admin_harness import AdminDesk


async def test_the_scrub_of_each_volume_is_shown(desk: AdminDesk) -> None:
    shown = await desk.call("GET", "/v1/scrub")

    volumes = shown["volumes"]
    assert isinstance(volumes, list)
    assert [(view["volume_id"], view["state"], view["percent"]) for view in volumes] == [
        (1, "running", 78),
        (2, "idle", 100),
    ]
    assert shown["objects"] == []
    assert shown["is_complete"] is True


@pytest.mark.parametrize(
    ("path", "body", "order", "action", "detail"),
    [
        ("/v1/scrub/start", {}, "start", "scrub start", ""),
        ("/v1/scrub/start", {"resume": True}, "resume", "scrub start", "resumed"),
        ("/v1/scrub/pause", None, "pause", "scrub pause", ""),
    ],
)
async def test_an_order_arrives_and_is_audited(
    desk: AdminDesk, path: str, body: object, order: str, action: str, detail: str
) -> None:
    await desk.call("POST", path, body)

    assert desk.scrub.orders == [order]
    entries = (await desk.call("GET", "/v1/audit"))["entries"]
    assert isinstance(entries, list)
    assert [(entry["action"], entry["detail"]) for entry in entries] == [(action, detail)]


@pytest.mark.parametrize("limit", ["-1", "1001", "99999", "x", ""])
async def test_a_limit_out_of_bounds_is_refused(desk: AdminDesk, limit: str) -> None:
    code, _ = await desk.refuse("GET", f"/v1/scrub?limit={limit}", status=400)

    assert code == "RequestInvalid"


async def test_an_empty_list_is_no_promise_while_pages_are_in_quarantine(desk: AdminDesk) -> None:
    desk.scrub.quarantined = 3

    shown = await desk.call("GET", "/v1/scrub?limit=0")

    assert shown["objects"] == []
    assert shown["is_complete"] is False
