"""What the server promised, kept outside of it: tries, answers and sightings in an fsynced file.

A key's state is what was last acknowledged, plus what tries without an answer may have made of it.
After a crash the key must show one of these; what it shows is from then on acknowledged, since it
was seen by a client. A key belongs to one client at a time, so its operations are in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ABSENT", "Content", "KeyState", "Ledger", "content_of", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a key holds; a key without an object has the empty hash and size -1."""

    sha256: str
    size: int

    def __str__(self) -> str:
        """As a failed test shows it."""
        return "absent" if self.size < 0 else f"{self.sha256[:12]}+{self.size}"


ABSENT = Content(sha256="", size=-1)


def content_of(body: bytes) -> Content:
    """The content that a body is."""
    return Content(sha256=hashlib.sha256(body).hexdigest(), size=len(body))


@dataclass(slots=True)
class KeyState:
    """What is promised of a key, and what may have become of it since."""

    promised: Content = ABSENT
    possible: list[Content] = field(default_factory=list)

    def apply(self, event: str, content: Content) -> None:
        """One line of the ledger."""
        match event:
            case "try":
                self.possible.append(content)
            case "ack" | "seen":
                self.promised = content
                self.possible.clear()
            case "refused":
                self.possible.remove(content)
            case _:
                raise AssertionError(event)

    def allows(self, content: Content) -> bool:
        """Whether a crash may leave the key with this content."""
        return content == self.promised or content in self.possible

    def __str__(self) -> str:
        """As a failed test shows it."""
        also = f" or one of {[str(each) for each in self.possible]}" if self.possible else ""
        return f"{self.promised}{also}"


class _Writable(Protocol):
    def fileno(self) -> int: ...
    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Ledger:
    """The file and, for the clients, its state in memory. Any thread may write.

    Every line is on stable storage before the method returns, so that a promise seen by a client
    outlives the client as well.

    Args:
        path: Appended to.
        stamp: A number that never falls, written with each line: how far a log of the disk was.
    """

    def __init__(self, path: Path, *, stamp: Callable[[], int] = lambda: 0) -> None:
        self.path = path
        self._stamp = stamp
        self.keys: dict[str, KeyState] = {}
        self.acknowledged = 0
        self.tried = 0
        self._lock = threading.Lock()
        self._file: _Writable = path.open("ab")

    def note_try(self, key: str, content: Content) -> None:
        """A request that makes this of the key is about to be sent."""
        self._note("try", key, content)

    def note_ack(self, key: str, content: Content) -> None:
        """The request was answered with success."""
        self._note("ack", key, content)

    def note_refused(self, key: str, content: Content) -> None:
        """The request was answered with an error that says nothing was done."""
        self._note("refused", key, content)

    def note_seen(self, key: str, content: Content) -> None:
        """A client read this after a restart."""
        self._note("seen", key, content)

    def _note(self, event: str, key: str, content: Content) -> None:
        with self._lock:
            line = json.dumps([event, key, content.sha256, content.size, self._stamp()]) + "\n"
            self.tried += event == "try"
            self.acknowledged += event == "ack"
            self._file.write(line.encode())
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self.keys.setdefault(key, KeyState()).apply(event, content)

    def restart(self) -> None:
        """Begins a new file that holds only what is promised now; nothing is in flight."""
        with self._lock:
            fresh = self.path.with_suffix(".new")
            with fresh.open("wb") as file:
                for key, state in self.keys.items():
                    content = state.promised
                    fields = ["seen", key, content.sha256, content.size, self._stamp()]
                    line = json.dumps(fields) + "\n"
                    file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self._file.close()
            fresh.rename(self.path)
            self._file = self.path.open("ab")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def replay(path: Path, *, until: int | None = None) -> dict[str, KeyState]:
    """The state of every key, from the file alone; of its lines up to a stamp, if one is given."""
    keys: dict[str, KeyState] = {}
    with path.open() as file:
        for line in file:
            event, key, sha256, size, stamp = json.loads(line)
            if until is not None and stamp > until:
                break
            keys.setdefault(key, KeyState()).apply(event, Content(sha256=sha256, size=size))
    return keys
