"""The policy's documents; see `appliance.admin.documents` for the rules of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from appliance.admin.documents import NameText, Wanted

__all__ = [
    "NOTE_CHARS_MAX",
    "PolicyApplied",
    "PolicyHistory",
    "PolicyRevisionView",
    "PolicyView",
    "PolicyWanted",
    "PolicyWarningView",
    "RollbackWanted",
]

NOTE_CHARS_MAX = 200  # one line of a table


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWanted(Wanted):
    """A policy file to put in force.

    Attributes:
        source: The file's text, at most 64 KiB.
        file: What messages call it.
        tenant: Whose overlay it is; null for the policy of the appliance.
        note: Why, in one line.
        dry_run: Only check it.
    """

    source: str
    file: Annotated[str, Field(min_length=1, max_length=4096)] = "policy"
    tenant: NameText | None = None
    note: Annotated[str, Field(max_length=NOTE_CHARS_MAX)] = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackWanted(Wanted):
    """A revision that is kept, to put in force again; null `tenant` is the appliance's policy."""

    revision: Annotated[int, Field(ge=1, le=2**63 - 1)]
    tenant: NameText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWarningView:
    """Something doubtful in a file that is in order; line and column count from 1."""

    line: int
    column: int
    key: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyApplied:
    """What became of a file.

    Attributes:
        revision: That the file is now, or was before; null where it only was checked and is new.
        is_new: False where the file equals the active revision: nothing was changed.
        is_dry_run: True where it was only checked.
    """

    revision: int | None
    is_new: bool
    is_dry_run: bool
    warnings: tuple[PolicyWarningView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRevisionView:
    """A revision of the policy or of a tenant's overlay.

    Attributes:
        blake3: Of the text in UTF-8, in hexadecimal.
        author: `socket`, or `tcp:` and an address.
    """

    revision: int
    tenant: str | None
    is_active: bool
    created_at: str
    author: str
    blake3: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A policy's text.

    Attributes:
        revision: Null for the default policy, which nobody applied.
        source: As it was given.
    """

    revision: PolicyRevisionView | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHistory:
    """Revisions that are kept, the newest first."""

    revisions: tuple[PolicyRevisionView, ...]
