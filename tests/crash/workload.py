"""What a client does until the server is gone: everything that changes objects, at random.

Each client has keys of its own and one request in flight, and writes down what it tries before it
sends and what was acknowledged after it read the answer. It also reads its own keys while the
others write, and an upload that a crash interrupted is carried on after the restart: its parts were
acknowledged, and its Complete may be asked again.
"""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash.ledger import ABSENT, Content, content_of
from tests.crash.wire import Gone, Reply, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.client.raw import Credentials
    from tests.crash.ledger import Ledger

__all__ = ["Client", "Mix", "Target", "run_clients"]

KIB = 1024
MIB = 1024 * KIB
PART_BYTES = 5 * MIB
POOL = random.Random(20_260_101).randbytes(12 * MIB)
CLEAN_REFUSALS = {500, 503, 507}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How often a client does what, and how large its objects are.

    Attributes:
        weights: By name of the action.
        keys: How many keys a client uses.
        large_share: Which part of the PUTs has several pages.
        cold_share: Which part of them asks for the slow tier, to rise from there when it is read.
    """

    weights: dict[str, int] = field(
        default_factory=lambda: {
            "put": 50,
            "delete": 12,
            "copy": 10,
            "read": 12,
            "upload": 14,
            "delete_many": 2,
        }
    )
    keys: int = 14
    large_share: float = 0.06
    small_bytes_max: int = 48 * KIB
    large_bytes_max: int = 9 * MIB
    cold_share: float = 0.0


COLD_CLASS = ("x-amz-storage-class", "STANDARD_IA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send requests."""

    endpoint: str
    credentials: Credentials
    bucket: str

    def connect(self, *, timeout_s: float = 20.0) -> Wire:
        """A connection."""
        return Wire(self.endpoint, self.credentials, self.bucket, timeout_s=timeout_s)


@dataclass(slots=True, kw_only=True)
class _Upload:
    """An upload on its way through crashes."""

    key: str
    parts: tuple[bytes, ...]
    upload_id: str
    etags: list[str] = field(default_factory=list)
    is_completing: bool = False

    @property
    def content(self) -> Content:
        return content_of(b"".join(self.parts))

    @property
    def etag(self) -> str:
        digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in self.parts)
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.parts)}"


class Client:
    """One client with its keys. Its random choices depend on its seed alone."""

    def __init__(self, ledger: Ledger, *, name: str, seed: str, mix: Mix | None = None) -> None:
        self.ledger = ledger
        self.name = name
        self.mix = mix or Mix()
        self.random = random.Random(seed)
        self.requests = 0
        self.refusals: list[str] = []
        self._upload: _Upload | None = None
        self._nonce = 0
        self._actions: dict[str, Callable[[Wire], None]] = {
            "put": self._put,
            "delete": self._delete,
            "copy": self._copy,
            "read": self._read,
            "upload": self._step_upload,
            "delete_many": self._delete_many,
        }

    def run(self, target: Target, stop: threading.Event) -> None:
        """Acts until the server is gone or `stop` is set.

        Raises:
            AssertionError: The server broke its word while it ran.
        """
        names = list(self.mix.weights)
        weights = list(self.mix.weights.values())
        with target.connect() as wire:
            while not stop.is_set():
                [name] = self.random.choices(names, weights)
                try:
                    self._actions[name](wire)
                except Gone:
                    return

    def make_body(self, length: int) -> bytes:
        """A body that no other has."""
        self._nonce += 1
        mark = f"{self.name}:{self._nonce}:{length}:".encode()
        start = self.random.randrange(len(POOL) - max(length, 1))
        return (mark + POOL[start : start + length])[:length]

    def choose_key(self) -> str:
        """One of the client's keys."""
        return f"{self.name}/{self.random.randrange(self.mix.keys):03}"

    def put(self, wire: Wire, key: str, body: bytes) -> Reply:
        """A PUT with its lines in the ledger."""
        content = content_of(body)
        is_cold = self.random.random() < self.mix.cold_share
        headers = [COLD_CLASS] if is_cold else []
        reply = self._ask(key, content, lambda: wire.ask("PUT", key, *headers, body=body))
        if reply.is_success:
            assert reply.etag == hashlib.md5(body, usedforsecurity=False).hexdigest()
        return reply

    def delete(self, wire: Wire, key: str) -> Reply:
        """A DELETE with its lines in the ledger."""
        return self._ask(key, ABSENT, lambda: wire.ask("DELETE", key))

    def copy(self, wire: Wire, source: str, key: str) -> Reply:
        """A CopyObject of a key that is known to hold what was promised."""
        header = ("x-amz-copy-source", f"/{wire.bucket}/{source}")
        content = self.ledger.keys[source].promised
        return self._ask(key, content, lambda: wire.ask("PUT", key, header))

    def read(self, wire: Wire, key: str) -> Reply:
        """A GET that is held against the ledger; only a server in trouble may refuse it."""
        self.requests += 1
        reply = wire.ask("GET", key)
        state = self.ledger.keys.get(key)
        if reply.status in {200, 404}:
            found = content_of(reply.body) if reply.status == 200 else ABSENT
            assert state is None or state.allows(found), f"{key} holds {found}, promised {state}"
            assert state is not None or found == ABSENT, f"{key} was never written"
        else:
            self._note_refusal(f"GET {key}", reply)
        return reply

    def _put(self, wire: Wire) -> None:
        if self.random.random() < self.mix.large_share:
            length = self.random.randint(4 * MIB - 1, self.mix.large_bytes_max)
        else:
            length = self.random.choice(
                [0, 1, 4096, self.random.randint(1, self.mix.small_bytes_max)]
            )
        self.put(wire, self.choose_key(), self.make_body(length))

    def _delete(self, wire: Wire) -> None:
        self.delete(wire, self.choose_key())

    def _delete_many(self, wire: Wire) -> None:
        keys = sorted({self.choose_key() for _ in range(3)})
        named = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
        body = f"<Delete><Quiet>true</Quiet>{named}</Delete>".encode()
        for key in keys:
            self.ledger.note_try(key, ABSENT)
        self.requests += 1
        reply = wire.ask("POST", "", query="delete=", body=body)
        if reply.status == 200 and b"<Error>" not in reply.body:
            for key in keys:
                self.ledger.note_ack(key, ABSENT)
        else:
            self._note_refusal(f"DeleteObjects {keys}", reply)

    def _copy(self, wire: Wire) -> None:
        source, key = self.choose_key(), self.choose_key()
        state = self.ledger.keys.get(source)
        if source == key or state is None or state.possible or state.promised == ABSENT:
            return
        self.copy(wire, source, key)

    def _read(self, wire: Wire) -> None:
        self.read(wire, self.choose_key())

    def _step_upload(self, wire: Wire) -> None:
        """The next request of the upload in progress; begins one where there is none."""
        upload = self._upload
        if upload is None:
            self.requests += 1
            key = f"{self.name}/upload-{self.random.randrange(2)}"
            reply = wire.ask("POST", key, query="uploads=")
            if not reply.is_success:
                self._note_refusal(f"CreateMultipartUpload {key}", reply)
                return
            sizes = (PART_BYTES, self.random.randint(1, 300 * KIB))
            parts = tuple(self.make_body(size) for size in sizes)
            self._upload = _Upload(key=key, parts=parts, upload_id=reply.element("UploadId"))
        elif len(upload.etags) < len(upload.parts):
            self._send_part(wire, upload)
        elif not upload.is_completing and self.random.random() < 0.15:
            self._abort(wire, upload)
        else:
            self._complete(wire, upload)

    def _send_part(self, wire: Wire, upload: _Upload) -> None:
        self.requests += 1
        number = len(upload.etags) + 1
        part = upload.parts[number - 1]
        query = f"partNumber={number}&uploadId={upload.upload_id}"
        reply = wire.ask("PUT", upload.key, query=query, body=part)
        if reply.is_success:
            assert reply.etag == hashlib.md5(part, usedforsecurity=False).hexdigest()
            upload.etags.append(reply.etag)
        else:
            self._note_refusal(f"UploadPart {upload.key}", reply)

    def _complete(self, wire: Wire, upload: _Upload) -> None:
        """All parts were acknowledged, so this must succeed, also when it is asked again."""
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(upload.etags, 1)
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        upload.is_completing = True
        reply = self._ask(
            upload.key,
            upload.content,
            lambda: wire.ask("POST", upload.key, query=f"uploadId={upload.upload_id}", body=body),
        )
        if reply.is_success:
            assert reply.element("ETag").replace("&quot;", "").strip('"') == upload.etag
            self._upload = None

    def _abort(self, wire: Wire, upload: _Upload) -> None:
        self.requests += 1
        self._upload = None  # whatever the answer: it is not asked for again
        reply = wire.ask("DELETE", upload.key, query=f"uploadId={upload.upload_id}")
        if not reply.is_success:
            self._note_refusal(f"AbortMultipartUpload {upload.key}", reply)

    def _ask(self, key: str, content: Content, send: Callable[[], Reply]) -> Reply:
        self.requests += 1
        self.ledger.note_try(key, content)
        reply = send()
        if reply.is_success:
            self.ledger.note_ack(key, content)
        else:
            self._note_refusal(key, reply)
            if reply.status == 507 or reply.status < 500:
                self.ledger.note_refused(key, content)
        return reply

    def _note_refusal(self, what: str, reply: Reply) -> None:
        """A refusal must be a server's in trouble, in S3's words."""
        assert reply.status in CLEAN_REFUSALS, f"{what}: {reply}"
        assert reply.code, f"{what}: no S3 error in {reply}"
        self.refusals.append(f"{what}: {reply.status} {reply.code}")


def run_clients(clients: Sequence[Client], target: Target, until: Callable[[], None]) -> None:
    """Runs every client in a thread while `until` runs here, then stops and joins them.

    Raises:
        AssertionError: What a client found wrong.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(len(clients)) as pool:
        futures = [pool.submit(client.run, target, stop) for client in clients]
        try:
            until()
        finally:
            stop.set()
        for future in futures:
            future.result()
