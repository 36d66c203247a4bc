"""Facts of objects that are asked for again and again, as long as no commit could change them.

A commit tells before its transaction begins whose objects it may change, and again when its outcome
is known and before anybody hears of it. In between nothing is known for sure: the transaction may
stand while its submitters still wait. So the first word forgets, and until the second nothing is
kept: every read asks the database, and no two of them can be told different stories by turns.

That is for SQLite alone, where all commits are this process's, or those of processes beside it that
say so by signs (`appliance.catalog.commit_signs`). What comes from PostgreSQL a worker on another
machine may have changed.

Source: docs/decisions/0024-facts-kept-between-commits.md
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from appliance.catalog.commit_signs import CommitSigns
    from appliance.catalog.object_facts import ObjectFacts, ObjectQuery

__all__ = ["FactsCache"]

# 1.5 to 3 KiB each, most of it in records that `object_facts` keeps as well.
OBJECTS_MAX = 4_096

_Key = tuple[int, str, bytes, bool, int]


class FactsCache:
    """The facts that were asked for last. Not for threads: the event loop's alone.

    Args:
        objects_max: How many are kept; the one that was not asked for the longest goes first.
        signs: Of the processes that share the database; None where there are no others.
    """

    __slots__ = ("_commits", "_entries", "_fenced", "_is_fenced", "_objects_max", "_signs")

    def __init__(self, *, objects_max: int = OBJECTS_MAX, signs: CommitSigns | None = None) -> None:
        assert objects_max > 0
        self._objects_max = objects_max
        self._signs = signs
        # With this process' commits of the tenant and the others' signs from before it was read.
        self._entries: OrderedDict[_Key, tuple[int, bytes, ObjectFacts]] = OrderedDict()
        # Commits by tenant: what was kept before the last of them is out of date.
        self._commits: dict[int, int] = {}
        self._fenced: frozenset[int] = frozenset()
        self._is_fenced = False

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, query: ObjectQuery) -> ObjectFacts | None:
        """What the catalog would say now, None where that has to be asked."""
        tenant_id = query.tenant_id
        key = (tenant_id, query.bucket, query.key, query.with_pages, query.first_page_index)
        entry = self._entries.get(key)
        if entry is None or query.version_id is not None:
            return None
        commits, signs, facts = entry
        if commits != self._commits.get(tenant_id, 0) or (
            self._signs is not None and signs != self._signs.read()
        ):
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return facts

    def note_signs(self) -> bytes:
        """What `keep` is to be given of the moment before a read."""
        return b"" if self._signs is None else self._signs.read()

    def keep(self, query: ObjectQuery, facts: ObjectFacts, *, signs: bytes = b"") -> None:
        """Keep what was just read, with no other task's turn in between.

        Nothing is kept while a commit is under way, nor that there is no such object: names that
        nobody uses are without number.

        Args:
            query: What was asked.
            facts: What was found.
            signs: What `note_signs` gave before the read.
        """
        tenant_id = query.tenant_id
        if self._is_fenced or tenant_id in self._fenced:
            return
        if self._signs is not None and not self._signs.is_quiet(signs):
            return
        if facts.version is None or query.version_id is not None:
            return
        key = (tenant_id, query.bucket, query.key, query.with_pages, query.first_page_index)
        self._entries[key] = (self._commits.get(tenant_id, 0), signs, facts)
        if len(self._entries) > self._objects_max:
            self._entries.popitem(last=False)

    def fence(self, tenant_ids: Collection[int] | None) -> None:
        """Forget these tenants' objects, and keep none until `lift`: a transaction begins.

        Args:
            tenant_ids: Whose objects it may change; None for anybody's.
        """
        if self._signs is not None:
            self._signs.raise_sign()
        if tenant_ids is None:
            self._is_fenced = True
            self._entries.clear()
            return
        self._fenced = frozenset(tenant_ids)
        for tenant_id in tenant_ids:
            self._commits[tenant_id] = self._commits.get(tenant_id, 0) + 1

    def lift(self) -> None:
        """What was fenced may be kept again: the transaction's outcome is known."""
        self._is_fenced = False
        self._fenced = frozenset()
        if self._signs is not None:
            self._signs.lower_sign()
