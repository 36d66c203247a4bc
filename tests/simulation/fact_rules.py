"""Rules about what is said of buckets and objects without their bytes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation.asgi_client import Request
from tests.simulation.machine import ASKS, Machine
from tests.simulation.object_rules import NUMBERS

if TYPE_CHECKING:
    from tests.simulation.model import Ask

__all__ = ["FactRules"]

ATTRIBUTES = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"
# What a bucket without such a configuration answers; a list of configurations is empty instead.
UNCONFIGURED = {
    "policy": "NoSuchBucketPolicy",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "tagging": "NoSuchTagSet",
}


class FactRules(Machine):
    """Attributes, access control, location, and what is not configured."""

    @rule(ask=ASKS, number=NUMBERS)
    def look_at_attributes(self, ask: Ask, number: int | None) -> None:
        ask = self.pick_version(self.step(ask), number)
        request = Request(
            method="GET",
            bucket=ask.bucket,
            key=ask.key,
            query=(("attributes", ""), *_version_of(ask)),
            headers=(("x-amz-object-attributes", ATTRIBUTES),),
        )
        answer, version = self.play(ask, request, partial(self.model.read, ask))
        if version is None:
            return
        assert answer.text("ETag") == version.etag
        assert answer.text("ObjectSize") == str(len(version.body or b""))
        assert answer.text("StorageClass") == "STANDARD"
        parts = [int(node.text or "") for node in answer.xml().iterfind("ObjectParts/Part/Size")]
        assert tuple(parts) == (version.part_sizes or ())
        count = answer.text("ObjectParts/PartsCount") or answer.text("ObjectParts/TotalPartsCount")
        assert count == (str(len(parts)) if parts else "")

    @rule(ask=ASKS, number=NUMBERS, of_bucket=st.booleans())
    def look_at_access(self, ask: Ask, number: int | None, of_bucket: bool) -> None:
        """Everything is its tenant's alone."""
        ask = self.step(ask) if of_bucket else self.pick_version(self.step(ask), number)
        request = Request(
            method="GET",
            bucket=ask.bucket,
            key=b"" if of_bucket else ask.key,
            query=(("acl", ""), *(() if of_bucket else _version_of(ask))),
        )
        found = partial(self.model.bucket, ask, "look") if of_bucket else None
        answer, there = self.play(ask, request, found or partial(self.model.read, ask))
        if there is not None:
            [grant] = answer.xml().iter("Grant")
            assert grant.findtext("Permission") == "FULL_CONTROL"
            assert grant.findtext("Grantee/ID") == answer.text("Owner/ID")

    @rule(ask=ASKS, acl=st.sampled_from(["private", "public-read"]))
    def set_access(self, ask: Ask, acl: str) -> None:
        """The private list is there already, and there is no other."""
        ask = self.step(ask)
        request = Request(
            method="PUT",
            bucket=ask.bucket,
            query=(("acl", ""),),
            headers=(("x-amz-acl", acl),),
        )
        if acl == "private":
            self.play(ask, request, lambda: self.model.bucket(ask, "manage"))
        else:
            assert self.send(ask, request).status in {403, 404, 501}

    @rule(ask=ASKS)
    def look_at_location(self, ask: Ask) -> None:
        ask = self.step(ask)
        request = Request(method="GET", bucket=ask.bucket, query=(("location", ""),))
        answer, bucket = self.play(ask, request, lambda: self.model.bucket(ask, "look"))
        if bucket is not None:
            assert not answer.xml().text  # the first region has no name

    @rule(ask=ASKS, name=st.sampled_from(sorted(UNCONFIGURED)))
    def look_at_what_is_not_configured(self, ask: Ask, name: str) -> None:
        ask = self.step(ask)
        answer = self.send(ask, Request(method="GET", bucket=ask.bucket, query=((name, ""),)))
        assert answer.status in {403, 404}
        if self.bucket(ask) is not None and ask.role == "rw":
            assert answer.text("Code") == UNCONFIGURED[name]


def _version_of(ask: Ask) -> tuple[tuple[str, str], ...]:
    return (("versionId", ask.version_id),) if ask.version_id is not None else ()
