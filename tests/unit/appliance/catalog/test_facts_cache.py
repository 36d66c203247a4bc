"""What is kept of objects, and what a commit makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.catalog.facts_cache import FactsCache
from appliance.catalog.object_facts import ObjectFacts, ObjectQuery
from tenants.records import TenantId

if TYPE_CHECKING:
    from appliance.catalog.records import VersionRecord

HERS = ObjectQuery(TenantId(1), "photos", b"key")
HIS = ObjectQuery(TenantId(2), "photos", b"key")


class SomeVersion:
    """Stands for a version, of which the cache only sees that there is one."""


def make_facts() -> ObjectFacts:
    version: VersionRecord = SomeVersion()  # type: ignore[assignment]
    return ObjectFacts(version=version)


@pytest.fixture
def cache() -> FactsCache:
    return FactsCache(objects_max=3)


def test_what_was_kept_is_found_by_the_same_question_alone(cache: FactsCache) -> None:
    facts = make_facts()
    cache.keep(HERS, facts)

    assert cache.find(HERS) is facts
    for other in (
        HIS,
        replace(HERS, bucket="videos"),
        replace(HERS, key=b"kez"),
        replace(HERS, with_pages=False),
        replace(HERS, first_page_index=1),
        replace(HERS, version_id="null"),
    ):
        assert cache.find(other) is None


@pytest.mark.parametrize("query", [replace(HERS, version_id="null"), HERS])
def test_names_without_an_object_and_named_versions_are_not_kept(
    cache: FactsCache, query: ObjectQuery
) -> None:
    cache.keep(query, ObjectFacts() if query.version_id is None else make_facts())

    assert len(cache) == 0


def test_a_commit_forgets_its_tenants_objects_and_nobody_elses(cache: FactsCache) -> None:
    cache.keep(HERS, make_facts())
    kept = make_facts()
    cache.keep(HIS, kept)

    cache.fence({1})

    assert cache.find(HERS) is None
    assert cache.find(HIS) is kept
    cache.lift()
    assert cache.find(HERS) is None, "it is forgotten, not hidden"
    assert cache.find(HIS) is kept


def test_a_commit_for_everybody_forgets_all(cache: FactsCache) -> None:
    cache.keep(HERS, make_facts())
    cache.keep(HIS, make_facts())

    cache.fence(None)
    cache.lift()

    assert len(cache) == 0


@pytest.mark.parametrize("tenant_ids", [{1, 7}, None])
def test_nothing_is_kept_while_a_commit_is_under_way(
    cache: FactsCache, tenant_ids: set[int] | None
) -> None:
    cache.fence(tenant_ids)
    cache.keep(HERS, make_facts())
    assert cache.find(HERS) is None

    cache.lift()
    assert cache.find(HERS) is None
    facts = make_facts()
    cache.keep(HERS, facts)
    assert cache.find(HERS) is facts


def test_what_was_not_asked_for_the_longest_goes_first(cache: FactsCache) -> None:
    queries = [replace(HERS, key=bytes([number])) for number in range(4)]
    for query in queries[:3]:
        cache.keep(query, make_facts())
    cache.find(queries[0])

    cache.keep(queries[3], make_facts())

    assert [cache.find(query) is not None for query in queries] == [True, False, True, True]
