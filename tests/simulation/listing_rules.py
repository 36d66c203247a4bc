"""Rules about listings: every page of every kind, held against a slice of the model's entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation import model
from tests.simulation.asgi_client import Request, decode_key
from tests.simulation.machine import ASKS, KEYS, Machine, iso_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from tests.simulation.asgi_client import Answer
    from tests.simulation.model import Ask, Row

__all__ = ["ListingRules"]

KINDS = st.sampled_from(["v1", "v2", "versions", "uploads"])
ROW_TAGS = ("Contents", "Version", "DeleteMarker", "Upload")
MARKERS = {"v1": "marker", "v2": "start-after", "versions": "key-marker", "uploads": "key-marker"}
LIMITS = {"v1": "max-keys", "v2": "max-keys", "versions": "max-keys", "uploads": "max-uploads"}
KIND_QUERIES = {"v1": (), "v2": (("list-type", "2"),), "versions": (("versions", ""),)}
Pairs = tuple[tuple[str, str], ...]


class ListingRules(Machine):
    """Listings in pages, from any marker, with prefix and delimiter."""

    @rule(
        ask=ASKS,
        kind=KINDS,
        prefix=st.sampled_from([b"", b"", b"a", b"a/", b"d/", b"z"]),
        delimiter=st.sampled_from([b"", b"/", b" "]),
        start=st.none() | KEYS,
        limit=st.sampled_from([1, 2, 3, 1000, 1000, 0]),
    )
    def page_through(
        self,
        ask: Ask,
        kind: str,
        prefix: bytes,
        delimiter: bytes,
        start: bytes | None,
        limit: int,
    ) -> None:
        ask = self.step(ask)
        fixed: Pairs = (
            *KIND_QUERIES.get(kind, (("uploads", ""),)),
            ("prefix", prefix.decode()),
            ("delimiter", delimiter.decode()),
            (LIMITS[kind], str(limit)),
            ("encoding-type", "url"),
        )
        where: Pairs = ((MARKERS[kind], start.decode()),) if start is not None else ()
        shown, is_truncated = 0, True
        while is_truncated:
            request = Request(method="GET", bucket=ask.bucket, query=(*fixed, *where))
            answer, rows = self.play(ask, request, lambda: self._rows(ask, kind))
            if rows is None:
                return
            entries = [
                entry
                for entry in model.roll_up(rows, prefix, delimiter)
                if start is None or entry[0] > start
            ]
            expected = entries[shown : shown + limit]
            self._compare(ask, kind, answer, expected)
            shown += limit
            is_truncated = limit > 0 and shown < len(entries)
            assert answer.text("IsTruncated") == str(is_truncated).lower()
            where = _next_page(kind, answer, expected, has_delimiter=bool(delimiter))

    def compare_listing(self, ask: Ask, kind: str) -> None:
        """One page with everything."""
        query: Pairs = KIND_QUERIES.get(kind, (("uploads", ""),))
        query = (*query, ("encoding-type", "url"))
        request = Request(method="GET", bucket=ask.bucket, query=query)
        answer, rows = self.play(ask, request, lambda: self._rows(ask, kind))
        assert rows is not None
        self._compare(ask, kind, answer, rows)

    def _rows(self, ask: Ask, kind: str) -> list[Row]:
        if kind == "uploads":
            return self.model.list_uploads(ask)
        return self.model.list_versions(ask, current=kind != "versions")

    def _compare(self, ask: Ask, kind: str, answer: Answer, expected: Sequence[Row]) -> None:
        root = answer.xml()
        prefixes = [decode_key(node.findtext("Prefix")) for node in root.iter("CommonPrefixes")]
        assert prefixes == [name for name, row in expected if row is None]
        nodes = [node for node in root if node.tag in ROW_TAGS]
        wanted = [(name, row) for name, row in expected if row is not None]
        assert [decode_key(node.findtext("Key")) for node in nodes] == [name for name, _ in wanted]
        if kind == "v2":
            assert answer.text("KeyCount") == str(len(expected))
        bucket = self.bucket(ask)
        assert bucket is not None
        for node, (key, row) in zip(nodes, wanted, strict=True):
            if isinstance(row, model.Version):
                newest = bucket.objects[key][0]
                _compare_version(node, row, kind=kind, is_latest=row is newest)
            else:
                assert node.findtext("UploadId") == row


def _compare_version(node: Element, version: model.Version, *, kind: str, is_latest: bool) -> None:
    assert node.findtext("LastModified") == iso_time(version.modified)
    if kind == "versions":
        assert node.findtext("VersionId") == version.version_id
        assert node.findtext("IsLatest") == str(is_latest).lower()
        assert node.tag == ("DeleteMarker" if version.body is None else "Version")
    if version.body is not None:
        assert node.findtext("Size") == str(len(version.body))
        assert node.findtext("ETag") == f'"{version.etag}"'


def _next_page(kind: str, answer: Answer, shown: Sequence[Row], *, has_delimiter: bool) -> Pairs:
    """What the client asks for next, as the answer says it."""
    if answer.text("IsTruncated") == "false":
        return ()
    last, row = shown[-1]
    if kind == "v2":
        return (("continuation-token", answer.text("NextContinuationToken")),)
    if kind == "v1":
        # S3 names the next marker only where there is a delimiter.
        assert answer.key("NextMarker") == (last if has_delimiter else b"")
        return (("marker", last.decode()),)
    assert answer.key("NextKeyMarker") == last
    if kind == "uploads":
        marker = answer.text("NextUploadIdMarker")
        assert marker == (row or "")
        return (("key-marker", last.decode()), *((("upload-id-marker", marker),) if row else ()))
    marker = answer.text("NextVersionIdMarker")
    if not isinstance(row, model.Version):
        assert not marker
        return (("key-marker", last.decode()),)
    assert marker == row.version_id
    return (("key-marker", last.decode()), ("version-id-marker", marker))
