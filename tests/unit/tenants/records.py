"""Ready records for tests about tenants."""

from __future__ import annotations

from tenants.records import (
    AccessKey,
    AccessKeyId,
    Principal,
    QuotaLimits,
    Role,
    Tenant,
    TenantId,
    TenantState,
    Usage,
    User,
    UserId,
)


def make_principal(
    *,
    role: Role = Role.READ_WRITE,
    bucket_scope: str | None = None,
    prefix_scope: bytes | None = None,
    expires_at: float | None = None,
    enabled: bool = True,
    state: TenantState = TenantState.ACTIVE,
    access_key_id: str = "TCAAAAAAAAAAAAAAAAAA",
) -> Principal:
    return Principal(
        tenant=Tenant(
            tenant_id=TenantId(7),
            name="acme",
            canonical_id="ab" * 32,
            state=state,
            created_at=1.0,
            limits=QuotaLimits(),
            usage=Usage(),
        ),
        user=User(user_id=UserId(3), tenant_id=TenantId(7), name="root", created_at=1.0),
        key=AccessKey(
            access_key_id=AccessKeyId(access_key_id),
            tenant_id=TenantId(7),
            user_id=UserId(3),
            role=role,
            bucket_scope=bucket_scope,
            prefix_scope=prefix_scope,
            expires_at=expires_at,
            enabled=enabled,
            created_at=1.0,
        ),
    )
