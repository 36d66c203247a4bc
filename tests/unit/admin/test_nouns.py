"""The nouns: what each verb answers, refuses, audits, and makes effective at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.admin import units
from appliance.catalog.keys import find_key
from tenants.records import AccessKeyId
from tests.admin_harness import APPLIANCE_UUID, VOLUMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.catalog.unit import Connection
    from tests.admin_harness import AdminDesk

SECRET = "vX93kd02LmqT7rBz5WnYcE81"


async def make_tenant(desk: AdminDesk, name: str = "demo", **quota: object) -> None:
    await desk.call("POST", "/v1/tenants", {"name": name, "quota": quota}, status=201)


async def make_key(desk: AdminDesk, tenant: str = "demo", **wanted: object) -> dict[str, object]:
    return await desk.call("POST", f"/v1/tenants/{tenant}/keys", wanted, status=201)


async def list_of(desk: AdminDesk, path: str, name: str) -> Sequence[dict[str, object]]:
    items = (await desk.call("GET", path))[name]
    assert isinstance(items, list)
    return items


async def stored_secret(desk: AdminDesk, access_key_id: str) -> str:
    def unit(connection: Connection) -> tuple[int, bytes]:
        found = find_key(connection, access_key_id=AccessKeyId(access_key_id))
        assert found is not None
        return found[0].tenant_id, found[1]

    tenant_id, sealed = await desk.state.catalog.read(unit)
    return desk.state.secret_box.unseal(tenant_id, access_key_id, sealed)


async def test_a_tenant_is_created_with_its_root_user_and_no_key(desk: AdminDesk) -> None:
    made = await desk.call("POST", "/v1/tenants", {"name": "demo"}, status=201)

    assert made["state"] == "active"
    assert len(str(made["canonical_id"])) == 64
    assert made["quota"] == {"bytes_max": None, "objects_max": None, "buckets_max": 1000}
    users = await list_of(desk, "/v1/tenants/demo/users", "users")
    assert [user["arn"] for user in users] == ["arn:aws:iam::demo:user/root"]
    assert await list_of(desk, "/v1/tenants/demo/keys", "keys") == []


async def test_a_tenant_may_have_no_limit_of_buckets_where_that_is_said(desk: AdminDesk) -> None:
    await make_tenant(desk, buckets_max="none", bytes_max=2**40)

    shown = await desk.call("GET", "/v1/tenants/demo")

    assert shown["quota"] == {"bytes_max": 2**40, "objects_max": None, "buckets_max": None}


@pytest.mark.parametrize("name", ["", "Demo", "a b", "a--b", "-a", "a" * 64, "a/b", "é", "a\nb"])
async def test_a_tenant_of_a_bad_name_is_refused(desk: AdminDesk, name: str) -> None:
    code, _ = await desk.refuse("POST", "/v1/tenants", {"name": name}, status=400)

    assert code == "NameInvalid"
    assert await list_of(desk, "/v1/audit", "entries") == []


async def test_a_name_is_given_once(desk: AdminDesk) -> None:
    await make_tenant(desk)

    code, _ = await desk.refuse("POST", "/v1/tenants", {"name": "demo"}, status=409)

    assert code == "TenantExists"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tenants/nobody"),
        ("DELETE", "/v1/tenants/nobody"),
        ("POST", "/v1/tenants/nobody/suspend"),
        ("POST", "/v1/tenants/nobody/resume"),
        ("GET", "/v1/tenants/nobody/quota"),
        ("GET", "/v1/tenants/nobody/users"),
        ("DELETE", "/v1/tenants/nobody/users/bob"),
        ("GET", "/v1/tenants/nobody/keys"),
        ("GET", "/v1/tenants/nobody/buckets"),
        ("GET", "/v1/tenants/nobody/buckets/backups"),
        ("GET", "/v1/tenants/nobody/buckets/backups/quota"),
        ("GET", "/v1/usage?tenant=nobody"),
    ],
)
async def test_a_tenant_that_does_not_exist_is_not_found(
    desk: AdminDesk, method: str, path: str
) -> None:
    code, _ = await desk.refuse(method, path, status=404)

    assert code == "NoSuchTenant"


async def test_suspend_and_resume_are_effective_at_once(desk: AdminDesk) -> None:
    await make_tenant(desk)
    before = desk.keyring.invalidations

    suspended = await desk.call("POST", "/v1/tenants/demo/suspend")
    resumed = await desk.call("POST", "/v1/tenants/demo/resume")

    assert (suspended["state"], resumed["state"]) == ("suspended", "active")
    assert desk.keyring.invalidations == before + 2


async def test_who_counts_by_tenant_is_told_of_one_that_is_gone(desk: AdminDesk) -> None:
    await desk.call("POST", "/v1/tenants", {"name": "gone"}, status=201)
    assert desk.deleted_tenants == []

    await desk.call("DELETE", "/v1/tenants/gone")

    assert desk.deleted_tenants == ["gone"]


async def test_a_tenant_that_owns_a_bucket_is_not_deleted(desk: AdminDesk) -> None:
    await make_tenant(desk)
    await desk.call("POST", "/v1/tenants/demo/buckets", {"name": "backups"}, status=201)

    code, _ = await desk.refuse("DELETE", "/v1/tenants/demo", status=409)

    assert code == "TenantNotEmpty"


async def test_deleting_a_tenant_takes_its_keys_along(desk: AdminDesk) -> None:
    await make_tenant(desk)
    key = await make_key(desk)

    assert await desk.call("DELETE", "/v1/tenants/demo") == {"deleted": "demo"}

    code, _ = await desk.refuse("DELETE", f"/v1/keys/{key['access_key_id']}", status=404)
    assert code == "NoSuchAccessKey"


async def test_lists_come_in_pages(desk: AdminDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tenants", "users", "keys", "buckets", "usage"):
        monkeypatch.setattr(f"appliance.admin.{module}.PAGE_ROWS", 2)
    for name in ("a", "b", "c"):
        await make_tenant(desk, name)

    first = await desk.call("GET", "/v1/tenants")
    second = await desk.call("GET", f"/v1/tenants?after={first['next_after']}")

    assert first["next_after"] == "b"
    assert isinstance(second["tenants"], list)
    assert [view["name"] for view in second["tenants"]] == ["c"]
    assert second["next_after"] is None


async def test_a_user_is_found_beyond_the_first_page(
    desk: AdminDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "PAGE_ROWS", 1)
    await make_tenant(desk)
    for name in ("ann", "bob", "zoe"):
        await desk.call("POST", "/v1/tenants/demo/users", {"name": name}, status=201)

    key = await make_key(desk, user="zoe")

    assert key["user"] == "zoe"


async def test_users_come_and_go(desk: AdminDesk) -> None:
    await make_tenant(desk)
    await desk.call("POST", "/v1/tenants/demo/users", {"name": "bob@home"}, status=201)
    key = await make_key(desk, user="bob@home")

    twice, _ = await desk.refuse("POST", "/v1/tenants/demo/users", {"name": "bob@home"}, status=409)
    await desk.call("DELETE", "/v1/tenants/demo/users/bob%40home")

    assert twice == "UserExists"
    code, _ = await desk.refuse("POST", f"/v1/keys/{key['access_key_id']}/disable", status=404)
    assert code == "NoSuchAccessKey"
    code, _ = await desk.refuse("DELETE", "/v1/tenants/demo/users/bob%40home", status=404)
    assert code == "NoSuchUser"


async def test_a_user_of_a_bad_name_is_refused(desk: AdminDesk) -> None:
    await make_tenant(desk)

    code, _ = await desk.refuse("POST", "/v1/tenants/demo/users", {"name": "a b"}, status=400)

    assert code == "NameInvalid"


async def test_the_root_user_stays(desk: AdminDesk) -> None:
    await make_tenant(desk)

    code, _ = await desk.refuse("DELETE", "/v1/tenants/demo/users/root", status=409)

    assert code == "RootUserKept"


async def test_a_key_shows_its_secret_once(desk: AdminDesk) -> None:
    await make_tenant(desk)

    made = await make_key(desk, role="ro", bucket="backups", prefix="a/ü")

    secret = str(made["secret_access_key"])
    access_key_id = str(made["access_key_id"])
    assert await stored_secret(desk, access_key_id) == secret
    assert (made["role"], made["bucket"], made["prefix"]) == ("ro", "backups", "a/ü")
    for path in ("/v1/tenants/demo/keys", "/v1/audit"):
        assert secret not in (await desk.client.get(path)).text


async def test_rotation_replaces_the_secret_and_nothing_else(desk: AdminDesk) -> None:
    await make_tenant(desk)
    made = await make_key(desk, role="wo", bucket="backups")
    before = desk.keyring.invalidations

    rotated = await desk.call("POST", f"/v1/keys/{made['access_key_id']}/rotate")

    assert rotated["secret_access_key"] != made["secret_access_key"]
    same = {name: value for name, value in made.items() if name != "secret_access_key"}
    assert {name: rotated[name] for name in same} == same
    secret = await stored_secret(desk, str(made["access_key_id"]))
    assert secret == rotated["secret_access_key"]
    assert desk.keyring.invalidations == before + 1


async def test_a_key_is_disabled_and_enabled(desk: AdminDesk) -> None:
    await make_tenant(desk)
    path = f"/v1/keys/{(await make_key(desk))['access_key_id']}"

    disabled = await desk.call("POST", f"{path}/disable")
    enabled = await desk.call("POST", f"{path}/enable")

    assert (disabled["state"], enabled["state"]) == ("disabled", "active")


async def test_a_key_expires(desk: AdminDesk) -> None:
    await make_tenant(desk)
    made = await make_key(desk, expires_at="2027-01-01T01:00:00+01:00")
    desk.clock.advance(366 * 86_400)

    keys = await list_of(desk, "/v1/tenants/demo/keys", "keys")

    assert made["expires_at"] == "2027-01-01T00:00:00Z"
    assert keys[0]["state"] == "expired"


@pytest.mark.parametrize(
    ("wanted", "status", "refusal"),
    [
        ({"user": "nobody"}, 404, "NoSuchUser"),
        ({"role": "admin"}, 400, "RequestInvalid"),
        ({"bucket": "A"}, 400, "NameInvalid"),
        ({"prefix": "a/"}, 400, "ScopeInvalid"),
        ({"bucket": "backups", "prefix": ""}, 400, "NameInvalid"),
        ({"bucket": "backups", "prefix": "é" * 513}, 400, "NameInvalid"),
        ({"bucket": "backups", "prefix": "a\x00"}, 400, "NameInvalid"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 400, "ExpiryInvalid"),
        ({"expires_at": "2030-01-01T00:00:00"}, 400, "ExpiryInvalid"),
        ({"expires_at": "soon"}, 400, "ExpiryInvalid"),
        ({"expires_at": 5}, 400, "RequestInvalid"),
        ({"access_key_id": "TCMINE"}, 400, "RequestInvalid"),
    ],
)
async def test_a_key_that_may_not_be_is_refused(
    desk: AdminDesk, wanted: dict[str, object], status: int, refusal: str
) -> None:
    await make_tenant(desk)

    code, _ = await desk.refuse("POST", "/v1/tenants/demo/keys", wanted, status=status)

    assert code == refusal
    assert await list_of(desk, "/v1/tenants/demo/keys", "keys") == []


@pytest.mark.parametrize("verb", ["disable", "enable", "rotate"])
async def test_a_key_that_does_not_exist_is_not_found(desk: AdminDesk, verb: str) -> None:
    code, _ = await desk.refuse("POST", f"/v1/keys/TCNONE/{verb}", status=404)

    assert code == "NoSuchAccessKey"


async def test_a_key_made_elsewhere_is_taken_over(desk: AdminDesk) -> None:
    await make_tenant(desk)
    pair = {"access_key_id": "AKOLD", "secret_access_key": SECRET}

    answer = await desk.client.post("/v1/tenants/demo/keys/import", json=pair)

    assert answer.status_code == 201
    assert SECRET not in answer.text
    assert await stored_secret(desk, "AKOLD") == SECRET


@pytest.mark.parametrize(
    ("access_key_id", "secret"),
    [
        ("minioadmin", "minioadmin"),
        ("AKOLD", "minioadmin"),
        ("AKOLD", "short"),
        ("AKOLD", "a" * 40),
        ("AKIAIOSFODNN7EXAMPLE", SECRET),
        ("a/b", SECRET),
        ("", SECRET),
    ],
)
async def test_a_weak_pair_is_refused_without_repeating_it(
    desk: AdminDesk, access_key_id: str, secret: str
) -> None:
    await make_tenant(desk)
    pair = {"access_key_id": access_key_id, "secret_access_key": secret}

    answer = await desk.client.post("/v1/tenants/demo/keys/import", json=pair)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "NameInvalid")
    assert secret == access_key_id or secret not in answer.text


async def test_an_id_is_imported_once(desk: AdminDesk) -> None:
    await make_tenant(desk)
    pair = {"access_key_id": "AKOLD", "secret_access_key": SECRET}
    await desk.call("POST", "/v1/tenants/demo/keys/import", pair, status=201)

    code, _ = await desk.refuse("POST", "/v1/tenants/demo/keys/import", pair, status=409)

    assert code == "AccessKeyExists"


async def test_two_tenants_may_have_a_bucket_of_one_name(desk: AdminDesk) -> None:
    for tenant in ("one", "two"):
        await make_tenant(desk, tenant)
        await desk.call("POST", f"/v1/tenants/{tenant}/buckets", {"name": "backups"}, status=201)

    shown = await desk.call("GET", "/v1/tenants/two/buckets/backups")

    assert (shown["tenant"], shown["name"], shown["versioning"]) == ("two", "backups", "off")


@pytest.mark.parametrize(
    ("wanted", "status", "refusal"),
    [
        ({"name": "backups"}, 409, "BucketExists"),
        ({"name": "third"}, 409, "QuotaExceeded"),
        ({"name": "X"}, 400, "NameInvalid"),
        ({"name": "192.168.0.1"}, 400, "NameInvalid"),
        ({"name": "third", "quota": {"buckets_max": 1}}, 400, "RequestInvalid"),
        ({"name": "third", "quota": {"bytes_max": 0}}, 400, "RequestInvalid"),
    ],
)
async def test_a_bucket_that_may_not_be_is_refused(
    desk: AdminDesk, wanted: dict[str, object], status: int, refusal: str
) -> None:
    await make_tenant(desk, buckets_max=1)
    await desk.call("POST", "/v1/tenants/demo/buckets", {"name": "backups"}, status=201)

    code, _ = await desk.refuse("POST", "/v1/tenants/demo/buckets", wanted, status=status)

    assert code == refusal
    buckets = await list_of(desk, "/v1/tenants/demo/buckets", "buckets")
    assert [view["name"] for view in buckets] == ["backups"]


async def test_limits_that_are_not_given_stay_and_none_lifts(desk: AdminDesk) -> None:
    await make_tenant(desk, bytes_max=100, objects_max=5)

    changed = await desk.call(
        "PATCH", "/v1/tenants/demo/quota", {"bytes_max": "none", "buckets_max": 7}
    )

    assert changed["quota"] == {"bytes_max": None, "objects_max": 5, "buckets_max": 7}
    assert (await desk.call("GET", "/v1/tenants/demo/quota"))["quota"] == changed["quota"]


async def test_a_bucket_has_limits_of_its_own(desk: AdminDesk) -> None:
    await make_tenant(desk)
    wanted = {"name": "backups", "quota": {"bytes_max": 30}}
    await desk.call("POST", "/v1/tenants/demo/buckets", wanted, status=201)
    path = "/v1/tenants/demo/buckets/backups/quota"

    changed = await desk.call("PATCH", path, {"objects_max": 9})

    assert changed["quota"] == {"bytes_max": 30, "objects_max": 9, "buckets_max": None}
    assert (await desk.call("GET", path))["bucket"] == "backups"
    code, _ = await desk.refuse("PATCH", path, {"buckets_max": 1}, status=400)
    assert code == "RequestInvalid"


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_bucket_that_does_not_exist_has_no_quota(desk: AdminDesk, method: str) -> None:
    await make_tenant(desk)
    body = {"bytes_max": 5} if method == "PATCH" else None

    code, _ = await desk.refuse(method, "/v1/tenants/demo/buckets/none/quota", body, status=404)

    assert code == "NoSuchBucket"


async def test_usage_shows_tenants_or_one_tenant_and_its_buckets(desk: AdminDesk) -> None:
    for tenant in ("one", "two"):
        await make_tenant(desk, tenant)
    await desk.call("POST", "/v1/tenants/two/buckets", {"name": "backups"}, status=201)

    everyone = await list_of(desk, "/v1/usage", "rows")
    second = await list_of(desk, "/v1/usage?tenant=two", "rows")
    rest = await list_of(desk, "/v1/usage?tenant=two&after=backups", "rows")

    assert [(row["tenant"], row["bucket"]) for row in everyone] == [("one", None), ("two", None)]
    assert [(row["tenant"], row["bucket"]) for row in second] == [
        ("two", None),
        ("two", "backups"),
    ]
    assert rest == []


async def test_volumes_are_shown_as_the_server_sees_them(desk: AdminDesk) -> None:
    volumes = await list_of(desk, "/v1/volumes", "volumes")

    assert [view["path"] for view in volumes] == [view.path for view in VOLUMES]
    assert [view["rotational"] for view in volumes] == [False, None]


async def test_status_names_the_server(desk: AdminDesk) -> None:
    status = await desk.call("GET", "/v1/status")

    assert (status["appliance"], status["uptime_seconds"]) == (APPLIANCE_UUID, 90_061)


async def test_every_change_is_in_the_audit_and_no_question_is(desk: AdminDesk) -> None:
    await make_tenant(desk)
    await desk.call("GET", "/v1/tenants/demo")
    key = await make_key(desk)
    await desk.refuse("POST", "/v1/tenants", {"name": "demo"}, status=409)

    entries = await list_of(desk, "/v1/audit", "entries")

    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("key create", key["access_key_id"]),
        ("tenant create", "demo"),
    ]
    assert entries[0]["detail"] == "tenant=demo user=root role=rw"
    assert entries[0]["at"] == "2026-11-18T11:06:40Z"


async def test_the_audit_is_limited(desk: AdminDesk) -> None:
    for name in ("a", "b", "c"):
        await make_tenant(desk, name)

    entries = await list_of(desk, "/v1/audit?limit=2", "entries")

    assert [entry["subject"] for entry in entries] == ["c", "b"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e3", "²"])
async def test_a_bad_limit_is_refused(desk: AdminDesk, limit: str) -> None:
    code, _ = await desk.refuse("GET", f"/v1/audit?limit={limit}", status=400)

    assert code == "RequestInvalid"


async def test_a_sound_catalog_has_no_findings(desk: AdminDesk) -> None:
    await make_tenant(desk)

    assert await desk.call("POST", "/v1/catalog/check") == {"ok": True, "findings": []}


async def test_a_backup_is_readable_by_its_owner_only(desk: AdminDesk, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"

    done = await desk.call("POST", "/v1/catalog/backup", {"path": str(target)})

    assert done == {"path": str(target), "size_bytes": target.stat().st_size}
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("path", "status", "refusal"),
    [
        ("relative.db", 400, "RequestInvalid"),
        ("", 400, "RequestInvalid"),
        ("/proc/version", 409, "BackupTargetExists"),
        ("/nonexistent/copy.db", 503, "CatalogUnavailable"),
    ],
)
async def test_a_backup_that_cannot_be_written_is_refused(
    desk: AdminDesk, path: str, status: int, refusal: str
) -> None:
    code, _ = await desk.refuse("POST", "/v1/catalog/backup", {"path": path}, status=status)

    assert code == refusal
