"""A copy of the catalog over the admin API: made, audited, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.admin.application import AdminApplication
from appliance.catalog.errors import CatalogUnavailable
from hal.errors import DeviceFull
from tests.admin_harness import open_client

if TYPE_CHECKING:
    from appliance.copy_rules import CatalogCopy
    from tests.admin_harness import AdminDesk

PATH = "/srv/hdd one/catalog-copies/catalog-20261118T110640Z.db"


async def test_a_copy_is_told_and_audited(desk: AdminDesk) -> None:
    made = await desk.call("POST", "/v1/catalog/copy")

    assert made == {"path": PATH, "made_at": "2026-11-18T11:06:40Z", "size_bytes": 184_320}
    entries = (await desk.call("GET", "/v1/audit"))["entries"]
    assert isinstance(entries, list)
    assert [(entry["action"], entry["subject"]) for entry in entries] == [("catalog copy", PATH)]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DeviceFull("/srv/hdd", "no room for a copy"), 409, "CopyFailed"),
        (CatalogUnavailable("pg_dump is the way"), 503, "CatalogUnavailable"),
    ],
)
async def test_a_copy_that_fails_is_told_with_the_reason(
    desk: AdminDesk, error: Exception, status: int, code: str
) -> None:
    async def fail() -> CatalogCopy:
        await trio.lowlevel.checkpoint()
        raise error

    application = AdminApplication(replace(desk.state, copy_catalog=fail))
    async with open_client(application) as client:
        answer = await client.post("/v1/catalog/copy")

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert str(error) in answer.json()["error"]["message"]
