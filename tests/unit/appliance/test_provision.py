"""`init`: an appliance out of nothing, all of it or none."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogUnavailable
from appliance.catalog.volumes import list_volumes
from appliance.clock import FakeClock
from appliance.identity import load_identity
from appliance.key_file import load_keys
from appliance.provision import (
    InitWanted,
    Provisioned,
    ProvisionRefused,
    VolumeWanted,
    plan_segment_bytes,
    provision,
)
from appliance.secrets import SecretBox
from appliance.settings_file import SettingsInvalid, load_settings
from hal.errors import DeviceUnsuitable, VolumeForeign
from tests.admin_harness import repeatable_bytes
from tests.catalog_fixtures import FakeFlusher, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SHARED_MEMORY = Path("/dev/shm")
MIB = 1024 * 1024
GIB = 1024 * MIB


def repeatable_uuids() -> Callable[[], uuid.UUID]:
    give = repeatable_bytes()
    return lambda: uuid.UUID(bytes=give(16), version=4)


def wanted_in(directory: Path, **changes: object) -> InitWanted:
    values: dict[str, object] = {
        "data": directory / "data",
        "volumes": (
            VolumeWanted(tier="ssd", path=directory / "ssd"),
            VolumeWanted(tier="hdd", path=directory / "deep" / "hdd"),
        ),
        "segment_bytes": 8 * MIB,
        "allow_buffered": True,
        **changes,
    }
    return InitWanted(**values)  # type: ignore[arg-type]  # the test names what it changes


async def make(
    wanted: InitWanted,
    *,
    environ: Mapping[str, str] | None = None,
    random_bytes: Callable[[int], bytes] | None = None,
    random_uuid: Callable[[], uuid.UUID] | None = None,
) -> Provisioned:
    return await provision(
        wanted,
        environ=environ or {},
        clock=FakeClock(),
        random_bytes=random_bytes or repeatable_bytes(),
        random_uuid=random_uuid or repeatable_uuids(),
    )


def everything_in(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


async def test_an_appliance_is_made_and_can_be_opened(tmp_path: Path) -> None:
    made = await make(wanted_in(tmp_path))

    settings = load_settings(Path(made.config), {})
    catalog = await Catalog.open(settings.catalog.url, flusher=FakeFlusher(), readers=1)
    identity = await catalog.read(load_identity)
    rows = await catalog.read(list_volumes)
    await catalog.aclose()
    assert str(identity.appliance_uuid) == made.appliance
    assert [(row.volume_id, row.tier, row.path) for row in rows] == [
        (1, "ssd", str(tmp_path / "ssd")),
        (2, "hdd", str(tmp_path / "deep" / "hdd")),
    ]
    assert [volume.path for volume in settings.volumes] == [Path(row.path) for row in rows]
    SecretBox.open(load_keys(settings.secrets.key_file), identity.wrapped_data_key)


async def test_what_is_made_is_for_its_owner_only(tmp_path: Path) -> None:
    made = await make(wanted_in(tmp_path))

    data = Path(made.config).parent
    modes = {path.name: path.stat().st_mode & 0o777 for path in (data, *data.iterdir())}
    assert modes.pop("data") == 0o700
    assert set(modes.values()) == {0o600}
    assert {"thermocline.toml", "master.key", "catalog.db"} <= set(modes)


async def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    await make(wanted_in(tmp_path))
    before = everything_in(tmp_path)

    with pytest.raises(ProvisionRefused, match="initialised already"):
        await make(wanted_in(tmp_path))

    assert everything_in(tmp_path) == before


async def test_existing_empty_directories_are_used_and_kept(tmp_path: Path) -> None:
    for name in ("data", "ssd"):
        (tmp_path / name).mkdir()

    def fail() -> uuid.UUID:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        await make(wanted_in(tmp_path), random_uuid=fail)

    assert everything_in(tmp_path) == {"data": None, "ssd": None}
    await make(wanted_in(tmp_path))


class Exhausted(Exception):
    """The source of randomness was asked once too often."""


async def test_a_failure_at_any_step_leaves_nothing_behind(tmp_path: Path) -> None:
    """Fails the n-th call of either source, for n = 1, 2, 3, until init succeeds."""
    for allowed in range(20):
        left = allowed

        def spend() -> None:
            nonlocal left
            if left == 0:
                raise Exhausted
            left -= 1

        give_bytes, give_uuid = repeatable_bytes(), repeatable_uuids()

        def some_bytes(count: int, give: Callable[[int], bytes] = give_bytes) -> bytes:
            spend()
            return give(count)

        def some_uuid(give: Callable[[], uuid.UUID] = give_uuid) -> uuid.UUID:
            spend()
            return give()

        try:
            await make(wanted_in(tmp_path), random_bytes=some_bytes, random_uuid=some_uuid)
        except Exhausted:
            assert everything_in(tmp_path) == {}, allowed
        else:
            assert allowed >= 5, "key, data key, nonce and three identities are drawn"
            return
    pytest.fail("init never succeeded")


async def test_leftovers_of_a_cut_off_init_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("master.key", "catalog.db"):
        (data / name).write_bytes(b"half")
    before = everything_in(tmp_path)

    with pytest.raises(ProvisionRefused) as caught:
        await make(wanted_in(tmp_path))

    assert caught.value.in_the_way == (data / "master.key", data / "catalog.db")
    assert everything_in(tmp_path) == before


async def test_a_settings_file_that_was_not_put_in_force_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "thermocline.toml.part").write_text("half")

    with pytest.raises(ProvisionRefused, match=r"remove these .*thermocline\.toml\.part"):
        await make(wanted_in(tmp_path))


async def test_a_volume_of_another_appliance_stays_what_it_is(tmp_path: Path) -> None:
    await make(wanted_in(tmp_path / "first"))
    shutil.copytree(tmp_path / "first" / "ssd", tmp_path / "second" / "ssd")
    before = everything_in(tmp_path / "second")

    with pytest.raises(VolumeForeign):
        await make(wanted_in(tmp_path / "second"))

    assert everything_in(tmp_path / "second") == before


async def test_a_directory_with_files_is_no_place_for_a_volume(tmp_path: Path) -> None:
    (tmp_path / "ssd").mkdir()
    (tmp_path / "ssd" / "thesis.tex").write_text("do not lose this")
    before = everything_in(tmp_path)

    with pytest.raises(VolumeForeign, match=r"thesis\.tex"):
        await make(wanted_in(tmp_path))

    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("volumes", "why"),
    [
        ([], "has 1 to 64 volumes"),
        ([("ssd", "one"), ("hdd", "one")], "named for two volumes"),
        ([("ssd", "one"), ("hdd", "one/two")], "lies inside the other"),
        ([("ssd", "one/two"), ("hdd", "one")], "lies inside the other"),
        ([("ssd", "data")], "cannot be both"),
        ([("ssd", ".")], "lies inside the volume"),
        ([("ssd", "file")], "not a directory"),
        ([("ssd", "file/below")], "cannot be made"),
    ],
)
async def test_places_that_will_not_do_are_refused(
    tmp_path: Path, volumes: list[tuple[str, str]], why: str
) -> None:
    (tmp_path / "file").write_text("")
    places = tuple(
        VolumeWanted(tier="ssd" if tier == "ssd" else "hdd", path=tmp_path / name)
        for tier, name in volumes
    )

    with pytest.raises((ProvisionRefused, SettingsInvalid), match=why):
        await make(wanted_in(tmp_path, volumes=places))

    assert set(everything_in(tmp_path)) == {"file"}


@pytest.mark.parametrize("segment_bytes", [1, 8 * MIB - 1, 8 * MIB + 4096, 65 * GIB])
async def test_a_segment_size_that_will_not_do_is_refused(
    tmp_path: Path, segment_bytes: int
) -> None:
    with pytest.raises(ProvisionRefused, match="8MiB to 64GiB"):
        await make(wanted_in(tmp_path, segment_bytes=segment_bytes))

    assert everything_in(tmp_path) == {}


async def test_settings_that_would_be_refused_later_are_refused_now(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="plain HTTP"):
        await make(wanted_in(tmp_path, s3_listen="0.0.0.0:9000"))

    assert everything_in(tmp_path) == {}


async def test_the_environment_counts_as_it_will_for_the_server(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"

    made = await make(
        wanted_in(tmp_path), environ={"THERMOCLINE_CATALOG_URL": f"sqlite:///{elsewhere}"}
    )

    assert elsewhere.exists()
    assert not (Path(made.config).parent / "catalog.db").exists()


async def test_given_values_are_in_the_settings_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'data' / 'mine.db'}"

    made = await make(wanted_in(tmp_path, s3_listen="127.0.0.1:0", catalog_url=url))

    settings = load_settings(Path(made.config), {})
    assert [str(address) for address in settings.s3.listen] == ["127.0.0.1:0"]
    assert settings.catalog.url == url
    assert all(volume.allow_buffered for volume in settings.volumes)


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no tmpfs at /dev/shm")
async def test_a_file_system_without_direct_io_is_refused_unless_allowed(tmp_path: Path) -> None:
    place = SHARED_MEMORY / f"thermocline-{tmp_path.name}"
    volumes = (
        VolumeWanted(tier="ssd", path=tmp_path / "ssd"),
        VolumeWanted(tier="hdd", path=place),
    )
    try:
        with pytest.raises(DeviceUnsuitable):
            await make(wanted_in(tmp_path, volumes=volumes, allow_buffered=False))

        assert everything_in(tmp_path) == {}
        assert not place.exists()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize(
    ("total_bytes", "segment_bytes"),
    [
        (0, 8 * MIB),
        (256 * MIB - 1, 8 * MIB),
        (300 * MIB, 9 * MIB),
        (32 * GIB - 1, 1023 * MIB),
        (32 * GIB, GIB),
        (100 * 1024 * GIB, GIB),
    ],
)
def test_segments_are_smaller_on_small_file_systems(total_bytes: int, segment_bytes: int) -> None:
    assert plan_segment_bytes(total_bytes) == segment_bytes


async def test_a_database_that_cannot_be_reached_is_refused_and_nothing_stays(
    tmp_path: Path,
) -> None:
    nowhere = f"postgresql://nobody@/none?host={tmp_path}"

    with pytest.raises(CatalogUnavailable):
        await make(wanted_in(tmp_path, catalog_url=nowhere))

    assert everything_in(tmp_path) == {}


@pytest.mark.postgres
@pytest.mark.slow
async def test_a_postgresql_catalog_belongs_to_one_appliance(tmp_path: Path) -> None:
    with postgres_server() as make_database:
        url = make_database()
        made = await make(wanted_in(tmp_path / "one", catalog_url=url))

        with pytest.raises(ProvisionRefused, match=f"belongs to appliance {made.appliance}"):
            await make(wanted_in(tmp_path / "two", catalog_url=url))

        catalog = await Catalog.open(url, flusher=FakeFlusher(), readers=1)
        assert len(await catalog.read(list_volumes)) == 2
        await catalog.aclose()
    assert everything_in(tmp_path) != {}
    assert not (tmp_path / "two").exists()
