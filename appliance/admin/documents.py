"""The documents of the admin API: what a request may say and what an answer says.

Plain records; pydantic checks the requests against them and writes the OpenAPI description from
them, and the command line reads the answers with them. Nothing here imports more of the appliance,
so that the command line stays light.

Rules: sizes are bytes, times are ISO 8601 in UTC with a `Z`, a limit that is null is unlimited. In
a request, a limit that is absent or null stays as it is, and `"none"` lifts it. A field that is not
described is refused. A list comes in pages: `next_after` is null on the last one, else the `after`
to ask the next one with.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter

__all__ = [
    "AuditList",
    "AuditView",
    "BackupResult",
    "BackupWanted",
    "BucketList",
    "BucketView",
    "BucketWanted",
    "CheckResult",
    "CopyResult",
    "Done",
    "ErrorDocument",
    "ErrorView",
    "KeyImport",
    "KeyList",
    "KeyView",
    "KeyWanted",
    "LimitWanted",
    "NewKeyView",
    "QuotaView",
    "QuotaWanted",
    "RoleName",
    "StatusView",
    "TenantList",
    "TenantView",
    "TenantWanted",
    "UsageList",
    "UsageRow",
    "UsageView",
    "UserList",
    "UserView",
    "UserWanted",
    "VolumeList",
    "VolumeView",
    "Wanted",
    "adapter_of",
    "decode_document",
    "encode_document",
]

DocumentT = TypeVar("DocumentT")

LIMIT_MAX = 2**63 - 1  # what both databases hold in one column

LimitWanted = Annotated[int, Field(ge=1, le=LIMIT_MAX)] | Literal["none"] | None
"""A limit in a request: a number of at least 1, `"none"` to lift it, null to leave it alone."""

RoleName = Literal["rw", "ro", "wo"]

# A name that long is refused by the naming rules, which say so better; this bounds what they see.
NameText = Annotated[str, Field(max_length=1024)]


class Wanted:
    """Base of every request document: strict types, no unknown field."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaWanted(Wanted):
    """Limits to change. A bucket has no `buckets_max`."""

    bytes_max: LimitWanted = None
    objects_max: LimitWanted = None
    buckets_max: LimitWanted = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantWanted(Wanted):
    """A tenant to create; its user `root` comes with it, keys do not."""

    name: NameText
    quota: QuotaWanted = QuotaWanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class UserWanted(Wanted):
    """A user to create."""

    name: NameText


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWanted(Wanted):
    """An access key to create.

    Attributes:
        bucket: The only bucket the key works in; null for all.
        prefix: The only key prefix it works under; needs `bucket`.
        expires_at: When it stops working, ISO 8601 with a zone; null for never.
    """

    user: NameText = "root"
    role: RoleName = "rw"
    bucket: NameText | None = None
    prefix: NameText | None = None
    expires_at: Annotated[str, Field(max_length=64)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyImport(KeyWanted):
    """An access key whose id and secret another system chose."""

    access_key_id: Annotated[str, Field(max_length=256)]
    secret_access_key: Annotated[str, Field(max_length=256, repr=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketWanted(Wanted):
    """A bucket to create in a tenant's namespace."""

    name: NameText
    quota: QuotaWanted = QuotaWanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupWanted(Wanted):
    """Where the server shall write a copy of the catalog: an absolute path that does not exist."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaView:
    """Limits in force; null is unlimited. A bucket's `buckets_max` is always null."""

    bytes_max: int | None
    objects_max: int | None
    buckets_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageView:
    """What counts against the limits. A bucket's `bucket_count` is 1."""

    used_bytes: int
    object_count: int
    bucket_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantView:
    """A tenant, its limits and its exact usage."""

    name: str
    state: str
    canonical_id: str
    created_at: str
    quota: QuotaView
    usage: UsageView


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantList:
    """Tenants by name."""

    tenants: tuple[TenantView, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """A user of a tenant."""

    tenant: str
    name: str
    arn: str
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserList:
    """Users of a tenant by name."""

    users: tuple[UserView, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """An access key, never its secret.

    Attributes:
        state: `active`, `disabled` or `expired`.
    """

    access_key_id: str
    tenant: str
    user: str
    role: str
    bucket: str | None
    prefix: str | None
    state: str
    expires_at: str | None
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyView(KeyView):
    """An access key with its secret: the only time that it is shown."""

    secret_access_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """Access keys of a tenant by id."""

    keys: tuple[KeyView, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketView:
    """A bucket, its limits and its exact usage."""

    tenant: str
    name: str
    versioning: str
    created_at: str
    quota: QuotaView
    usage: UsageView


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketList:
    """Buckets of a tenant by name."""

    buckets: tuple[BucketView, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Use and limits of a tenant (`bucket` is null) or of one of its buckets."""

    tenant: str
    bucket: str | None
    usage: UsageView
    quota: QuotaView


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageList:
    """All tenants, or one tenant followed by its buckets."""

    rows: tuple[UsageRow, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeView:
    """A volume and the device under it.

    Attributes:
        rotational: True for a disk with an arm, null where the kernel does not say.
        direct_io: False only where buffered I/O was explicitly allowed.
        state: `online`, `draining`, or why the volume takes no writes.
    """

    volume_id: int
    tier: str
    path: str
    filesystem: str
    rotational: bool | None
    direct_io: bool
    total_bytes: int
    free_bytes: int
    segment_count: int
    segment_bytes: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeList:
    """The volumes that the server has open."""

    volumes: tuple[VolumeView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check of the catalog found; no findings means that it is sound."""

    ok: bool
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """The copy that was written, complete and flushed."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """The copy that was made on the cold tier, complete and flushed."""

    path: str
    made_at: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """The server that answers.

    Attributes:
        listeners: Name of each listener and the address it is bound to.
        last_copy_at: When the newest copy of the catalog was made; null where there is none.
        copy_failure: Why the last try to make one failed; empty where it did not.
        policy_revision: Of the policy in force; null for the default.
        policy_failures: Active revisions that are not in force, and why.
    """

    version: str
    appliance: str
    started_at: str
    uptime_seconds: int
    catalog: str
    listeners: dict[str, str]
    last_copy_at: str | None
    copy_failure: str
    policy_revision: int | None
    policy_failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """One change that somebody made; never a secret."""

    at: str
    actor: str
    action: str
    subject: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditList:
    """Changes, the newest first."""

    entries: tuple[AuditView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was removed."""

    deleted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorView:
    """Why a request was refused; `code` is stable, `message` is for people.

    Attributes:
        fields: For a malformed request, what is wrong with which field.
    """

    code: str
    message: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDocument:
    """Body of every answer that is not 2xx."""

    error: ErrorView


def decode_document(kind: type[DocumentT], content: bytes) -> DocumentT:
    """The record in JSON.

    Raises:
        pydantic.ValidationError: It is not JSON or not that record.
    """
    return adapter_of(kind).validate_json(content)


def encode_document(document: object, *, indent: int | None = None) -> bytes:
    """A record as JSON.

    Raises:
        ValueError: A text in it is not Unicode.
    """
    return adapter_of(type(document)).dump_json(document, indent=indent)


def adapter_of(kind: type[DocumentT]) -> TypeAdapter[DocumentT]:
    """The checker of a record; making one is dear, so there is one for each."""
    adapter: TypeAdapter[DocumentT] = _make_adapter(kind)  # type: ignore[arg-type]  # mypy takes an instance's __hash__ for the class's
    return adapter


@functools.cache
def _make_adapter(kind: type[DocumentT]) -> TypeAdapter[DocumentT]:
    return TypeAdapter(kind)
