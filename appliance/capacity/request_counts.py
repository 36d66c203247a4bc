"""Counts requests of tenants for their bills, and adds them to the catalog every minute.

Counted in memory as answers end, folded into `usage_months` in one commit: by a task, and at a
clean stop. A crash loses what was counted since the last fold, so at most `FOLD_INTERVAL_S` and one
commit; nothing is ever counted twice, because counts leave memory only with a commit that stands. A
commit that the catalog refuses leaves them for the next.

What counts: requests of a known tenant that the server did not fail (status below 500), by class:

- reads: GET and HEAD of objects and of what describes them;
- lists: listings of buckets, keys, versions, uploads and parts;
- deletes: DELETE of anything, `DeleteObjects` and aborted uploads;
- writes: everything else, PUT, POST and COPY.

Bytes are those of bodies, in and out, whatever became of the request: they were carried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from appliance.catalog.capacity_history import month_of
from appliance.catalog.errors import CatalogError
from appliance.catalog.usage_months import MonthUse, add_month_use, begin_counting

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.catalog.engine import Catalog
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.http.asgi import RequestRecord
    from tenants.records import TenantId

__all__ = ["FOLD_INTERVAL_S", "RequestCounts", "classify"]

FOLD_INTERVAL_S = 60.0
_SERVER_FAULT = 500
_FIELDS = ("reads", "writes", "lists", "deletes", "received_bytes", "sent_bytes")
_RECEIVED, _SENT = _FIELDS.index("received_bytes"), _FIELDS.index("sent_bytes")


def classify(operation: str, method: str) -> str:
    """The class of a request: `reads`, `writes`, `lists` or `deletes`. Pure.

    Args:
        operation: Name of its record in `appliance.s3.operations`; empty where it has none.
        method: Of HTTP.
    """
    if operation.startswith("List"):
        return "lists"
    if operation.startswith(("Delete", "Abort")) or method == "DELETE":
        return "deletes"
    return "reads" if method in {"GET", "HEAD"} else "writes"


class RequestCounts:
    """The counts of one process. For one trio thread; `note` never blocks.

    Args:
        catalog: Open and running.
        clock: Says which month it is.
        on_failure: Told of a fold that the catalog refused.
    """

    def __init__(
        self, catalog: Catalog, *, clock: Clock, on_failure: Callable[[CatalogError], None]
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._on_failure = on_failure
        self._counts: dict[tuple[TenantId, int], list[int]] = {}
        self._classes: dict[tuple[str, str], int] = {}
        self._has_begun = False
        # `month_of` of this very second is asked for at every request.
        self._month = 0
        self._month_second = -1

    def note_record(self, record: RequestRecord) -> None:
        """Count an answered request, as the log has it, where its tenant is known."""
        if record.tenant_id is not None:
            self.note(
                record.tenant_id,
                operation=record.operation,
                method=record.method,
                status=record.status,
                received_bytes=record.received_bytes,
                sent_bytes=record.sent_bytes,
            )

    def note(
        self,
        tenant_id: TenantId,
        *,
        operation: str,
        method: str,
        status: int,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        """Count an answered request.

        Args:
            tenant_id: Whose it was.
            operation: See `classify`.
            method: Of HTTP.
            status: As sent.
            received_bytes: Of its body.
            sent_bytes: Of the answer's body.
        """
        counts = self._counts.setdefault((tenant_id, self._find_month()), [0] * len(_FIELDS))
        if status < _SERVER_FAULT:
            kind = self._classes.get((operation, method))
            if kind is None:
                # Operations times methods; a method that HTTP does not know never gets here.
                kind = self._classes[operation, method] = _FIELDS.index(classify(operation, method))
            counts[kind] += 1
        counts[_RECEIVED] += received_bytes
        counts[_SENT] += sent_bytes

    async def run(self) -> None:
        """Fold every minute until cancelled; `fold` once more at the end is the caller's."""
        while True:
            await self.fold()
            await trio.sleep(FOLD_INTERVAL_S)

    async def fold(self) -> None:
        """Add what was counted to the catalog; kept for the next time where that is refused.

        Cancellation: before the commit nothing is lost; after it was queued, what became of it is
            not known, and the counts are taken for added.
        """
        await trio.lowlevel.checkpoint()
        taken, self._counts = self._counts, {}
        if not taken and self._has_begun:
            return
        now_us = self._clock.now_us()
        uses = {
            key: MonthUse(**dict(zip(_FIELDS, counts, strict=True)))
            for key, counts in taken.items()
        }

        def add(connection: Connection) -> None:
            begin_counting(connection, now_us=now_us)
            if uses:
                add_month_use(connection, uses)

        try:
            await self._catalog.commit(add)
        except CatalogError as error:
            self._give_back(taken)
            self._on_failure(error)
        else:
            self._has_begun = True

    def _give_back(self, taken: dict[tuple[TenantId, int], list[int]]) -> None:
        for key, counts in taken.items():
            current = self._counts.setdefault(key, [0] * len(_FIELDS))
            for number, count in enumerate(counts):
                current[number] += count

    def _find_month(self) -> int:
        now_us = self._clock.now_us()
        second = now_us // 1_000_000
        if second != self._month_second:
            self._month_second = second
            self._month = month_of(now_us)
        return self._month
