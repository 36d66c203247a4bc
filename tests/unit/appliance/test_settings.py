from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from appliance.setting_types import Address, KeepFree, parse_address
from appliance.settings import (
    DATA_PLACEHOLDER,
    SECTIONS,
    S3Settings,
    Settings,
    VolumeSettings,
)
from appliance.settings_file import SettingsInvalid, load_settings
from appliance.settings_text import (
    find_lines,
    format_settings_file,
    write_settings_file,
)

VOLUME = """
[[volume]]
path = "ssd0"
tier = "ssd"
"""


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "thermocline.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, {f"THERMOCLINE_{name}": value for name, value in environ.items()})


def refuse(tmp_path: Path, text: str, **environ: str) -> SettingsInvalid:
    with pytest.raises(SettingsInvalid) as caught:
        load(tmp_path, text, **environ)
    return caught.value


def test_a_file_with_one_volume_is_enough(tmp_path: Path) -> None:
    settings = load(tmp_path, VOLUME)

    assert settings.s3 == S3Settings()
    assert settings.appliance.data == Path("/var/lib/thermocline")
    assert settings.admin.socket == Path("/var/lib/thermocline/admin.sock")
    assert settings.secrets.key_file == Path("/var/lib/thermocline/master.key")
    assert settings.catalog.url == "sqlite:////var/lib/thermocline/catalog.db"
    assert settings.source == tmp_path / "thermocline.toml"
    assert settings.volumes == (
        VolumeSettings(path=tmp_path / "ssd0", tier="ssd", name="ssd0", io_slots=16),
    )


def test_a_disk_gets_fewer_slots_than_an_ssd_unless_told_otherwise(tmp_path: Path) -> None:
    text = VOLUME + '[[volume]]\npath = "/hdd0"\ntier = "hdd"\n'
    text += '[[volume]]\npath = "/hdd1"\ntier = "hdd"\nio_slots = 2\nname = "slow"\n'

    volumes = load(tmp_path, text).volumes

    assert [volume.io_slots for volume in volumes] == [16, 4, 2]
    assert [volume.name for volume in volumes] == ["ssd0", "hdd0", "slow"]


def test_relative_paths_start_at_the_file_and_data_paths_in_the_data_directory(
    tmp_path: Path,
) -> None:
    text = '[appliance]\ndata = "state"\n[secrets]\nkey_file = "keys/k"\n'
    text += '[admin]\nsocket = "<data>/run/a.sock"\n[catalog]\nurl = "sqlite:///c.db"\n'

    settings = load(tmp_path, text + VOLUME)

    assert settings.appliance.data == tmp_path / "state"
    assert settings.secrets.key_file == tmp_path / "keys" / "k"
    assert settings.admin.socket == tmp_path / "state" / "run" / "a.sock"
    assert settings.catalog.url == f"sqlite:///{tmp_path}/c.db"


def test_no_section_keeps_a_path_that_begins_nowhere(tmp_path: Path) -> None:
    settings = load(tmp_path, VOLUME + '[access_sample]\ndirectory = "<data>/sample"\n')

    paths = {
        f"{section}.{setting.name}": value
        for section in set(SECTIONS) - {"volume"}
        for setting in dataclasses.fields(getattr(settings, section))
        if isinstance(value := getattr(getattr(settings, section), setting.name), Path)
    }
    assert "access_sample.directory" in paths
    assert [name for name, path in paths.items() if not path.is_absolute()] == []
    assert [name for name, path in paths.items() if DATA_PLACEHOLDER in path.parts] == []


def test_sizes_durations_and_lists_are_read_as_people_write_them(tmp_path: Path) -> None:
    text = """
    [s3]
    listen = ["127.0.0.1:0", "[::1]:9000", "localhost:80"]
    domains = "S3.Example.org."
    trusted_proxies = ["10.0.0.0/8", "::1"]
    header_section_bytes = "16KiB"
    target_bytes_max = 4096
    header_timeout_s = "1m"
    body_rate_window_s = 2.5
    connections_max = 300
    [tenants]
    bytes_per_s_max = "100MB"
    [[volume]]
    path = "a"
    tier = "hdd"
    keep_free = "2.5%"
    """
    settings = load(tmp_path, text)

    assert settings.s3.listen == (
        Address(host="127.0.0.1", port=0),
        Address(host="::1", port=9000),
        Address(host="localhost", port=80),
    )
    assert settings.s3.domains == ("s3.example.org",)
    assert settings.s3.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert settings.s3.header_section_bytes == 16_384
    assert settings.s3.target_bytes_max == 4_096
    assert settings.s3.header_timeout_s == 60.0
    assert settings.s3.body_rate_window_s == 2.5
    assert settings.tenants.bytes_per_s_max == 100_000_000
    assert settings.volumes[0].keep_free == KeepFree(percent=2.5)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[s3]\nlisten = "127.0.0.1:1"\nregion = "eu-west-1"\n' + VOLUME,
        S3_LISTEN="127.0.0.1:2, [::1]:3",
        S3_REQUIRE_SIGNED_PAYLOAD="true",
        S3_CONNECTIONS_MAX="512",
        S3_SHUTDOWN_GRACE_S="1m",
        S3_REGION="",
        MEMORY_BUFFER_BYTES="1GiB",
        LOG_FORMAT="json",
        VOLUME_1_PATH="/ssd9",
        VOLUME_2_PATH="/hdd9",
        VOLUME_2_TIER="hdd",
    )

    assert [str(address) for address in settings.s3.listen] == ["127.0.0.1:2", "[::1]:3"]
    assert settings.s3.require_signed_payload
    assert settings.s3.connections_max == 512
    assert settings.s3.shutdown_grace_s == 60.0
    assert settings.s3.region == "eu-west-1"  # an empty variable is none
    assert settings.memory.buffer_bytes == 2**30
    assert settings.log.format == "json"
    assert [str(volume.path) for volume in settings.volumes] == ["/ssd9", "/hdd9"]


def test_every_section_of_the_file_arrives(tmp_path: Path) -> None:
    changed = {
        "s3": ("region", "eu-test-1"),
        "memory": ("buffer_bytes", 2**30),
        "reclaim": ("grace_s", 7.0),
        "recovery": ("recheck_bytes", 2**20),
        "scrub": ("enabled", False),
        "uploads": ("open_max", 5),
        "tenants": ("buckets_max", 6),
        "log": ("level", "debug"),
    }
    text = "".join(
        f"[{section}]\n{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        for section, (name, value) in changed.items()
    )

    settings = load(tmp_path, VOLUME + text)

    for section, (name, value) in changed.items():
        assert getattr(getattr(settings, section), name) == value, section


def test_the_environment_alone_is_enough() -> None:
    settings = load_settings(
        None, {"THERMOCLINE_VOLUME_1_PATH": "/a", "THERMOCLINE_VOLUME_1_TIER": "ssd"}
    )

    assert settings.source is None
    assert settings.volumes[0].path == Path("/a")


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    load(
        tmp_path,
        VOLUME,
        SERVICE_HOST="10.0.0.1",
        PORT="tcp://10.0.0.1:9000",
        S3_PORT="tcp://10.0.0.1:9000",
        S3_PORT_9000_TCP_ADDR="10.0.0.1",
        S3_SERVICE_PORT_HTTP="9000",
        ADMIN_TOKEN="x",
        CONFIG="/etc/thermocline.toml",
    )


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"),
    [
        ("[s3]\n\nregoin = 1\n", 3, "s3.regoin", "did you mean 'region'?"),
        ("[s4]\n", 1, "s4", "did you mean 's3'?"),
        ("\n\nzzzzzz = 1\n", 3, "zzzzzz", "known are appliance, s3"),
        ("[s3]\nzzzzzzzzzzz = 1\n", 2, "s3.zzzzzzzzzzz", "known are listen"),
        ("[s3]\nheader_count_max = '1'\n", 2, "s3.header_count_max", "valid integer"),
        ("[s3]\nheader_count_max = true\n", 2, "s3.header_count_max", "valid integer"),
        ("[s3]\nallow_plain_http = 1\n", 2, "s3.allow_plain_http", "valid boolean"),
        ("[s3]\nconnections_max = 0\n", 2, "s3.connections_max", "greater than or equal to 1"),
        ("[s3]\nheader_timeout_s = -1\n", 2, "s3.header_timeout_s", "greater than 0"),
        ("[s3]\nheader_timeout_s = nan\n", 2, "s3.header_timeout_s", ""),
        ("[s3]\nheader_timeout_s = inf\n", 2, "s3.header_timeout_s", ""),
        ("[s3]\nheader_section_bytes = '8K'\n", 2, "s3.header_section_bytes", "unknown unit"),
        ("[s3]\nlisten = 'localhost'\n", 2, "s3.listen", "host:port"),
        ("[s3]\nlisten = [\n'localhost:1',\n'a:99999']\n", 2, "s3.listen", "host:port"),
        ("[s3]\nlisten = '::1:9000'\n", 2, "s3.listen", "brackets"),
        ("[s3]\nlisten = []\n", 2, "s3.listen", "at least one"),
        ("[s3]\nlisten = 9000\n", 2, "s3.listen", "valid tuple"),
        ("[s3]\ndomains = ['a b']\n", 2, "s3.domains", "not a host name"),
        ("[s3]\ntrusted_proxies = ['10.0.0.1/8']\n", 2, "s3.trusted_proxies", "host bits"),
        ("[s3]\nregion = 'EU'\n", 2, "s3.region", "lower-case"),
        ("[s3]\ntls_key = 'k'\n", 2, "s3.tls_key", "needs tls_certificate"),
        ("[s3]\ntls_certificate = 'c'\n", 2, "s3.tls_certificate", "needs tls_key"),
        ("[s3]\nconnections_max = 3\n", 1, "s3.connections_per_address_max", "more than"),
        ("[s3]\nobject_bytes_max = '1GiB'\n", 1, "s3.upload_bytes_max", "more than"),
        ("s3 = 1\n", 1, "s3", "is a section"),
        ("[volume]\npath='x'\n", 1, "volume", "write [[volume]]"),
        ("[[volume]]\ntier='ssd'\n", 1, "volume[1].path", "must be given"),
        ("[[volume]]\npath='a'\ntier='nvme'\n", 3, "volume[1].tier", "'ssd' or 'hdd'"),
        ("[[volume]]\npath=''\ntier='ssd'\n", 2, "volume[1].path", "not a path"),
        ("[[volume]]\npath='a'\ntier='ssd'\nkeep_free='60%'\n", 4, "volume[1].keep_free", "50%"),
        ("[[volume]]\npath='a'\ntier='ssd'\nkeep_free='x%'\n", 4, "volume[1].keep_free", "float"),
        ("[admin]\nlisten = '127.0.0.1:1'\n", 2, "admin.listen", "tls_certificate"),
        ("[metrics]\nlisten = '0.0.0.0:9001'\n", 2, "metrics.listen", "set token_file"),
        ("[catalog]\nurl = 'mysql://x'\n", 2, "catalog.url", "must begin with"),
        ("[catalog]\nurl = 'sqlite:////a?b'\n", 2, "catalog.url", "question mark"),
        ("[log]\nlevel = 'loud'\n", 2, "log.level", "'debug'"),
        ("a = \n", 1, "", "Invalid value (column 5)"),
        ("[s3]\nregion = 'a'\nregion = 'b'\n", 3, "", "Cannot overwrite"),
        ('[s3]\nregion = "a\n', 2, "", "column"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(
    tmp_path: Path, text: str, line: int, key: str, reason: str
) -> None:
    error = refuse(tmp_path, text if "volume]" in text else text + VOLUME)

    assert (error.path, error.line, error.key) == (tmp_path / "thermocline.toml", line, key)
    assert reason in error.reason
    assert str(error).startswith(f"{tmp_path}/thermocline.toml:{line}: ")


def test_two_volumes_need_two_places_and_two_names(tmp_path: Path) -> None:
    error = refuse(tmp_path, VOLUME + VOLUME)
    assert (error.key, error.line) == ("volume[2].path", 7)

    error = refuse(tmp_path, VOLUME + '[[volume]]\npath = "/b/ssd0"\ntier = "ssd"\n')
    assert (error.key, "taken" in error.reason) == ("volume[2].name", True)

    assert refuse(tmp_path, "").key == "volume"


@pytest.mark.parametrize("listen", ["0.0.0.0:9000", "[::]:9000", ":9000", "*:80", "nas.lan:9000"])
def test_plain_http_to_the_network_needs_an_explicit_word(tmp_path: Path, listen: str) -> None:
    text = f"[s3]\nlisten = '{listen}'\n"

    error = refuse(tmp_path, text + VOLUME)
    assert error.key == "s3.listen"
    assert "plain HTTP" in error.reason
    load(tmp_path, text + "allow_plain_http = true\n" + VOLUME)
    load(tmp_path, text + "tls_certificate = 'c'\ntls_key = 'k'\n" + VOLUME)


@pytest.mark.parametrize(
    ("variable", "value", "key", "reason"),
    [
        ("S3_LISTNE", "x", "s3.listne", "did you mean LISTEN?"),
        ("S3_ZZZZZZZZ", "", "s3.zzzzzzzz", "no such setting"),
        ("S3_CONNECTIONS_MAX", "many", "s3.connections_max", "valid integer"),
        ("S3_ALLOW_PLAIN_HTTP", "perhaps", "s3.allow_plain_http", "valid boolean"),
        ("S3_LISTEN", "0.0.0.0:1", "s3.listen", "plain HTTP"),
        ("VOLUME_PATH", "x", "volume", "VOLUME_<n>"),
        ("VOLUME_0_PATH", "x", "volume", "VOLUME_<n>"),
        ("VOLUME_99999_PATH", "x", "volume", "VOLUME_<n>"),
        ("VOLUME_1_PAHT", "x", "volume[1].paht", "did you mean PATH?"),
        ("VOLUME_1_TIER", "tape", "volume[1].tier", "'ssd' or 'hdd'"),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, variable: str, value: str, key: str, reason: str
) -> None:
    error = refuse(tmp_path, VOLUME, **{variable: value})

    assert (error.path, error.line, error.key) == (None, None, key)
    assert error.reason.startswith(f"THERMOCLINE_{variable}: ")
    assert reason in error.reason


def test_a_gap_in_the_numbers_of_volumes_is_noticed(tmp_path: Path) -> None:
    error = refuse(tmp_path, VOLUME, VOLUME_3_PATH="/c", VOLUME_3_TIER="hdd")

    assert (error.key, error.reason) == ("volume[2].path", "must be given")


def test_a_password_in_the_catalog_url_is_shown_nowhere(tmp_path: Path) -> None:
    text = "[catalog]\nurl = 'postgresql://u:canary@h/d'\n"
    settings = load(tmp_path, text + VOLUME)
    error = refuse(tmp_path, text.replace("postgresql", "postgres") + VOLUME)

    assert settings.catalog.url == "postgresql://u:canary@h/d"
    assert "canary" not in repr(settings)
    assert "canary" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_file_that_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "thermocline.toml"
    with pytest.raises(SettingsInvalid, match="No such file"):
        load_settings(path, {})
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsInvalid, match="not UTF-8"):
        load_settings(path, {})
    path.write_bytes(b"#" * 1_048_577)
    with pytest.raises(SettingsInvalid, match="larger"):
        load_settings(path, {})


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:", "a:b", "a:-1", "a:65536", "a b:1", "[::1]", "[x]:1", "\u00e9:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


def test_room_to_keep_free_is_rounded_up() -> None:
    assert KeepFree(percent=5.0).resolve_bytes(1_001) == 51
    assert KeepFree(percent=0.001).resolve_bytes(1) == 1
    assert KeepFree(size_bytes=7).resolve_bytes(1_001) == 7


def test_room_to_keep_free_follows_the_volume_where_nothing_is_set() -> None:
    auto = VolumeSettings(path=Path("/v"), tier="ssd").keep_free

    assert str(auto) == "auto"
    assert [auto.resolve_bytes(size << 20) >> 20 for size in (100, 1_000, 10_000, 4_000_000)] == [
        32,
        40,
        400,
        1_024,
    ]


def test_room_to_keep_free_may_be_left_to_the_volume_by_name(tmp_path: Path) -> None:
    path = tmp_path / "thermocline.toml"
    written = VolumeSettings(path=Path("/v"), tier="ssd", keep_free=KeepFree(is_auto=True))
    write_settings_file(path, {"appliance.data": tmp_path / "data"}, volumes=[written])
    path.write_text(path.read_text().replace("#keep_free", "keep_free"))

    assert load_settings(path, {}).volumes[0].keep_free == KeepFree(is_auto=True)


def test_a_written_file_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "thermocline.toml"
    volumes = [
        VolumeSettings(path=Path("/ssd0"), tier="ssd"),
        VolumeSettings(path=Path('/h "d" \\ d'), tier="hdd", keep_free=KeepFree(percent=5.0)),
    ]
    write_settings_file(
        path,
        {"appliance.data": tmp_path / "data", "s3.listen": (Address(host="::1", port=9),)},
        volumes=volumes,
    )

    settings = load_settings(path, {})

    assert path.stat().st_mode & 0o777 == 0o600
    assert settings.appliance.data == tmp_path / "data"
    assert settings.s3.listen == (Address(host="::1", port=9),)
    assert [volume.path for volume in settings.volumes] == [volume.path for volume in volumes]
    assert settings.volumes[1].keep_free == KeepFree(percent=5.0)
    with pytest.raises(FileExistsError):
        write_settings_file(path, {})


def test_every_default_that_a_written_file_shows_is_the_default_in_force(tmp_path: Path) -> None:
    volume = VolumeSettings(path=Path("/ssd0"), tier="ssd")
    plain = format_settings_file({}, volumes=[volume])
    spoken = "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2].isalpha() else line
        for line in plain.splitlines()
        if not line.endswith(" =")
    )

    assert load(tmp_path, spoken) == load(tmp_path, plain)
    assert len(tomllib.loads(spoken)["s3"]) > 15


def test_lines_are_found_behind_every_form_of_value() -> None:
    lines = [
        "# comment [not] = here",  # 1
        'a = "x # y = [" # c',
        "b = '''",
        "z = 1",
        "[no]",
        "'''",
        'c = """\\"""" # six',
        "d = [ # [",
        '  "]", 1,',
        "]",  # 10
        "e.f.g = { h = 1, i = '}' }",
        "",
        '[ "t u" . v ]',
        "k = 1",
        "[[w]]",  # 15
        "k = 2",
        "[[w]]",
        "k = 3",
        "[w.x]",
        "k = 4",  # 20
        "[[w.y]]",
        "k = 5",
    ]
    text = "\n".join(lines)
    tomllib.loads(text)

    assert find_lines(text) == {
        ("a",): 2,
        ("b",): 3,
        ("c",): 7,
        ("d",): 8,
        ("e",): 11,
        ("e", "f"): 11,
        ("e", "f", "g"): 11,
        ("t u", "v"): 13,
        ("t u", "v", "k"): 14,
        ("w", 0): 15,
        ("w", 0, "k"): 16,
        ("w", 1): 17,
        ("w", 1, "k"): 18,
        ("w", 1, "x"): 19,
        ("w", 1, "x", "k"): 20,
        ("w", 1, "y", 0): 21,
        ("w", 1, "y", 0, "k"): 22,
    }


@given(st.text(alphabet="a.=[]{}\"'#\\ \n,1", max_size=60))
def test_finding_lines_ends_on_any_text(text: str) -> None:
    lines = find_lines(text)

    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
