"""Clients of one life: what they ask, and what each answer tells.

Several run at once on the same few names, so that they meet. What a client asks is drawn by lot;
what it may be answered is for the registers to say.
"""

from __future__ import annotations

import base64
from hashlib import md5
from typing import TYPE_CHECKING

import trio

from appliance.http.errors import ClientDisconnected, ResponseAborted
from appliance.objects.reader import AHEAD_MAX
from tenants.records import QuotaLimits
from tests.simulation.asgi_client import Answer, Request, send
from tests.simulation.seeded.faults import FaultKind
from tests.simulation.seeded.history import History, Name, Upload
from tests.simulation.seeded.life import Life, SimulatedClock, Violation
from tests.simulation.seeded.registers import Outcome
from tests.simulation.world import GRACE_S, PART_BYTES_MIN, SECRET, access_key_of

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.simulation.seeded.registers import Write

__all__ = ["BUCKETS", "KEYS", "LIMITS", "VERSIONED", "Client"]

# One of them soon has no room left, and is refused in the middle of things.
LIMITS = {"acme": QuotaLimits(), "beta": QuotaLimits(bytes_max=250_000)}
TENANTS = tuple(LIMITS)
LIMITED = TENANTS[1]
VERSIONED = "kept"
BUCKETS = ("data", VERSIONED)
KEYS = (b"a", b"b", b"c/d")
SIZES = (40, 700, 4_000, 5_000, 66_000, 200_000)
PAGE_BYTES = 4 * 1024 * 1024
LARGE_RATE = 0.01
PAUSE_S_MAX = 25.0
SLOW_KEY = b"slow"
SLOW_S = GRACE_S + 30.0  # a reader that is slower than the grace
ABORTED = 0  # the status of an answer that never came, or not whole
_NOISE = bytes(range(256)) * ((3 + AHEAD_MAX) * PAGE_BYTES // 256)


class LifeEnded(Exception):
    """The server is gone: what came after its end is nobody's answer."""


class Client:
    """One client of one life."""

    def __init__(
        self, life: Life, history: History, clock: SimulatedClock, random: random.Random
    ) -> None:
        self._life = life
        self._history = history
        self._clock = clock
        self._random = random
        self._acts: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (26, self._put),
            (6, self._put_new),
            (3, self._put_wrong_digest),
            (3, self._disconnect),
            (22, self._get),
            (10, self._delete),
            (3, self._delete_many),
            (8, self._copy),
            (9, self._upload),
            (6, self._complete_again),
            (6, self._list),
            (5, self._get_version),
            (3, self._delete_version),
            (1, self._read_slowly),
        )

    async def run(self, steps: int) -> None:
        """Ask so many things, with pauses, unless the server ends before."""
        weights = [weight for weight, _ in self._acts]
        try:
            for _ in range(steps):
                # Half of all requests come without a pause, and so meet those of other clients.
                if self._random.random() < 0.5:
                    await trio.sleep(self._random.uniform(0.0, PAUSE_S_MAX))
                [(_, act)] = self._random.choices(self._acts, weights)
                await act()
        except LifeEnded:
            return

    async def look(self, name: Name) -> None:
        """Read a name whole and take what is there as its value from now on: nobody writes."""
        began = self._history.next_event()
        try:
            answer = await self._ask("GET", name, query=_version_query(name))
        except LifeEnded:
            return
        if answer.status == 200:
            found: bytes | None = answer.body
        elif answer.status in {404, 405}:
            found = None
        else:
            self._judge_failure(answer, name)
            return
        register = self._history.register(name)
        register.check(found, began=began, ended=self._history.next_event())
        register.settle(found, self._history.next_event())

    def _name(self) -> Name:
        tenant = self._random.choice(TENANTS)
        # Only one tenant versions, so that the same names mean something else next door.
        bucket = self._random.choice(BUCKETS) if tenant == TENANTS[0] else BUCKETS[0]
        return Name(tenant, bucket, self._random.choice(KEYS))

    def _content(self, *, at_least: int = 40) -> bytes:
        """A body that no other is equal to."""
        self._history.bodies += 1
        size = max(self._random.choice(SIZES), at_least)
        if self._random.random() < LARGE_RATE:
            size += PAGE_BYTES
        mark = b"body %d of %d bytes: " % (self._history.bodies, size)
        start = self._history.bodies % 256
        content = mark + _NOISE[start : start + size - len(mark)]
        self._history.remember(content)
        return content

    async def _put(self) -> None:
        name, content = self._name(), self._content()
        framing = self._random.choice(("signed", "unsigned", "chunked"))
        write = self._history.begin(name, content)
        answer = await self._ask("PUT", name, body=content, framing=framing)
        self._end(write, answer, name, content)

    async def _put_new(self) -> None:
        """If-None-Match: only where nothing is."""
        name, content = self._name(), self._content()
        register = self._history.register(name)
        write = self._history.begin(name, content)
        answer = await self._ask("PUT", name, body=content, headers=(("if-none-match", "*"),))
        allowed = register.allowed(write.began, self._history.events, ignoring=write)
        if answer.status == 412:
            if allowed == {None}:
                raise Violation(f"{name}: refused although nothing was there")
            self._history.end(write, Outcome.REFUSED)
            return
        if answer.status == 200 and None not in allowed:
            raise Violation(f"{name}: accepted although something was there")
        self._end(write, answer, name, content)

    async def _put_wrong_digest(self) -> None:
        name, content = self._name(), self._content()
        wrong = base64.b64encode(md5(b"another body", usedforsecurity=False).digest()).decode()
        write = self._history.begin(name, content)
        answer = await self._ask(
            "PUT", name, body=content, framing="unsigned", headers=(("content-md5", wrong),)
        )
        if answer.status == 200:
            raise Violation(f"{name}: a body with another MD5 was accepted")
        if answer.status != 400 and not _is_over_quota(answer, name):
            self._judge_failure(answer, name)
        self._history.end(write, Outcome.REFUSED)

    async def _disconnect(self) -> None:
        """Leave inside the upload: nothing of it may ever be seen."""
        name, content = self._name(), self._content()
        self._history.tally.faults[FaultKind.DISCONNECT] += 1
        write = self._history.begin(name, content)
        answer = await self._ask("PUT", name, body=content, sent_bytes=len(content) // 2)
        if answer.status == 200:
            raise Violation(f"{name}: half a body was accepted")
        self._history.end(write, Outcome.REFUSED)

    async def _get(self) -> None:
        name = self._name()
        register = self._history.register(name)
        began = self._history.next_event()
        first, last = sorted(self._random.choices(range(40), k=2))
        is_range = self._random.random() < 0.3
        headers = (("range", f"bytes={first}-{last}"),) if is_range else ()
        answer = await self._ask("GET", name, headers=headers)
        ended = self._history.next_event()
        if answer.status == 206:
            allowed = register.allowed(began, ended)
            if answer.body not in {value[first : last + 1] for value in allowed if value}:
                raise Violation(f"{name}: bytes {first}-{last} are {answer.body!r}")
        elif answer.status == 200:
            register.check(answer.body, began=began, ended=ended)
        elif answer.status == 404:
            register.check(None, began=began, ended=ended)
        else:
            self._judge_failure(answer, name)

    async def _delete(self) -> None:
        name = self._name()
        write = self._history.begin(name, None)
        answer = await self._ask("DELETE", name)
        self._end(write, answer, name, None)

    async def _delete_many(self) -> None:
        tenant = self._random.choice(TENANTS)
        names = [Name(tenant, BUCKETS[0], key) for key in KEYS[:2]]
        listed = "".join(f"<Object><Key>{name.key.decode()}</Key></Object>" for name in names)
        body = f"<Delete><Quiet>true</Quiet>{listed}</Delete>".encode()
        digest = base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()
        writes = [self._history.begin(name, None) for name in names]
        answer = await self._ask(
            "POST",
            names[0]._replace(key=b""),
            body=body,
            query=(("delete", ""),),
            headers=(("content-md5", digest),),
        )
        failed = set()
        if answer.status == 200:
            failed = {node.findtext("Key") for node in answer.xml().iter("Error")}
            if failed and not self._life.profile.may_fail_requests:
                raise Violation(f"deletes failed: {answer.body!r}")
        for name, write in zip(names, writes, strict=True):
            if name.key.decode() not in failed:
                self._end(write, answer, name, None)

    async def _copy(self) -> None:
        source = self._name()
        target = self._name()._replace(tenant=source.tenant)
        if source.tenant != TENANTS[0]:
            target = target._replace(bucket=BUCKETS[0])
        if source == target:
            return
        origin = self._history.register(source)
        values = {v for w in origin.writes for v in w.values if v is not None}
        write = self._history.begin(target, *values)
        began = write.began
        path = f"/{source.bucket}/{source.key.decode()}"
        answer = await self._ask("PUT", target, headers=(("x-amz-copy-source", path),))
        ended = self._history.next_event()
        if answer.status == 404:
            origin.check(None, began=began, ended=ended)
            self._history.end(write, Outcome.REFUSED)
            return
        if answer.status != 200:
            # Others may have written the source since: whatever it held may have been copied.
            write.values |= {v for w in origin.writes for v in w.values if v is not None}
            self._end(write, answer, target, None)
            return
        content = self._history.contents.get(answer.text("ETag").strip('"'))
        origin.check(content, began=began, ended=ended)
        write.values = frozenset({content})
        self._end(write, answer, target, content)

    async def _upload(self) -> None:
        """Create, some parts, perhaps one twice, then Complete, Abort or nothing."""
        name = self._name()
        answer = await self._ask("POST", name, query=(("uploads", ""),))
        if answer.status != 200:
            self._judge_failure(answer, name)
            return
        upload = Upload(name=name, upload_id=answer.text("UploadId"))
        self._history.uploads.append(upload)
        for number in self._random.choice(((1, 2), (1, 2, 3), (2, 1, 2), (1, 5))):
            await self._put_part(upload, number)
        await trio.sleep(self._random.uniform(0.0, PAUSE_S_MAX))
        lot = self._random.random()
        if lot < 0.7:
            await self._complete(upload)
        elif lot < 0.9:
            await self._abort(upload)

    async def _put_part(self, upload: Upload, number: int) -> None:
        content = self._content(at_least=PART_BYTES_MIN)
        upload.unsure.add(number)
        upload.parts.pop(number, None)
        query = (("partNumber", str(number)), ("uploadId", upload.upload_id))
        answer = await self._ask("PUT", upload.name, body=content, query=query)
        if answer.status == 200:
            upload.parts[number] = content
            upload.unsure.discard(number)
        elif not _is_over_quota(answer, upload.name):
            self._judge_failure(answer, upload.name)

    async def _complete(self, upload: Upload) -> None:
        if not upload.parts or upload.unsure:
            return
        bodies = [upload.parts[number] for number in sorted(upload.parts)]
        etag = self._history.remember_parts(bodies)
        content = b"".join(bodies)
        content = b"".join(bodies)
        # A Complete that was answered before is answered again, and does nothing.
        write = None
        if not upload.is_acknowledged:
            if upload.completing is None:
                upload.completing = self._history.begin(upload.name, content)
            else:
                self._history.resume(upload.name, upload.completing)
            write = upload.completing
        answer = await self._ask(
            "POST",
            upload.name,
            body=_parts_document(upload),
            query=(("uploadId", upload.upload_id),),
        )
        if answer.status == 200:
            if answer.text("ETag").strip('"') != etag:
                raise Violation(f"{upload.name}: completed as {answer.body!r}")
            upload.is_acknowledged = True
        elif answer.status == 404 and not upload.is_aborted:
            raise Violation(f"{upload.name}: the upload was acknowledged and is gone")
        if write is not None:
            self._end(write, answer, upload.name, content)
        elif answer.status != 200:
            self._judge_failure(answer, upload.name)

    async def _complete_again(self) -> None:
        """Retry a Complete, answered or not, as a client does that lost its connection."""
        uploads = [
            upload
            for upload in self._history.uploads
            if upload.completing is not None and not upload.is_aborted
        ]
        if uploads:
            await self._complete(self._random.choice(uploads))

    async def _abort(self, upload: Upload) -> None:
        upload.is_aborted = True
        answer = await self._ask("DELETE", upload.name, query=(("uploadId", upload.upload_id),))
        if answer.status != 204:
            self._judge_failure(answer, upload.name)

    async def _list(self) -> None:
        name = self._name()._replace(key=b"")
        began = self._history.next_event()
        answer = await self._ask("GET", name, query=(("list-type", "2"),))
        ended = self._history.next_event()
        if answer.status != 200:
            self._judge_failure(answer, name)
            return
        found = {
            node.findtext("Key"): (node.findtext("ETag") or "").strip('"')
            for node in answer.xml().iter("Contents")
        }
        for key in (*KEYS, SLOW_KEY):
            etag = found.pop(key.decode(), None)
            content = None if etag is None else self._history.contents.get(etag, etag.encode())
            register = self._history.register(name._replace(key=key))
            register.check(content, began=began, ended=ended)
        if found:
            raise Violation(f"{name}: lists {found}, which nobody wrote")

    async def _read_slowly(self) -> None:
        """Begin to read a large object, have it deleted, and read on after the grace.

        One page is on its way and some are read ahead: the last is read after the grace.
        """
        name = Name(TENANTS[0], BUCKETS[0], SLOW_KEY)
        content = self._content(at_least=(1 + AHEAD_MAX) * PAGE_BYTES + 1)
        write = self._history.begin(name, content)
        answer = await self._ask("PUT", name, body=content)
        self._end(write, answer, name, content)
        register = self._history.register(name)
        gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._delete_meanwhile, name, gate)
            began = self._history.next_event()
            try:
                answer = await self._ask("GET", name, gate=gate)
            except LifeEnded:
                nursery.cancel_scope.cancel()
                return
            ended = self._history.next_event()
            if answer.status == 200:
                register.check(answer.body, began=began, ended=ended)
            elif answer.status == 404:
                register.check(None, began=began, ended=ended)
            else:
                self._judge_failure(answer, name)

    async def _delete_meanwhile(self, name: Name, gate: trio.Event) -> None:
        try:
            await trio.sleep(1.0)
            write = self._history.begin(name, None)
            self._end(write, await self._ask("DELETE", name), name, None)
            await trio.sleep(SLOW_S)
        except LifeEnded:
            return
        finally:
            gate.set()

    def _versions(self) -> list[Name]:
        return [name for name in self._history.registers if name.version_id]

    async def _get_version(self) -> None:
        if not (names := self._versions()):
            return
        name = self._random.choice(names)
        began = self._history.next_event()
        answer = await self._ask("GET", name, query=_version_query(name))
        if answer.status in {200, 404}:
            found = answer.body if answer.status == 200 else None
            self._history.register(name).check(found, began=began, ended=self._history.next_event())
        else:
            self._judge_failure(answer, name)

    async def _delete_version(self) -> None:
        if not (names := self._versions()):
            return
        name = self._random.choice(names)
        key = name._replace(version_id="")
        # Whatever lies below may come to light, or nothing changes: `shown` is never ended.
        older = {v for w in self._history.register(key).writes for v in w.values}
        older |= {
            v
            for other in names
            if other[:3] == name[:3]
            for w in self._history.register(other).writes
            for v in w.values
        }
        write = self._history.begin(name, None)
        shown = self._history.begin(key, None, *older)
        answer = await self._ask("DELETE", name, query=_version_query(name))
        shown.values |= {v for w in self._history.register(key).writes for v in w.values}
        self._end(write, answer, name, None)

    async def _ask(
        self,
        method: str,
        name: Name,
        *,
        body: bytes = b"",
        query: tuple[tuple[str, str], ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        framing: str = "signed",
        sent_bytes: int | None = None,
        gate: trio.Event | None = None,
    ) -> Answer:
        """One request; status 0 where no whole answer came.

        Raises:
            LifeEnded: The server ended before the answer was there.
        """
        request = Request(
            method=method,
            bucket=name.bucket,
            key=name.key,
            query=query,
            headers=headers,
            body=body,
            framing=framing,
            sent_bytes=sent_bytes,
            access_key=access_key_of(name.tenant, "rw"),
        )
        if self._life.ended.is_set():
            raise LifeEnded
        self._history.tally.requests += 1
        try:
            answer = await send(
                self._life.application, request, secret=SECRET, clock=self._clock, gate=gate
            )
        except (ClientDisconnected, ResponseAborted):
            answer = Answer(status=ABORTED)
        self._history.note(method, name, query, answer.status)
        if self._life.ended.is_set():
            raise LifeEnded
        return answer

    def _end(self, write: Write, answer: Answer, name: Name, content: bytes | None) -> None:
        """Take an answer to a write."""
        if answer.status in {200, 204}:
            self._history.end(write, Outcome.DONE)
            version_id = answer.headers.get("x-amz-version-id", "")
            if content is not None and version_id:
                self._history.keep_version(name, version_id, write)
            return
        if _is_over_quota(answer, name):
            self._history.end(write, Outcome.REFUSED)
            return
        if 400 <= answer.status < 500:
            raise Violation(f"{name}: refused with {answer.status} {answer.body[:300]!r}")
        self._judge_failure(answer, name)

    def _judge_failure(self, answer: Answer, name: Name) -> None:
        """A request may fail only where something went wrong."""
        is_failure = answer.status == ABORTED or answer.status >= 500
        if not is_failure:
            raise Violation(f"{name}: answered {answer.status} {answer.body[:300]!r}")
        if not self._life.profile.may_fail_requests and not self._life.damage:
            raise Violation(f"{name}: failed ({answer.status}) though nothing went wrong")


def _is_over_quota(answer: Answer, name: Name) -> bool:
    return (
        name.tenant == LIMITED and answer.status == 403 and answer.text("Code") == "QuotaExceeded"
    )


def _version_query(name: Name) -> tuple[tuple[str, str], ...]:
    return (("versionId", name.version_id),) if name.version_id else ()


def _parts_document(upload: Upload) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber>"
        f"<ETag>{md5(upload.parts[number], usedforsecurity=False).hexdigest()}</ETag></Part>"
        for number in sorted(upload.parts)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
