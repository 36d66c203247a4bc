"""The key ring: access key id -> principal, secret and day keys, cached, never older than a second.

The catalog is the truth. What is cached may be used while the last successful look at the catalog's
revision of keys and tenants began less than `TRUST_S` ago; `run` looks every `POLL_S`, and drops
everything when the revision moved. When the look fails or hangs, the trust runs out by itself and
every request asks the catalog: a key disabled by any worker stops within a second, whatever else
goes wrong. Changes made through this process call `invalidate` and work at once.

A principal's usage figures are those of the moment it was loaded; quotas are judged in the catalog.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog
import trio

from appliance.catalog.errors import CatalogError
from appliance.s3.sigv4 import derive_signing_key
from appliance.secrets import SecretDamaged
from tenants.keys import ACCESS_KEY_ID_CHARS_MAX
from tenants.records import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from appliance.clock import Clock
    from appliance.secrets import SecretBox
    from tenants.records import AccessKey, Tenant, User

__all__ = ["KeyEntry", "KeyLoader", "KeyRing", "KeyRingStatistics", "RevisionLoader"]

POLL_S = 0.5  # two looks within the promised second
TRUST_S = 0.9  # below a second, with room for the request that just began
ENTRIES_MAX = 4_096  # active keys of one process; a miss costs one point read
UNKNOWN_MAX = 1_024  # ids that do not exist: a client with a stale key retries, a guesser moves on
SIGNING_KEYS_MAX = 8_192  # two days (around midnight) of every cached key

if TYPE_CHECKING:
    KeyLoader = Callable[[str], Awaitable[tuple[AccessKey, bytes, Tenant, User] | None]]
    RevisionLoader = Callable[[], Awaitable[int]]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """A key that exists; whether it may do anything is for `tenants.access.decide` to say.

    Attributes:
        principal: Key, user and tenant, as loaded.
        secret: The secret access key; not in the `repr`.
        sealed: The sealed form it was opened from, which tells one secret of an id from the next.
    """

    principal: Principal
    secret: str = field(repr=False)
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRingStatistics:
    """Counts since start, and sizes now."""

    hits_total: int
    loads_total: int
    invalidations_total: int
    damaged_total: int
    poll_failures_total: int
    entry_count: int
    unknown_count: int
    signing_key_count: int


class _Lru(Generic[_Key, _Value]):
    """A mapping that forgets what was longest unused."""

    __slots__ = ("_entries", "_size_max")

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._entries: OrderedDict[_Key, _Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: _Key) -> _Value | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def store(self, key: _Key, value: _Value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size_max:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


class KeyRing:
    """Resolves access key ids for the S3 side of one process.

    Args:
        load_key: Key, sealed secret, tenant and user of an id, from the catalog.
        load_revision: A number that every change of keys, users and tenants' states raises.
        box: Opens the sealed secrets.
        clock: For the age of what is cached.
    """

    def __init__(
        self,
        *,
        load_key: KeyLoader,
        load_revision: RevisionLoader,
        box: SecretBox,
        clock: Clock,
    ) -> None:
        self._load_key = load_key
        self._load_revision = load_revision
        self._box = box
        self._clock = clock
        self._log = structlog.get_logger(component="keyring")
        self._entries: _Lru[str, KeyEntry] = _Lru(ENTRIES_MAX)
        self._unknown: _Lru[str, bool] = _Lru(UNKNOWN_MAX)
        self._signing_keys: _Lru[tuple[str, bytes, str, str], bytes] = _Lru(SIGNING_KEYS_MAX)
        self._trusted_until = float("-inf")
        self._revision: int | None = None
        self._generation = 0
        self._hits = 0
        self._loads = 0
        self._damaged = 0
        self._poll_failures = 0

    def find_trusted(self, access_key_id: str) -> KeyEntry | None:
        """The cached key of that id where the cache may be trusted now; else `resolve` it."""
        if self._clock.monotonic() >= self._trusted_until:
            return None
        entry = self._entries.find(access_key_id)
        if entry is not None:
            self._hits += 1
        return entry

    async def resolve(self, access_key_id: str) -> KeyEntry | None:
        """The key of that id, or None where none exists or its secret cannot be opened.

        A key that is disabled or expired, or whose tenant is suspended, is returned: its signature
        is checked like any other's, and `tenants.access.decide` refuses it after.

        Raises:
            CatalogError: It is not cached and the catalog did not answer.
        """
        if not 0 < len(access_key_id) <= ACCESS_KEY_ID_CHARS_MAX:
            await trio.lowlevel.checkpoint()
            return None
        if self._clock.monotonic() < self._trusted_until:
            entry = self._entries.find(access_key_id)
            if entry is not None or self._unknown.find(access_key_id) is not None:
                self._hits += 1
                await trio.lowlevel.checkpoint()
                return entry
        return await self._load(access_key_id)

    async def _load(self, access_key_id: str) -> KeyEntry | None:
        generation = self._generation
        self._loads += 1
        found = await self._load_key(access_key_id)
        entry: KeyEntry | None = None
        if found is not None:
            key, sealed, tenant, user = found
            entry = self._open(Principal(tenant=tenant, user=user, key=key), sealed)
        if generation != self._generation:
            # Invalidated while loading: good for this request, which began before, but not to keep.
            return entry
        if entry is None:
            self._unknown.store(access_key_id, True)  # an ordered set
        else:
            self._entries.store(access_key_id, entry)
        return entry

    def _open(self, principal: Principal, sealed: bytes) -> KeyEntry | None:
        key = principal.key
        try:
            secret = self._box.unseal(key.tenant_id, key.access_key_id, sealed)
        except SecretDamaged:
            # Only this key is lost; the operator must hear of it, because bytes changed at rest.
            self._damaged += 1
            self._log.exception(
                "access_key_damaged",
                alarm=True,
                access_key_id=key.access_key_id,
                tenant=principal.tenant.name,
            )
            return None
        return KeyEntry(principal=principal, secret=secret, sealed=sealed)

    def signing_key(self, entry: KeyEntry, *, date: str, region: str) -> bytes:
        """SigV4's 32-byte signing key of that key, day (`YYYYMMDD`) and region; cached.

        Args:
            entry: From `resolve`.
            date: A scope date that was checked against the clock, or the cache would fill with any.
            region: This server's region.
        """
        name = (entry.principal.key.access_key_id, entry.sealed, date, region)
        signing_key = self._signing_keys.find(name)
        if signing_key is None:
            signing_key = derive_signing_key(entry.secret, date=date, region=region)
            self._signing_keys.store(name, signing_key)
        return signing_key

    def invalidate(self) -> None:
        """Forget everything; loads in flight do not come back into the cache."""
        self._generation += 1
        self._entries.clear()
        self._unknown.clear()
        self._signing_keys.clear()

    async def poll(self) -> None:
        """Look at the revision once: drop everything if it moved, trust what is cached if not."""
        began_at = self._clock.monotonic()
        try:
            revision = await self._load_revision()
        except CatalogError as error:
            # The trust runs out by itself; requests then ask the catalog and fail there, if it is
            # still gone.
            self._poll_failures += 1
            self._log.warning("keyring_poll_failed", error=str(error))
            return
        if revision != self._revision:
            self._revision = revision
            self.invalidate()
        self._trusted_until = began_at + TRUST_S

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Poll for ever; started once the first look is done. Cancel it to stop."""
        await self.poll()
        task_status.started()
        while True:
            await trio.sleep(POLL_S)
            await self.poll()

    def statistics(self) -> KeyRingStatistics:
        """Counts since start, and sizes now."""
        return KeyRingStatistics(
            hits_total=self._hits,
            loads_total=self._loads,
            invalidations_total=self._generation,
            damaged_total=self._damaged,
            poll_failures_total=self._poll_failures,
            entry_count=len(self._entries),
            unknown_count=len(self._unknown),
            signing_key_count=len(self._signing_keys),
        )
