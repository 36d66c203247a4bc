"""What the S3 face must answer, as plain dictionaries: the specification that the machine tests.

A method of `Model` is an operation. It changes the model and returns what the answer shows, or
raises `Refused` with the code of the refusal and changes nothing. Ids are the server's to choose: a
new version is called `""`, and an upload by nothing, until the caller writes the name in.

Nothing here knows pages, segments, commits, restarts or reclaim: none of them may be visible.
Source: Amazon S3 User Guide and API Reference; package `tenants` for quotas and roles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

Row = tuple[bytes, object]
Limits = tuple[int | None, int | None, int | None]  # bytes, objects, buckets; None is unlimited
MAY = {"ro": {"look", "list", "read", "uploads"}, "wo": {"look", "write", "uploads"}}
MAY["rw"] = MAY["ro"] | MAY["wo"] | {"manage", "delete"}


class Refused(Exception):
    """Its text is the code of an error answer; `NotModified` stands for 304."""


class Words(NamedTuple):
    """What an upload says of its object."""

    headers: tuple[tuple[str, str], ...] = (("content-type", "binary/octet-stream"),)
    tags: tuple[tuple[str, str], ...] = ()


class Ask(NamedTuple):
    """Who asks (a tenant, by a key of some role), about what, under which conditions, and when."""

    tenant: str
    role: str
    bucket: str = ""
    key: bytes = b""
    version_id: str | None = None
    words: Words = Words()
    if_match: str | None = None  # an ETag, or `*` for any
    if_none_match: str | None = None
    modified_since: int | None = None  # seconds, like all times here
    unmodified_since: int | None = None
    now: int = 0


@dataclass(eq=False)
class Version:
    """A version of a key; without a body it is a delete marker."""

    body: bytes | None
    modified: int
    words: Words
    etag: str = ""
    part_sizes: tuple[int, ...] | None = None  # where it was a multipart upload
    version_id: str = ""


@dataclass(eq=False)
class Upload:
    """A multipart upload; a completed one is remembered for its retries."""

    key: bytes
    words: Words
    parts: dict[int, bytes] = field(default_factory=dict)
    completed: tuple[list[tuple[int, str]], Version] | None = None


@dataclass(eq=False)
class Bucket:
    """Versions of a key are newest first, uploads in the order of their creation."""

    versioning: str = "Off"
    objects: dict[bytes, list[Version]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    limits: Limits = (None, None, None)

    def find(self, key: bytes, version_id: str | None = None) -> Version | None:
        versions = self.objects.get(key, [])
        return next((v for v in versions if version_id in (None, v.version_id)), None)

    def usage(self) -> tuple[int, int]:
        """Bytes and objects: versions and parts in progress count, delete markers do not."""
        bodies = [v.body for kept in self.objects.values() for v in kept if v.body is not None]
        parts = [part for upload in self.uploads.values() for part in upload.parts.values()]
        return sum(map(len, bodies + parts)), len(bodies)


class Model:
    """Tenants, each with a namespace of buckets of its own."""

    def __init__(self, limits: dict[str, Limits], *, part_bytes_min: int) -> None:
        self.limits = limits
        self.tenants: dict[str, dict[str, Bucket]] = {name: {} for name in limits}
        self.part_bytes_min = part_bytes_min

    def usage(self, tenant: str) -> tuple[int, int]:
        used = [bucket.usage() for bucket in self.tenants[tenant].values()]
        return sum(size for size, _ in used), sum(count for _, count in used)

    def buckets(self, ask: Ask, action: str) -> dict[str, Bucket]:
        """What the key may not do is refused before anything is looked up."""
        if action not in MAY[ask.role]:
            raise Refused("AccessDenied")
        return self.tenants[ask.tenant]

    def bucket(self, ask: Ask, action: str) -> Bucket:
        if (found := self.buckets(ask, action).get(ask.bucket)) is None:
            raise Refused("NoSuchBucket")
        return found

    def create_bucket(self, ask: Ask) -> None:
        """One's own bucket may be created again, which changes nothing (us-east-1)."""
        own, most = self.buckets(ask, "manage"), self.limits[ask.tenant][2]
        if ask.bucket not in own and most is not None and len(own) >= most:
            raise Refused("TooManyBuckets")
        own.setdefault(ask.bucket, Bucket())

    def delete_bucket(self, ask: Ask) -> None:
        """Versions and delete markers keep a bucket; uploads in progress end with it."""
        if self.bucket(ask, "manage").objects:
            raise Refused("BucketNotEmpty")
        del self.tenants[ask.tenant][ask.bucket]

    def read(self, ask: Ask, action: str = "read", marker: str = "MethodNotAllowed") -> Version:
        """A delete marker hides its key; named itself it is refused in a way of its own."""
        found = self.bucket(ask, action).find(ask.key, ask.version_id)
        if found is None:
            raise Refused("NoSuchKey" if ask.version_id is None else "NoSuchVersion")
        if found.body is None:
            raise Refused("NoSuchKey" if ask.version_id is None else marker)
        return found

    def put(self, ask: Ask, body: bytes) -> Version:
        return self._install(ask, Version(body, ask.now, ask.words, md5(body)))

    def copy(self, ask: Ask, source: Ask, *, new_headers: bool, new_tags: bool) -> Version:
        """Bytes, ETag and parts are the source's. Onto itself, a copy must change something."""
        self.buckets(ask, "write")
        self.buckets(ask, "read")
        is_itself = (source.bucket, source.key, source.version_id) == (ask.bucket, ask.key, None)
        if is_itself and not (new_headers or new_tags):
            raise Refused("InvalidRequest")
        old = self.copy_source(source)
        headers = (ask if new_headers else old).words.headers
        words = Words(headers, (ask if new_tags else old).words.tags)
        return self._install(ask, replace(old, words=words, modified=ask.now))

    def copy_source(self, source: Ask) -> Version:
        found = self.read(source, marker="InvalidRequest")
        try:
            judge_read(source, found)
        except Refused as refused:
            raise Refused("PreconditionFailed") from refused
        return found

    def delete(self, ask: Ask) -> Version | None:
        """The delete marker that was made or removed. What is not there is no error."""
        bucket = self.bucket(ask, "delete")
        if ask.version_id is None and bucket.versioning != "Off":
            return self._install(ask, Version(None, ask.now, Words()), action="delete")
        found = bucket.find(ask.key, ask.version_id)
        judge_write(ask, found)
        if found is None:
            return None
        bucket.objects[ask.key].remove(found)
        bucket.objects = {key: kept for key, kept in bucket.objects.items() if kept}
        return found if found.body is None else None

    def create_upload(self, ask: Ask) -> Upload:
        self.bucket(ask, "write")
        return Upload(ask.key, ask.words)

    def upload(self, ask: Ask, action: str, upload_id: str) -> Upload:
        """An upload is known under its own bucket and key, while it is in progress."""
        found = self.bucket(ask, action).uploads.get(upload_id)
        if found is None or found.key != ask.key or found.completed is not None:
            raise Refused("NoSuchUpload")
        return found

    def put_part(self, ask: Ask, upload_id: str, number: int, body: bytes) -> None:
        """The same number again replaces the part."""
        parts = self.upload(ask, "write", upload_id).parts
        self._check_room(ask, len(body) - len(parts.get(number, b"")), 0)
        parts[number] = body

    def complete(self, ask: Ask, upload_id: str, listed: list[tuple[int, str]]) -> Version:
        """The listed parts become a version, others vanish. A retry gets the same answer."""
        known = self.bucket(ask, "write").uploads.get(upload_id)
        if known and known.completed and (known.key, known.completed[0]) == (ask.key, listed):
            return known.completed[1]
        upload = self.upload(ask, "write", upload_id)
        if any(first >= second for (first, _), (second, _) in pairwise(listed)):
            raise Refused("InvalidPartOrder")
        if any(n not in upload.parts or md5(upload.parts[n]) != etag for n, etag in listed):
            raise Refused("InvalidPart")
        parts = [upload.parts[number] for number, _ in listed]
        if any(len(part) < self.part_bytes_min for part in parts[:-1]):
            raise Refused("EntityTooSmall")
        etag = f"{md5(b''.join(bytes.fromhex(etag) for _, etag in listed))}-{len(parts)}"
        made = Version(b"".join(parts), ask.now, upload.words, etag, tuple(map(len, parts)))
        self._install(ask, made, freed=sum(map(len, upload.parts.values())))
        upload.parts, upload.completed = {}, (listed, made)
        return made

    def abort(self, ask: Ask, upload_id: str) -> None:
        self.upload(ask, "write", upload_id)
        del self.tenants[ask.tenant][ask.bucket].uploads[upload_id]

    def list_versions(self, ask: Ask, *, current: bool = False) -> list[Row]:
        """Every version; or, of each key, the newest one that is no delete marker."""
        rows = sorted(self.bucket(ask, "list").objects.items())
        shown = [(key, v) for key, kept in rows for v in (kept[:1] if current else kept)]
        return [(key, v) for key, v in shown if not current or v.body is not None]

    def list_uploads(self, ask: Ask) -> list[Row]:
        """Ids by key, and in the order of creation within a key."""
        uploads = sorted(self.bucket(ask, "uploads").uploads.items(), key=lambda u: u[1].key)
        return [(upload.key, name) for name, upload in uploads if upload.completed is None]

    def _install(self, ask: Ask, new: Version, *, action: str = "write", freed: int = 0) -> Version:
        """Every write ends here. Unless versioning is enabled it replaces the null version."""
        bucket = self.bucket(ask, action)
        judge_write(ask, bucket.find(ask.key))
        kept = bucket.objects.get(ask.key, [])
        is_added = bucket.versioning == "Enabled"
        replaced = [v for v in kept if v.version_id == "null" and not is_added]
        grown = len(new.body or b"") - freed - sum(len(v.body or b"") for v in replaced)
        added = (new.body is not None) - sum(v.body is not None for v in replaced)
        self._check_room(ask, grown, added)
        new.version_id = "" if is_added else "null"
        bucket.objects[ask.key] = [new, *(v for v in kept if v not in replaced)]
        return new

    def _check_room(self, ask: Ask, grown: int, added: int) -> None:
        """A limit may be reached, not passed; what does not grow is never refused."""
        bucket = self.tenants[ask.tenant][ask.bucket]
        own = (self.limits[ask.tenant], self.usage(ask.tenant))
        for limits, (size, count) in (own, (bucket.limits, bucket.usage())):
            for limit, used, wanted in ((limits[0], size, grown), (limits[1], count, added)):
                if limit is not None and wanted > 0 and used + wanted > limit:
                    raise Refused("QuotaExceeded")


def judge_read(ask: Ask, version: Version) -> None:
    """ETags silence dates (RFC 9110, section 13.2.2)."""
    changed = ask.unmodified_since is not None and version.modified > ask.unmodified_since
    if changed if ask.if_match is None else ask.if_match not in ("*", version.etag):
        raise Refused("PreconditionFailed")
    unchanged = ask.modified_since is not None and version.modified <= ask.modified_since
    if unchanged if ask.if_none_match is None else ask.if_none_match in ("*", version.etag):
        raise Refused("NotModified")


def judge_write(ask: Ask, current: Version | None) -> None:
    """A delete marker counts as missing."""
    found = current if current is not None and current.body is not None else None
    if found is None and ask.if_match is not None:
        raise Refused("NoSuchKey")
    if found and (ask.if_none_match or ask.if_match not in (None, "*", found.etag)):
        raise Refused("PreconditionFailed")


def cut(version: Version, span: tuple[int | None, int | None]) -> bytes:
    """Bytes first to last, to the end without a last; without a first one, the last n bytes."""
    body, (first, last) = version.body or b"", span
    start = max(len(body) - (last or 0), 0) if first is None else first
    piece = body[start : len(body) if first is None or last is None else last + 1]
    if not piece:
        raise Refused("InvalidRange")
    return piece


def cut_part(version: Version, number: int) -> bytes:
    """A part, by its place; an object of one PUT is a part."""
    body = version.body or b""
    sizes = version.part_sizes or (len(body),)
    if number > len(sizes):
        raise Refused("InvalidPartNumber")
    return body[sum(sizes[: number - 1]) : sum(sizes[:number])]


def roll_up(rows: list[Row], prefix: bytes, delimiter: bytes) -> list[Row]:
    """A listing's entries: keys with the delimiter behind the prefix become a common prefix."""
    entries: list[Row] = []
    for key, row in rows:
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        entry: Row = (key, row) if end < 0 else (key[: end + len(delimiter)], None)
        if key.startswith(prefix) and entry not in entries[-1:]:
            entries.append(entry)
    return entries


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
