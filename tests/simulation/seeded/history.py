"""Everything that clients did over all lives of an appliance, and what they may expect now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import md5
from typing import NamedTuple

from tests.simulation.seeded.faults import Tally
from tests.simulation.seeded.registers import Outcome, Register, Write

__all__ = ["History", "Name", "Upload"]


class Name(NamedTuple):
    """What a register stands for: a key, or one version of it."""

    tenant: str
    bucket: str
    key: bytes
    version_id: str = ""

    def __str__(self) -> str:
        version = f"?versionId={self.version_id}" if self.version_id else ""
        return f"{self.tenant}/{self.bucket}/{self.key.decode()}{version}"


@dataclass(slots=True, kw_only=True)
class Upload:
    """A multipart upload as its client knows it.

    Attributes:
        parts: By part number: the body, of those that were acknowledged.
        unsure: Part numbers whose last answer never came.
        completing: The write that its Complete is, None before one was sent.
        is_acknowledged: Whether that Complete was answered with 200.
        is_aborted: Whether an Abort was sent.
    """

    name: Name
    upload_id: str
    parts: dict[int, bytes] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)
    completing: Write | None = None
    is_acknowledged: bool = False
    is_aborted: bool = False


@dataclass(slots=True)
class History:
    """Registers by name, contents by ETag, uploads, and the count of events."""

    events: int = 0
    bodies: int = 0
    registers: dict[Name, Register] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    trace: list[str] = field(default_factory=list)

    def next_event(self) -> int:
        """The number of what happens now."""
        self.events += 1
        return self.events

    def register(self, name: Name) -> Register:
        """The register of a name."""
        if name not in self.registers:
            self.registers[name] = Register(str(name))
        return self.registers[name]

    def begin(self, name: Name, *values: bytes | None) -> Write:
        """A client sends a write that will leave one of these."""
        return self.register(name).begin(frozenset(values), self.next_event())

    def resume(self, name: Name, write: Write) -> None:
        """A write is sent once more whose answer never came: it may take place now, or long ago."""
        assert write in self.register(name).writes
        write.gone = None

    def end(self, write: Write, outcome: Outcome) -> None:
        """Its answer arrived."""
        write.ended, write.outcome = self.next_event(), outcome

    def remember(self, content: bytes) -> str:
        """Keep a content to know it by its ETag again."""
        etag = md5(content, usedforsecurity=False).hexdigest()
        self.contents[etag] = content
        return etag

    def remember_parts(self, bodies: list[bytes]) -> str:
        """The same for a multipart object. Source: AWS, Checking object integrity."""
        digests = b"".join(md5(body, usedforsecurity=False).digest() for body in bodies)
        etag = f"{md5(digests, usedforsecurity=False).hexdigest()}-{len(bodies)}"
        self.contents[etag] = b"".join(bodies)
        return etag

    def keep_version(self, name: Name, version_id: str, write: Write) -> None:
        """An acknowledged version: there until it is deleted by its id."""
        register = self.register(name._replace(version_id=version_id))
        if write not in register.writes:
            register.writes.append(replace(write))

    def note(self, *words: object) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.events} " + " ".join(map(str, words)))
