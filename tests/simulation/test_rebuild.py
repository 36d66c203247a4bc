"""What the segments say equals what the catalog knows, after random histories of every operation.

The histories are those of the reference model. At the end of each, once nothing dead is left on the
devices, a catalog is made of the volumes alone and compared with the one that was there, row by
row: all but sequences, how often a page has moved, and what is only in catalogs. Nor may an upload
in progress keep the body of a version that was deleted, since that one comes back (decision 9):
such uploads are aborted first.

`REBUILD_RUNS` and `REBUILD_SEED` in the environment set how many runs, and from which seed.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, seed, settings, strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from sqlalchemy import case, select, union_all

from appliance.catalog import schema, tables
from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.identity import Identity
from appliance.rebuild.run import find_all
from appliance.rebuild.write import write_catalog
from tests.simulation.appliance_machine import ApplianceMachine
from tests.simulation.asgi_client import Request
from tests.simulation.machine import ASKS, KEYS, WORDS
from tests.simulation.model import Ask
from tests.simulation.object_rules import NUMBERS
from tests.simulation.world import APPLIANCE_UUID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.catalog.unit import Connection
    from appliance.rebuild.evidence import Evidence
    from tests.simulation.model import Words

RUNS = int(os.environ.get("REBUILD_RUNS", "20"))
RUNS_PER_TEST = 10  # Hypothesis remembers every step of a test while it runs
STEPS = 50
DEFAULT_SEED = 1 if os.environ.get("CI") == "true" else secrets.randbelow(1_000_000)
SEED = int(os.environ.get("REBUILD_SEED") or DEFAULT_SEED)
SEEDS = range(SEED, SEED - (-RUNS // RUNS_PER_TEST))  # rounded up

Rows = list[tuple[object, ...]]

_t, _bu, _v = tables.tenants.c, tables.buckets.c, tables.versions.c
_vb, _b, _p = tables.version_bodies.c, tables.bodies.c, tables.pages.c
_s = tables.page_shadows.c


def collect_facts(connection: Connection) -> dict[str, Rows]:
    """Everything that a rebuild must find."""
    of_bucket = tables.buckets.join(tables.tenants)
    versions = select(
        _t.name,
        _bu.name,
        _v.key,
        _v.is_current,
        _v.is_delete_marker,
        _v.is_null_version,
        _v.size_bytes,
        _v.etag,
        _v.modified_us,
        _v.content_type,
        _v.attributes,
        _v.checksum_algorithm,
        _v.checksum_value,
        _v.checksum_type,
        _v.body_id,
        _v.part_count,
        _v.origin_id,
        # Two markers of one key in one request are made in an order that nobody can tell.
        case((_v.is_delete_marker, -1), else_=_v.manifest_body_id),
    ).select_from(tables.versions.join(of_bucket, _v.bucket_id == _bu.bucket_id))
    slices = select(
        _bu.name,
        _v.key,
        _v.modified_us,
        _vb.ordinal,
        _vb.body_id,
        _vb.size_bytes,
        _vb.part_number,
        _vb.part_checksum,
    ).select_from(
        tables.version_bodies.join(tables.versions, _v.sequence == _vb.sequence).join(
            tables.buckets, _bu.bucket_id == _v.bucket_id
        )
    )
    # What is of nothing but uploads in progress is not rebuilt.
    of_versions = union_all(
        select(_v.body_id).where(_v.body_id.is_not(None)),
        select(_vb.body_id),
        select(_v.manifest_body_id).where(_v.manifest_body_id.is_not(None)),
        select(_bu.manifest_body_id).where(_bu.manifest_body_id.is_not(None)),
    )
    return {
        "buckets": _list(
            connection,
            select(
                _t.tenant_id,
                _t.name,
                _bu.name,
                _bu.created_us,
                _bu.versioning,
                _bu.bytes_max,
                _bu.objects_max,
                _bu.object_count,
                _bu.manifest_body_id,
            )
            .select_from(of_bucket)
            .order_by(_t.name, _bu.name),
        ),
        "versions": _list(connection, versions.order_by(_t.name, _bu.name, _v.key, _v.sequence)),
        "slices": _list(connection, slices.order_by(_bu.name, _v.key, _v.modified_us, _vb.ordinal)),
        "bodies": _list(
            connection,
            select(_b.body_id, _b.tenant_id, _b.size_bytes)
            .where(_b.body_id.in_(of_versions))
            .order_by(_b.body_id),
        ),
        "pages": _list(
            connection,
            select(*(column for column in _p if column is not _p.generation))
            .where(_p.body_id.in_(of_versions))
            .order_by(_p.body_id, _p.page_index),
        ),
        "shadows": _list(
            connection,
            select(*_s).where(_s.body_id.in_(of_versions)).order_by(_s.body_id, _s.page_index),
        ),
    }


def collect_part_bodies(connection: Connection) -> list[tuple[str, str, bytes, str, int]]:
    """Tenant, bucket, key, upload and body of what nothing but an upload in progress holds."""
    of_versions = union_all(
        select(_v.body_id).where(_v.body_id.is_not(None)),
        select(_vb.body_id),
    )
    _u, _pb = tables.uploads.c, tables.part_bodies.c
    found = connection.execute(
        select(_t.name, _bu.name, _u.key, _u.upload_id, _pb.body_id)
        .select_from(
            tables.part_bodies.join(tables.uploads, _u.upload_number == _pb.upload_number)
            .join(tables.buckets, _bu.bucket_id == _u.bucket_id)
            .join(tables.tenants, _t.tenant_id == _bu.tenant_id)
        )
        .where(_pb.body_id.not_in(of_versions))
    )
    return [tuple(row) for row in found]


def _list(connection: Connection, statement: object) -> Rows:
    return [tuple(row) for row in connection.execute(statement)]  # type: ignore[call-overload]


class RebuildMachine(ApplianceMachine):
    """The reference model's histories, more renames among them, each with a rebuild at its end."""

    @rule(ask=ASKS, key=KEYS, number=NUMBERS, words=WORDS, is_tagged=st.booleans())
    def rename(
        self, ask: Ask, key: bytes, number: int | None, words: Words, is_tagged: bool
    ) -> None:
        """A copy, perhaps tagged, whose source goes: its body lives on under the other name."""
        ask = ask._replace(role="rw", bucket="data")
        source = self.pick_version(ask, number)
        found = self.bucket(ask)
        if found is None or source.key not in found.objects:
            return
        self.copy(ask._replace(key=key), "data", source.key, number, words, (True, True), ({}, {}))
        if is_tagged:
            self.tag(ask._replace(key=key), None, words, "PUT")
        if key != source.key:
            self.delete(source._replace(version_id=None), number, {})

    def destroy(self) -> None:
        """Rebuild and compare before the appliance goes, unless the run failed already."""
        try:
            if sys.exc_info()[0] is None:
                with tempfile.TemporaryDirectory() as directory:
                    self.loop.call(self.rebuild, Path(directory))
        finally:
            super().destroy()

    async def rebuild(self, directory: Path) -> None:
        volumes = {volume.volume_id: volume for volume in self.world.volumes}
        evidence, rebuilt, _ = await find_all(volumes, None, lambda _done, _total: None)
        if await self.abort_keepers(evidence):
            evidence, rebuilt, _ = await find_all(volumes, None, lambda _done, _total: None)
        url = f"sqlite:///{directory / 'catalog.db'}"
        schema.upgrade(url)
        await write_catalog(
            url,
            rebuilt,
            evidence,
            [],
            identity=Identity(
                appliance_uuid=APPLIANCE_UUID, wrapped_data_key=self.template.box.wrapped
            ),
            heritage=None,
            clock=self.world.clock,
            random_bytes=bytes,
        )
        engine = make_writer_engine(parse_url(url))
        with engine.connect() as connection:
            found = collect_facts(connection)
        engine.dispose()

        assert evidence.damage == []
        assert rebuilt.left_out == []
        known = await self.world.catalog.read(collect_facts)
        for table, rows in known.items():
            # What is missing and what is too much, rather than all that there is.
            assert [row for row in rows if row not in found[table]] == [], table
            assert [row for row in found[table] if row not in rows] == [], table
            assert found[table] == rows, f"{table}: in another order"

    async def abort_keepers(self, evidence: Evidence) -> bool:
        """Abort the uploads with parts copied of versions that are gone; whether there were any."""
        keepers = {
            (tenant, bucket, key, upload_id)
            for tenant, bucket, key, upload_id, body_id in await self.world.catalog.read(
                collect_part_bodies
            )
            if (annex := evidence.bodies[body_id].annex) is not None and annex.upload_id is None
        }
        for tenant, bucket, key, upload_id in sorted(keepers):
            query = (("uploadId", upload_id),)
            request = Request(method="DELETE", bucket=bucket, key=key, query=query)
            answer = await self.exchange(Ask(tenant, "rw", bucket, key), request)
            assert answer.status == 204, answer.body
        if keepers:
            await self.world.reclaim()
        return bool(keepers)


@pytest.fixture(scope="module")
def opened() -> Iterator[None]:
    with ExitStack() as resources:
        RebuildMachine.open(resources)
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("number", SEEDS, ids="seed={}".format)
def test_a_rebuilt_catalog_is_the_one_that_was_lost(number: int) -> None:
    machine = seed(number)(type("SeededMachine", (RebuildMachine,), {}))
    wanted = settings(
        max_examples=min(RUNS_PER_TEST, RUNS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(machine, settings=wanted)
