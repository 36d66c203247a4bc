"""Rules about buckets and objects."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation import model
from tests.simulation.asgi_client import Request, decode_key
from tests.simulation.machine import (
    ASKS,
    BUCKETS,
    KEYS,
    SIZES,
    WORDS,
    Machine,
    body_of,
    condition_headers,
    iso_time,
    word_headers,
)

if TYPE_CHECKING:
    from tests.simulation.model import Ask, Version, Words

__all__ = ["READ_CONDITIONS", "BucketRules", "ObjectRules", "resolve_conditions"]

NUMBERS = st.sampled_from([None, None, 0, 1, 2])
DOOMED_BUCKETS = st.sampled_from([*["logs"] * 6, "data"])
SEEDS = st.integers(0, 3)
FRAMINGS = st.sampled_from(["signed", "unsigned", "chunked"])
OTHER_ETAG = "0123456789abcdef0123456789abcdef"
# `own` is the ETag of the version spoken of; times are relative to its own, in seconds.
READ_CONDITIONS: st.SearchStrategy[dict[str, str | int]] = st.sampled_from(
    [
        *[{}] * 6,
        {"if_match": "own"},
        {"if_match": "other"},
        {"if_match": "*"},
        {"if_none_match": "own"},
        {"if_none_match": "other"},
        {"if_none_match": "*"},
        {"modified_since": -1},
        {"modified_since": 0},
        {"unmodified_since": -1},
        {"unmodified_since": 0},
        {"if_match": "own", "unmodified_since": -1},
        {"if_none_match": "other", "modified_since": 0},
    ]
)
WRITE_CONDITIONS: st.SearchStrategy[dict[str, str | int]] = st.sampled_from(
    [
        *[{}] * 5,
        {"if_none_match": "*"},
        {"if_match": "own"},
        {"if_match": "other"},
        {"if_match": "*"},
    ]
)
SPANS = st.sampled_from(
    [(0, 0), (1, 700), (700, None), (None, 1), (None, 70_000), (65_535, 65_536), (4_194_303, None)]
)


def resolve_conditions(ask: Ask, found: Version | None, conditions: dict[str, str | int]) -> Ask:
    """The request with conditions that speak of a version, or of nothing."""
    etag = found.etag if found is not None and found.etag else OTHER_ETAG
    modified = found.modified if found is not None else 1_000_000
    words = {"own": etag, "other": OTHER_ETAG, "*": "*"}
    resolved = {
        name: words[what] if isinstance(what, str) else modified + what
        for name, what in conditions.items()
    }
    return ask._replace(**resolved)  # type: ignore[arg-type]  # named and typed as the fields are


class BucketRules(Machine):
    """Buckets and what is set for them."""

    @rule(ask=ASKS)
    def create_bucket(self, ask: Ask) -> None:
        ask = self.step(ask, aims=False)
        request = Request(method="PUT", bucket=ask.bucket)
        self.play(ask, request, lambda: self.model.create_bucket(ask))

    @rule(ask=ASKS, name=DOOMED_BUCKETS)
    def delete_bucket(self, ask: Ask, name: str) -> None:
        ask = self.step(ask._replace(bucket=name))
        request = Request(method="DELETE", bucket=ask.bucket)
        self.play(ask, request, lambda: self.model.delete_bucket(ask))

    @rule(ask=ASKS, state=st.sampled_from(["Enabled", "Enabled", "Suspended"]))
    def set_versioning(self, ask: Ask, state: str) -> None:
        ask = self.step(ask)
        body = f"<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>"
        request = Request(
            method="PUT", bucket=ask.bucket, query=(("versioning", ""),), body=body.encode()
        )

        def change() -> None:
            self.model.bucket(ask, "manage").versioning = state

        self.play(ask, request, change)

    @rule(ask=ASKS)
    def look_at_bucket(self, ask: Ask) -> None:
        ask = self.step(ask)
        request = Request(method="GET", bucket=ask.bucket, query=(("versioning", ""),))
        answer, bucket = self.play(ask, request, lambda: self.model.bucket(ask, "look"))
        if bucket is not None:
            assert (answer.text("Status") or "Off") == bucket.versioning
        self.play(ask, Request(method="HEAD", bucket=ask.bucket), lambda: bucket or self._look(ask))

    @rule(ask=ASKS)
    def list_buckets(self, ask: Ask) -> None:
        ask = self.step(ask)
        answer, own = self.play(ask, Request(method="GET"), lambda: self.model.buckets(ask, "list"))
        if own is not None:
            assert [node.text for node in answer.xml().iter("Name")] == sorted(own)

    @rule(ask=ASKS, name=DOOMED_BUCKETS, again=st.booleans())
    def empty_and_delete_bucket(self, ask: Ask, name: str, again: bool) -> None:
        """As a client does: every version and marker by name, then the bucket; then it is back."""
        ask = self.step(ask._replace(bucket=name))
        bucket = self.bucket(ask)
        if bucket is None or ask.role != "rw":
            return
        for key in sorted(bucket.objects):
            for version in list(bucket.objects[key]):
                one = ask._replace(key=key, version_id=version.version_id)
                self.play(one, _named("DELETE", one), partial(self.model.delete, one))
        request = Request(method="DELETE", bucket=ask.bucket)
        self.play(ask, request, lambda: self.model.delete_bucket(ask))
        if again:
            self.create_bucket(ask)

    def _look(self, ask: Ask) -> model.Bucket:
        return self.model.bucket(ask, "look")


class ObjectRules(Machine):
    """Writing, reading, copying and deleting objects."""

    @rule(ask=ASKS, size=SIZES, seed=SEEDS, words=WORDS, framing=FRAMINGS, wanted=WRITE_CONDITIONS)
    def put(
        self,
        ask: Ask,
        size: int,
        seed: int,
        words: Words,
        framing: str,
        wanted: dict[str, str | int],
    ) -> None:
        ask = self._conditioned(self.step(ask), wanted)._replace(words=words)
        body = body_of(size, seed)
        request = Request(
            method="PUT",
            bucket=ask.bucket,
            key=ask.key,
            headers=(*word_headers(words), *condition_headers(ask)),
            body=body,
            framing=framing,
        )
        answer, made = self.play(ask, request, lambda: self.model.put(ask, body))
        if made is not None:
            assert answer.headers["etag"] == f'"{made.etag}"'
            self.name_version(ask, made, answer)

    @rule(ask=ASKS, size=SIZES, seed=SEEDS, words=WORDS)
    def put_plainly(self, ask: Ask, size: int, seed: int, words: Words) -> None:
        """Without ifs, so that runs have objects to play with."""
        self.put(ask, size, seed, words, "signed", {})

    @rule(ask=ASKS, number=NUMBERS)
    def read_in_pieces(self, ask: Ask, number: int | None) -> None:
        """By parts and by ranges, and the whole object."""
        for part in (1, 2):
            self.read(ask, number, "GET", {}, part, None)
        for span in ((700, None), None):
            self.read(ask, number, "GET", {}, None, span)

    @rule(ask=ASKS, size=SIZES, share=st.integers(0, 9))
    def leave_while_putting(self, ask: Ask, size: int, share: int) -> None:
        """A client that goes away half-way has changed nothing."""
        ask = self.step(ask)
        body = body_of(size + 1, 0)
        request = Request(
            method="PUT",
            bucket=ask.bucket,
            key=ask.key,
            body=body,
            sent_bytes=len(body) * share // 10,
        )
        answer = self.send(ask, request)
        assert 400 <= answer.status < 500
        assert answer.text("Code") in {
            "IncompleteBody",
            "NoSuchBucket",
            "AccessDenied",
            "QuotaExceeded",
        }

    @rule(
        ask=ASKS,
        number=NUMBERS,
        method=st.sampled_from(["GET", "GET", "HEAD"]),
        wanted=READ_CONDITIONS,
        part=st.sampled_from([*[None] * 3, 1, 2, 3]),
        span=st.none() | SPANS,
    )
    def read(
        self,
        ask: Ask,
        number: int | None,
        method: str,
        wanted: dict[str, str | int],
        part: int | None,
        span: tuple[int | None, int | None] | None,
    ) -> None:
        ask = self._conditioned(self.pick_version(self.step(ask), number), wanted)
        headers = condition_headers(ask)
        query = (("versionId", ask.version_id),) if ask.version_id is not None else ()
        if part is not None:
            query = (*query, ("partNumber", str(part)))
        elif span is not None:
            first, last = span
            shown = f"bytes={'' if first is None else first}-{'' if last is None else last}"
            headers = (*headers, ("range", shown))
        request = Request(
            method=method, bucket=ask.bucket, key=ask.key, query=query, headers=headers
        )

        def read() -> tuple[Version, bytes]:
            version = self.model.read(ask)
            model.judge_read(ask, version)
            if part is not None:
                return version, model.cut_part(version, part)
            if span is not None:
                return version, model.cut(version, span)
            return version, version.body or b""

        answer, found = self.play(ask, request, read)
        if found is None:
            return
        version, piece = found
        # Asked for a part, the range is not sent; an empty part is answered whole.
        is_cut = span is not None if part is None else bool(piece)
        assert answer.status == (206 if is_cut else 200)
        assert int(answer.headers["content-length"]) == len(piece)
        assert answer.body == (piece if method == "GET" else b"")
        self.check_shown(ask, version, answer)
        if part is not None and version.part_sizes is not None:
            assert answer.headers["x-amz-mp-parts-count"] == str(len(version.part_sizes))

    @rule(ask=ASKS, number=NUMBERS, wanted=WRITE_CONDITIONS)
    def delete(self, ask: Ask, number: int | None, wanted: dict[str, str | int]) -> None:
        if "if_none_match" in wanted:
            wanted = {}
        ask = self._conditioned(self.pick_version(self.step(ask), number), wanted)
        answer, marker = self.play(ask, _named("DELETE", ask), lambda: self.model.delete(ask))
        if answer.status != 204:
            return
        assert answer.headers.get("x-amz-delete-marker") == ("true" if marker else None)
        if ask.version_id is not None:
            assert answer.headers["x-amz-version-id"] == ask.version_id
        elif marker is not None:
            self.name_version(ask, marker, answer)

    @rule(
        ask=ASKS,
        items=st.lists(st.tuples(KEYS, NUMBERS), min_size=1, max_size=4),
        quiet=st.booleans(),
    )
    def delete_objects(self, ask: Ask, items: list[tuple[bytes, int | None]], quiet: bool) -> None:
        ask = self.step(ask)
        asks = [self.pick_version(ask._replace(key=key), number) for key, number in items]
        rows = "".join(
            f"<Object><Key>{escape(one.key.decode())}</Key>"
            + (f"<VersionId>{one.version_id}</VersionId>" if one.version_id else "")
            + "</Object>"
            for one in asks
        )
        body = f"<Delete><Quiet>{str(quiet).lower()}</Quiet>{rows}</Delete>"
        request = Request(
            method="POST", bucket=ask.bucket, query=(("delete", ""),), body=body.encode()
        )
        answer, markers = self.play(ask, request, lambda: [self.model.delete(one) for one in asks])
        if markers is None:
            return
        shown = [] if quiet else list(answer.xml())
        bucket = self.bucket(ask)
        assert bucket is not None
        if quiet:
            assert not list(answer.xml())
            for one, marker in zip(asks, markers, strict=True):
                if marker is not None and not marker.version_id:
                    self._learn_id(one, marker)
            return
        for one, marker, node in zip(asks, markers, shown, strict=True):
            assert node.tag == "Deleted"
            assert node.findtext("Key") == one.key.decode()
            assert node.findtext("VersionId") == one.version_id
            assert node.findtext("DeleteMarker") == ("true" if marker else None)
            named = node.findtext("DeleteMarkerVersionId")
            if marker is not None and not marker.version_id:
                assert named is not None
                assert named not in self.seen_ids
                self.seen_ids.add(named)
                marker.version_id = named
            assert named == (marker.version_id if marker else None)

    @rule(
        ask=ASKS,
        source_bucket=BUCKETS,
        source_key=KEYS,
        number=NUMBERS,
        words=WORDS,
        directives=st.sampled_from([(False, False), (True, False), (False, True), (True, True)]),
        conditions=st.tuples(WRITE_CONDITIONS, READ_CONDITIONS),
    )
    def copy(
        self,
        ask: Ask,
        source_bucket: str,
        source_key: bytes,
        number: int | None,
        words: Words,
        directives: tuple[bool, bool],
        conditions: tuple[dict[str, str | int], dict[str, str | int]],
    ) -> None:
        wanted, of_source = conditions
        ask = self._conditioned(self.step(ask), wanted)._replace(words=words)
        bare = ask._replace(bucket=source_bucket, key=source_key, if_match=None, if_none_match=None)
        source = self._conditioned(self.pick_version(bare, number), of_source)
        request = Request(
            method="PUT",
            bucket=ask.bucket,
            key=ask.key,
            headers=(
                *word_headers(words),
                *condition_headers(ask),
                *copy_source_headers(source),
                *(
                    (f"x-amz-{what}-directive", "REPLACE" if replaces else "COPY")
                    for what, replaces in zip(("metadata", "tagging"), directives, strict=True)
                ),
            ),
        )
        answer, made = self.play(
            ask,
            request,
            lambda: self.model.copy(ask, source, new_headers=directives[0], new_tags=directives[1]),
        )
        if made is not None:
            assert answer.text("ETag") == f'"{made.etag}"'
            assert answer.text("LastModified") == iso_time(made.modified)
            self.name_version(ask, made, answer)

    @rule(ask=ASKS, number=NUMBERS, words=WORDS, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def tag(self, ask: Ask, number: int | None, words: Words, method: str) -> None:
        ask = self.pick_version(self.step(ask), number)
        rows = "".join(
            f"<Tag><Key>{name}</Key><Value>{text}</Value></Tag>" for name, text in words.tags
        )
        body = f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode() if method == "PUT" else b""
        tags = words.tags if method == "PUT" else ()

        def change() -> Version:
            version = self.model.read(ask, "read" if method == "GET" else "write")
            if method != "GET":
                version.words = version.words._replace(tags=tags)
            return version

        answer, version = self.play(ask, _named(method, ask, "tagging", body=body), change)
        if version is not None and method == "GET":
            shown = [
                (node.findtext("Key"), node.findtext("Value")) for node in answer.xml().iter("Tag")
            ]
            assert shown == list(version.words.tags)

    def _conditioned(self, ask: Ask, wanted: dict[str, str | int]) -> Ask:
        bucket = self.bucket(ask)
        found = bucket.find(ask.key, ask.version_id) if bucket else None
        return resolve_conditions(ask, found, wanted)

    def _learn_id(self, ask: Ask, marker: Version) -> None:
        """A quiet answer named no marker: ask for the newest version of the key."""
        request = Request(
            method="GET",
            bucket=ask.bucket,
            query=(("prefix", ask.key.decode()), ("versions", ""), ("encoding-type", "url")),
        )
        bucket = self.bucket(ask)
        assert bucket is not None
        answer = self.send(ask, request)
        rows = [node for node in answer.xml() if node.tag in ("Version", "DeleteMarker")]
        place = bucket.objects[ask.key].index(marker)
        own = [node for node in rows if decode_key(node.findtext("Key")) == ask.key]
        marker.version_id = own[place].findtext("VersionId") or ""
        assert marker.version_id not in {"", "null"} | self.seen_ids
        self.seen_ids.add(marker.version_id)


def copy_source_headers(source: Ask) -> tuple[tuple[str, str], ...]:
    """What names the source of a copy, and under which conditions."""
    named = f"/{source.bucket}/{quote(source.key)}"
    if source.version_id is not None:
        named += f"?versionId={source.version_id}"
    return (
        ("x-amz-copy-source", named),
        *condition_headers(source, "x-amz-copy-source-"),
    )


def _named(method: str, ask: Ask, subresource: str = "", *, body: bytes = b"") -> Request:
    """A request about a version of a key."""
    query = ((subresource, ""),) if subresource else ()
    if ask.version_id is not None:
        query = (*query, ("versionId", ask.version_id))
    return Request(
        method=method,
        bucket=ask.bucket,
        key=ask.key,
        query=query,
        headers=condition_headers(ask),
        body=body,
    )
