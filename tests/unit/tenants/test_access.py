from __future__ import annotations

import itertools

import pytest

from tenants.access import check_active, decide
from tenants.errors import AccessDenied, AccessKeyInactive, TenantSuspended
from tenants.records import Action, Principal, Role, TenantState
from tests.unit.tenants.records import make_principal

# Written out by hand, so that a new action has to be decided on here as well.
ALLOWED = {(Role.READ_WRITE, action) for action in Action} | {
    (Role.READ_ONLY, Action.LIST_BUCKETS),
    (Role.READ_ONLY, Action.READ_BUCKET),
    (Role.READ_ONLY, Action.LIST_OBJECTS),
    (Role.READ_ONLY, Action.READ_OBJECT),
    (Role.READ_ONLY, Action.LIST_PARTS),
    (Role.WRITE_ONLY, Action.READ_BUCKET),
    (Role.WRITE_ONLY, Action.WRITE_OBJECT),
    (Role.WRITE_ONLY, Action.LIST_PARTS),
}
ON_OBJECTS = {
    Action.READ_OBJECT,
    Action.WRITE_OBJECT,
    Action.DELETE_OBJECT,
    Action.LIST_PARTS,
}


def is_allowed(
    principal: Principal,
    action: Action,
    *,
    bucket: str | None = "backups",
    key: bytes | None = b"team/a",
    prefix: bytes | None = None,
    now: float = 100.0,
) -> bool:
    try:
        decide(principal, action, bucket=bucket, key=key, now=now, prefix=prefix)
    except AccessDenied:
        return False
    return True


@pytest.mark.parametrize(("role", "action"), list(itertools.product(Role, Action)))
def test_each_role_may_do_exactly_what_the_table_says(role: Role, action: Action) -> None:
    assert is_allowed(make_principal(role=role), action) == ((role, action) in ALLOWED)


@pytest.mark.parametrize(
    "action",
    [
        Action.READ_OBJECT,
        Action.LIST_OBJECTS,
        Action.DELETE_OBJECT,
        Action.DELETE_BUCKET,
        Action.WRITE_BUCKET,
    ],
)
def test_a_write_only_key_cannot_read_list_or_destroy_backups(action: Action) -> None:
    assert not is_allowed(make_principal(role=Role.WRITE_ONLY), action)


@pytest.mark.parametrize("action", [action for action in Action if action != Action.LIST_BUCKETS])
def test_a_bucket_scope_opens_its_bucket_and_no_other(action: Action) -> None:
    principal = make_principal(bucket_scope="backups")

    assert is_allowed(principal, action, bucket="backups")
    for other in ("backups2", "backup", "Backups", "", None):
        assert not is_allowed(principal, action, bucket=other)


def test_a_scoped_key_does_not_see_the_names_of_other_buckets() -> None:
    principal = make_principal(bucket_scope="backups")

    assert not is_allowed(principal, Action.LIST_BUCKETS, bucket=None, key=None)


@pytest.mark.parametrize("action", sorted(ON_OBJECTS))
def test_a_prefix_scope_opens_only_keys_under_it(action: Action) -> None:
    principal = make_principal(bucket_scope="backups", prefix_scope=b"team/")

    assert is_allowed(principal, action, key=b"team/a")
    assert is_allowed(principal, action, key=b"team/")
    assert is_allowed(principal, action, key=b"team/../x")  # a key, not a path
    for other in (b"team", b"Team/a", b"teams/a", b"x/team/a", b""):
        assert not is_allowed(principal, action, key=other)
    assert not is_allowed(principal, action, bucket="other", key=b"team/a")


def test_only_a_bulk_delete_may_begin_without_a_key_under_a_prefix_scope() -> None:
    scoped = make_principal(bucket_scope="backups", prefix_scope=b"team/")

    assert {action for action in ON_OBJECTS if is_allowed(scoped, action, key=None)} == {
        Action.DELETE_OBJECT
    }
    assert not is_allowed(scoped, Action.DELETE_OBJECT, bucket="other", key=None)
    assert not is_allowed(make_principal(role=Role.READ_ONLY), Action.DELETE_OBJECT, key=None)


def test_a_prefix_scoped_key_lists_only_with_a_prefix_under_its_scope() -> None:
    principal = make_principal(bucket_scope="backups", prefix_scope=b"team/")

    assert is_allowed(principal, Action.LIST_OBJECTS, key=None, prefix=b"team/")
    assert is_allowed(principal, Action.LIST_OBJECTS, key=None, prefix=b"team/2026/")
    for other in (None, b"", b"team", b"tea", b"other/"):
        assert not is_allowed(principal, Action.LIST_OBJECTS, key=None, prefix=other)


def test_a_prefix_scoped_key_may_look_at_its_bucket_but_not_change_it() -> None:
    principal = make_principal(bucket_scope="backups", prefix_scope=b"team/")

    assert is_allowed(principal, Action.READ_BUCKET, key=None)
    for action in (Action.CREATE_BUCKET, Action.DELETE_BUCKET, Action.WRITE_BUCKET):
        assert not is_allowed(principal, action, key=None)


def test_a_prefix_without_a_bucket_still_restricts() -> None:
    principal = make_principal(prefix_scope=b"team/")

    assert is_allowed(principal, Action.READ_OBJECT, key=b"team/a")
    assert not is_allowed(principal, Action.READ_OBJECT, key=b"other")
    assert not is_allowed(principal, Action.LIST_BUCKETS, bucket=None, key=None)


def test_a_scope_and_a_role_both_have_to_agree() -> None:
    principal = make_principal(role=Role.READ_ONLY, bucket_scope="backups", prefix_scope=b"team/")

    assert is_allowed(principal, Action.READ_OBJECT, key=b"team/a")
    assert not is_allowed(principal, Action.WRITE_OBJECT, key=b"team/a")


def test_the_keys_of_a_suspended_tenant_do_nothing() -> None:
    principal = make_principal(state=TenantState.SUSPENDED)

    with pytest.raises(TenantSuspended, match="acme"):
        decide(principal, Action.LIST_BUCKETS, bucket=None, key=None, now=1.0)


def test_a_disabled_key_does_nothing() -> None:
    with pytest.raises(AccessKeyInactive) as caught:
        decide(make_principal(enabled=False), Action.LIST_BUCKETS, bucket=None, key=None, now=1.0)

    assert caught.value.why == "disabled"


def test_a_key_works_until_the_moment_it_expires() -> None:
    principal = make_principal(expires_at=100.0)

    check_active(principal, now=99.999)
    with pytest.raises(AccessKeyInactive) as caught:
        check_active(principal, now=100.0)
    assert caught.value.why == "expired"


def test_a_denial_names_the_resource_in_printable_text() -> None:
    principal = make_principal(role=Role.READ_ONLY)

    with pytest.raises(AccessDenied) as caught:
        decide(principal, Action.WRITE_OBJECT, bucket="backups", key=b"a\xff", now=1.0)

    assert caught.value.action == "WriteObject"
    assert caught.value.resource == "backups/a\\xff"
