"""Rules about multipart uploads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation import model
from tests.simulation.asgi_client import Request
from tests.simulation.machine import (
    ASKS,
    BUCKETS,
    KEYS,
    SIZES,
    WORDS,
    Machine,
    body_of,
    iso_time,
    word_headers,
)
from tests.simulation.object_rules import (
    NUMBERS,
    READ_CONDITIONS,
    SEEDS,
    copy_source_headers,
    resolve_conditions,
)
from tests.simulation.world import PART_BYTES_MIN

if TYPE_CHECKING:
    from tests.simulation.model import Ask, Upload, Version, Words

__all__ = ["UploadRules"]

NO_UPLOAD = "none"
PLACES = st.integers(0, 5)
PART_NUMBERS = st.sampled_from([1, 2, 3, 7])
COPY_SPANS = st.sampled_from([None, None, (0, 0), (0, 1000), (699, 65_535)])
# How Complete's list departs from what was uploaded.
LISTS = st.sampled_from([*["all"] * 5, "last", "reversed", "other etag", "missing"])


class UploadRules(Machine):
    """From Create to Complete or Abort."""

    @rule(ask=ASKS, words=WORDS)
    def create_upload(self, ask: Ask, words: Words) -> None:
        self._create(self.step(ask)._replace(words=words))

    @rule(ask=ASKS, place=PLACES, number=PART_NUMBERS, size=SIZES, seed=SEEDS)
    def put_part(self, ask: Ask, place: int, number: int, size: int, seed: int) -> None:
        ask, upload_id = self._pick_open(self.step(ask), place)
        self._put_part(ask, upload_id, number, body_of(size, seed))

    @rule(
        ask=ASKS,
        place=PLACES,
        number=PART_NUMBERS,
        source=st.tuples(BUCKETS, KEYS, NUMBERS),
        span=COPY_SPANS,
        wanted=READ_CONDITIONS,
    )
    def put_part_copy(
        self,
        ask: Ask,
        place: int,
        number: int,
        source: tuple[str, bytes, int | None],
        span: tuple[int, int] | None,
        wanted: dict[str, str | int],
    ) -> None:
        ask, upload_id = self._pick_open(self.step(ask), place)
        spoken = self.pick_version(ask._replace(bucket=source[0], key=source[1]), source[2])
        bucket = self.bucket(spoken)
        found = bucket.find(spoken.key, spoken.version_id) if bucket else None
        spoken = resolve_conditions(spoken, found, wanted)
        headers = copy_source_headers(spoken)
        if span is not None:
            headers = (*headers, ("x-amz-copy-source-range", f"bytes={span[0]}-{span[1]}"))
        request = Request(
            method="PUT",
            bucket=ask.bucket,
            key=ask.key,
            query=(("partNumber", str(number)), ("uploadId", upload_id)),
            headers=headers,
        )

        def copy() -> bytes:
            self.model.buckets(ask, "write")
            self.model.buckets(ask, "read")
            self.model.upload(ask, "write", upload_id)
            version = self.model.copy_source(spoken)
            body = version.body or b""
            if span is not None:
                if span[1] >= len(body):
                    raise model.Refused("InvalidRange")
                body = body[span[0] : span[1] + 1]
            self.model.put_part(ask, upload_id, number, body)
            return body

        answer, body = self.play(ask, request, copy)
        if body is not None:
            assert answer.text("ETag") == f'"{model.md5(body)}"'
            assert answer.text("LastModified") == iso_time(ask.now)

    @rule(ask=ASKS, place=PLACES, how=LISTS, again=st.booleans())
    def complete(self, ask: Ask, place: int, how: str, again: bool) -> None:
        """Complete an upload, or one that was completed before; perhaps twice."""
        ask, upload_id, upload = self._pick(self.step(ask), place)
        if upload is None:
            listed = [(1, model.md5(b""))]
        elif upload.completed is not None and how != "other etag":
            listed = upload.completed[0]
        else:
            listed = _list_parts(upload, how)
        for _ in range(2 if again else 1):
            self._complete(ask, upload_id, listed)

    @rule(
        ask=ASKS,
        words=WORDS,
        sizes=st.lists(
            st.sampled_from([PART_BYTES_MIN, PART_BYTES_MIN + 1, 65_536]), min_size=1, max_size=3
        ),
        last=SIZES,
    )
    def upload_whole(self, ask: Ask, words: Words, sizes: list[int], last: int) -> None:
        """What a client does with a large file."""
        ask = self.step(ask)._replace(words=words)
        upload_id = self._create(ask)
        if upload_id is None:
            return
        listed = []
        for number, size in enumerate([*sizes, last], start=1):
            body = body_of(size, number)
            self._put_part(ask, upload_id, number, body)
            listed.append((number, model.md5(body)))
        self._complete(ask, upload_id, listed)

    @rule(ask=ASKS, place=PLACES)
    def abort(self, ask: Ask, place: int) -> None:
        ask, upload_id, _ = self._pick(self.step(ask), place)
        request = Request(
            method="DELETE", bucket=ask.bucket, key=ask.key, query=(("uploadId", upload_id),)
        )
        self.play(ask, request, lambda: self.model.abort(ask, upload_id))

    @rule(ask=ASKS, place=PLACES, limit=st.sampled_from([1, 2, 1000]))
    def list_parts(self, ask: Ask, place: int, limit: int) -> None:
        ask, upload_id, _ = self._pick(self.step(ask), place)
        self.compare_parts(ask, upload_id, limit)

    def compare_parts(self, ask: Ask, upload_id: str, limit: int) -> None:
        """Page through the parts of an upload."""
        marker, more = 0, True
        while more:
            request = Request(
                method="GET",
                bucket=ask.bucket,
                key=ask.key,
                query=(
                    ("uploadId", upload_id),
                    ("max-parts", str(limit)),
                    ("part-number-marker", str(marker)),
                ),
            )
            answer, upload = self.play(
                ask, request, lambda: self.model.upload(ask, "uploads", upload_id)
            )
            if upload is None:
                return
            behind = sorted(item for item in upload.parts.items() if item[0] > marker)
            shown = [
                (int(node.findtext("PartNumber") or 0), node.findtext("ETag"))
                for node in answer.xml().iter("Part")
            ]
            assert shown == [(n, f'"{model.md5(part)}"') for n, part in behind[:limit]]
            sizes = [int(node.findtext("Size") or -1) for node in answer.xml().iter("Part")]
            assert sizes == [len(part) for _, part in behind[:limit]]
            more = len(behind) > limit
            assert answer.text("IsTruncated") == str(more).lower()
            marker = int(answer.text("NextPartNumberMarker"))

    def _create(self, ask: Ask) -> str | None:
        request = Request(
            method="POST",
            bucket=ask.bucket,
            key=ask.key,
            query=(("uploads", ""),),
            headers=word_headers(ask.words),
        )
        answer, upload = self.play(ask, request, lambda: self.model.create_upload(ask))
        if upload is None:
            return None
        upload_id = answer.text("UploadId")
        assert upload_id not in self.seen_ids
        self.seen_ids.add(upload_id)
        bucket = self.bucket(ask)
        assert bucket is not None
        bucket.uploads[upload_id] = upload
        return upload_id

    def _put_part(self, ask: Ask, upload_id: str, number: int, body: bytes) -> None:
        request = Request(
            method="PUT",
            bucket=ask.bucket,
            key=ask.key,
            query=(("partNumber", str(number)), ("uploadId", upload_id)),
            body=body,
        )

        def put() -> str:
            self.model.put_part(ask, upload_id, number, body)
            return model.md5(body)

        answer, etag = self.play(ask, request, put)
        if etag is not None:
            assert answer.headers["etag"] == f'"{etag}"'

    def _complete(self, ask: Ask, upload_id: str, listed: list[tuple[int, str]]) -> None:
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in listed
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>"
        request = Request(
            method="POST",
            bucket=ask.bucket,
            key=ask.key,
            query=(("uploadId", upload_id),),
            body=body.encode(),
        )
        answer, made = self.play(ask, request, partial(self.model.complete, ask, upload_id, listed))
        if made is not None:
            assert answer.text("ETag") == f'"{made.etag}"'
            self._check_completed(made, answer.headers.get("x-amz-version-id"))

    def _check_completed(self, made: Version, shown: str | None) -> None:
        """A retry shows the id that the first answer gave."""
        if made.version_id not in {"", "null"}:
            assert shown == made.version_id
        elif made.version_id == "":
            assert shown is not None
            assert shown not in self.seen_ids
            self.seen_ids.add(shown)
            made.version_id = shown
        else:
            assert shown in {None, "null"}

    def _pick_open(self, ask: Ask, place: int) -> tuple[Ask, str]:
        """Mostly an upload in progress, begun where there is none; sometimes any."""
        bucket = self.bucket(ask)
        known = bucket.uploads.items() if bucket else ()
        opened = [(name, upload) for name, upload in known if upload.completed is None]
        if place >= 4 or ask.role == "ro":
            return self._pick(ask, place)[:2]
        if opened:
            upload_id, upload = opened[place % len(opened)]
            return ask._replace(key=upload.key), upload_id
        return ask, self._create(ask) or NO_UPLOAD

    def _pick(self, ask: Ask, place: int) -> tuple[Ask, str, Upload | None]:
        """One of the bucket's uploads, completed ones included; sometimes by a wrong key."""
        bucket = self.bucket(ask)
        if bucket is None or not bucket.uploads:
            return ask, NO_UPLOAD, None
        known = list(bucket.uploads.items())
        upload_id, upload = known[-1 - place % len(known)]
        return ask if place == 5 else ask._replace(key=upload.key), upload_id, upload


def _list_parts(upload: Upload, how: str) -> list[tuple[int, str]]:
    listed = [(number, model.md5(part)) for number, part in sorted(upload.parts.items())]
    match how:
        case "last":
            listed = listed[-1:]
        case "reversed":
            listed = listed[::-1]
        case "other etag" if listed:
            listed[-1] = (listed[-1][0], model.md5(b"other"))
        case "missing":
            listed.append((9, model.md5(b"")))
        case _:
            assert how in {"all", "other etag"}
    return listed or [(1, model.md5(b""))]
