"""The one way in which a handler makes a written body true."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from appliance.catalog.errors import CatalogFull, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.objects.manifest_writer import ManifestWriter, WrittenManifest
    from appliance.objects.writer import WrittenBody

__all__ = ["commit_body", "commit_manifests", "commit_unit"]

T = TypeVar("T")

COMMIT_S_MAX = 60.0  # a commit that takes longer has lost its database


async def commit_unit(request: S3Request, unit: Callable[[Connection], T]) -> T:
    """Run a unit on the caller's data in the next group commit, whatever happens to the client."""
    with _commit_shield():
        return await request.services.catalog.commit(unit, order=request.principal.tenant.tenant_id)
    raise AssertionError("the shield raises where the commit did not end")


async def commit_body(
    request: S3Request, unit: Callable[[Connection], T], written: WrittenBody
) -> T:
    """Flush the body's segments and run the unit in the next group commit.

    A refused commit gives the body's records back. One whose outcome is unknown
    (`CatalogUnavailable`) leaves them: the sweep after the next start asks the catalog.
    """
    try:
        with _commit_shield():
            value = await request.services.catalog.commit(
                unit,
                flush=written.segments,
                weight_bytes=written.body.size_bytes,
                order=request.principal.tenant.tenant_id,
                confirm=partial(request.services.writer.check_written, written),
            )
            request.services.writer.settle(written)
            return value
    except CatalogUnavailable as error:
        # Given back where the refusal is certain: on a full disk that is the room to go on with.
        if isinstance(error, CatalogFull):
            await request.services.writer.discard(written)
        raise
    except Exception:
        await request.services.writer.discard(written)
        raise
    raise AssertionError("the shield raises where the commit did not end")


async def commit_manifests(
    request: S3Request,
    unit: Callable[[Connection], T],
    written: Sequence[WrittenManifest],
    find_taken: Callable[[T], Sequence[bool]],
) -> T:
    """Flush the manifests' segments and run the unit in the next group commit.

    Args:
        request: Who asks.
        unit: Takes manifests where they are true.
        written: The manifests.
        find_taken: From the unit's value, which of them it took.

    A manifest that was not taken is given back; see `commit_body` for what is not.
    """
    manifests = request.services.manifests
    try:
        with _commit_shield():
            value = await request.services.catalog.commit(
                unit,
                flush=frozenset().union(*(one.segments for one in written)),
                weight_bytes=sum(one.body.size_bytes for one in written),
                order=request.principal.tenant.tenant_id,
                confirm=partial(_check_all_written, manifests, written),
            )
            for one, is_taken in zip(written, find_taken(value), strict=True):
                await manifests.end(one, is_taken=is_taken)
            return value
    except CatalogUnavailable as error:
        if isinstance(error, CatalogFull):
            await _discard_all(request, written)
        raise
    except Exception:
        await _discard_all(request, written)
        raise
    raise AssertionError("the shield raises where the commit did not end")


def _check_all_written(manifests: ManifestWriter, written: Sequence[WrittenManifest]) -> None:
    for one in written:
        manifests.check_written(one)


async def _discard_all(request: S3Request, written: Sequence[WrittenManifest]) -> None:
    for one in written:
        await request.services.manifests.discard(one)


@contextmanager
def _commit_shield() -> Iterator[None]:
    """Let a queued commit come to its end whatever happens to the client.

    Covers flush and commit only; nothing inside waits for the client.
    """
    with trio.CancelScope(shield=True, deadline=trio.current_time() + COMMIT_S_MAX) as scope:
        yield
    if scope.cancelled_caught:
        raise CatalogUnavailable("the commit did not end in time")
