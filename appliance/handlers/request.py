"""What every operation handler is given: the request, who asks, and the parts of the appliance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.catalog import buckets
from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import trio

    from appliance.access_sample import AccessSample
    from appliance.catalog.engine import Catalog
    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.objects.identities import BodyIds
    from appliance.objects.manifest_writer import ManifestWriter
    from appliance.objects.reader import ObjectReader
    from appliance.objects.writer import BodyWriter
    from appliance.s3.messages import BodyReader, RequestHead
    from appliance.s3.sigv4 import Verified
    from tenants.records import Principal
    from tiers.access_recorder import AccessRecorder, ReadNote
    from tiers.page_store import PageStore
    from tiers.policy import Policy

__all__ = ["S3Limits", "S3Request", "Services", "require_bucket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Limits:
    """Limits and names of the S3 face, from the settings.

    Attributes:
        region: The only region there is.
        domains: Base names for virtual-hosted style, lower case.
        put_bytes_max: One PUT or part; 5 GiB at S3.
        object_bytes_max: A whole multipart object.
        part_bytes_min: Every part but the last; 5 MiB at S3.
        uploads_open_max: Multipart uploads in progress per tenant.
        require_signed_payload: Refuse `UNSIGNED-PAYLOAD` over plain HTTP.
    """

    region: str
    domains: Sequence[str]
    put_bytes_max: int
    object_bytes_max: int
    part_bytes_min: int
    uploads_open_max: int
    require_signed_payload: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of the appliance that handlers use; made once by the composition root.

    Attributes:
        recorder: Takes notes of what is read.
        sample: Log of some accesses, None where nobody asked for one.
        active_policy: The tiering policy in force.
        token_key: Key of the MAC over continuation tokens.
        random_bytes: Unguessable bytes, for upload ids.
        computing: Threads for work that would hold the event loop for long.
    """

    catalog: Catalog
    store: PageStore
    writer: BodyWriter
    reader: ObjectReader
    manifests: ManifestWriter
    body_ids: BodyIds
    clock: Clock
    limits: S3Limits
    recorder: AccessRecorder
    active_policy: Callable[[], Policy]
    token_key: bytes
    random_bytes: Callable[[int], bytes]
    computing: trio.CapacityLimiter
    sample: AccessSample | None = None


@record
class S3Request:
    """One authenticated request."""

    head: RequestHead
    body: BodyReader
    principal: Principal
    verified: Verified
    services: Services

    def list_classes(self) -> list[tuple[str, str]]:
        """Name and storage class of every tier, the fastest first."""
        policy = self.services.active_policy()
        return [(tier.name, tier.storage_class) for tier in policy.tiers]

    def begin_read(
        self, bucket: Bucket, key: bytes, *, object_bytes: int, offset: int, length: int
    ) -> ReadNote:
        """The note of a read of an object's bytes; an access key and its peer are one client."""
        services = self.services
        client = f"{self.principal.key.access_key_id} {self.head.peer_address}"
        name = _access_name(bucket, key)
        note = services.recorder.begin_read(
            client=client,
            name=name,
            offset=offset,
            length=length,
            now=services.clock.monotonic(),
        )
        if services.sample is not None:
            services.sample.note_read(
                client=client,
                name=name,
                size_bytes=object_bytes,
                offset=offset,
                length=length,
                weight=note.weight,
                is_stranger=note.is_stranger,
            )
        return note

    def sample_write(self, bucket: Bucket, key: bytes, object_bytes: int) -> None:
        """Note in the log of accesses, if there is one, that an object was written."""
        if self.services.sample is not None:
            self.services.sample.note_write(name=_access_name(bucket, key), size_bytes=object_bytes)

    async def load_bucket(self, name: str) -> Bucket:
        """The bucket of that name in the caller's namespace.

        Raises:
            S3Error: `NoSuchBucket`, the same for another tenant's and for nobody's bucket.
        """
        tenant_id = self.principal.tenant.tenant_id

        def find(connection: Connection) -> Bucket | None:
            return buckets.find_bucket(connection, tenant_id=tenant_id, name=name)

        return require_bucket(await self.services.catalog.read(find), name)


def _access_name(bucket: Bucket, key: bytes) -> bytes:
    """An object among those of all tenants, in the order of listings."""
    return b"%012d/%s" % (bucket.bucket_id, key)


def require_bucket(bucket: Bucket | None, name: str) -> Bucket:
    """The bucket, or the S3 error for a missing one."""
    if bucket is None:
        raise S3Error(S3Code.NO_SUCH_BUCKET, elements={"BucketName": name})
    return bucket
