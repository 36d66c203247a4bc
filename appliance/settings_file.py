"""Reads `thermocline.toml` and the environment into `Settings`, and says what is wrong and where.

The environment wins over the file: `s3.listen` is `THERMOCLINE_S3_LISTEN`, and the first volume's
path `THERMOCLINE_VOLUME_1_PATH` (a volume that the file does not have is added). Lists are written
with commas there; an empty variable counts as unset. An unknown key or variable is refused, because
a limit that is misspelt is a limit that is not there.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from appliance.settings import DATA_PLACEHOLDER, SECTIONS, Settings
from appliance.settings_check import find_problem
from appliance.settings_text import ENVIRONMENT_PREFIX, find_lines, find_overlong_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from _typeshed import DataclassInstance

    from appliance.settings import VolumeSettings
    from appliance.settings_text import KeyPath

__all__ = ["ENVIRONMENT_RESERVED", "SettingsInvalid", "load_settings"]

FILE_BYTES_MAX = 1_048_576  # a settings file is a few kilobytes; /dev/zero is none
VOLUMES_MAX = 1_024  # bounds a loop, and what a typing error in a variable's number can make

ENVIRONMENT_RESERVED = frozenset(
    f"{ENVIRONMENT_PREFIX}{name}" for name in ("ADMIN_TOKEN", "ADMIN_URL", "CONFIG", "SETTINGS")
)
"""Variables that mean something to the command line and are no settings."""

# Kubernetes gives every container THERMOCLINE_S3_PORT_9000_TCP_ADDR and the like for a service
# called thermocline-s3. Source: Kubernetes, "Service": environment variables.
_ENVIRONMENT_FOREIGN = re.compile(r"(_SERVICE_(HOST|PORT)(_.*)?|_PORT(_[0-9]+_(TCP|UDP).*)?)$")
_VOLUME_VARIABLE = re.compile(r"([0-9]{1,9})_(.+)")


_SQLITE = "sqlite:///"
IO_SLOTS_BY_TIER = {"ssd": 16, "hdd": 4}  # a disk gains nothing from a deep queue of 4 MiB pages

_Record = TypeVar("_Record", bound="DataclassInstance")


class SettingsInvalid(Exception):
    """The settings cannot be used.

    Attributes:
        path: The file, None where only the environment spoke.
        line: 1-based line in it, None where no line is to blame.
        key: The setting, `s3.listen` or `volume[2].path`; empty where none is to blame.
        reason: What is wrong, in words; never the value of a setting that holds a secret.
    """

    def __init__(self, path: Path | None, line: int | None, key: str, reason: str) -> None:
        place = "environment" if path is None else str(path)
        where = place if line is None else f"{place}:{line}"
        super().__init__(": ".join(piece for piece in (where, key, reason) if piece))
        self.path = path
        self.line = line
        self.key = key
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A value as it was given, and by what: `variable` is None for one of the file."""

    value: object
    variable: str | None = None


_Table = dict[str, _Given]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The document that errors speak of."""

    path: Path | None
    lines: Mapping[KeyPath, int]

    def refuse(self, keys: KeyPath, reason: str, *, variable: str | None = None) -> SettingsInvalid:
        """The error for the value at `keys`, with its line or its variable."""
        if variable is not None:
            return SettingsInvalid(None, None, _format_keys(keys), f"{variable}: {reason}")
        found = (self.lines.get(keys[:length]) for length in range(len(keys), 0, -1))
        line = next((line for line in found if line is not None), None)
        return SettingsInvalid(self.path, line, _format_keys(keys), reason)


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Settings from a TOML file, overridden by the environment, checked as a whole.

    Every path in the result is absolute, every volume has a name and its number of I/O slots.

    Args:
        path: The file, or None to take the environment alone (relative paths then start at the
            working directory).
        environ: As `os.environ`.

    Raises:
        SettingsInvalid: Names the file, line and key, or the variable.
    """
    text = "" if path is None else _read_text(path)
    document = _parse_document(path, text)
    source = _Source(path=path, lines=find_lines(text))
    tables = {section: _Table() for section in SECTIONS if section != "volume"}
    volumes: list[_Table] = []
    for section, content in document.items():
        if section == "volume":
            volumes = _read_volumes(source, content)
        else:
            _require_known(source, (section,), section, SECTIONS)
            tables[section] = _read_table(source, (section,), content)
    _apply_environment(source, environ, tables, volumes)

    read: dict[str, object] = {
        section: _build(source, (section,), section, table) for section, table in tables.items()
    }
    read["volumes"] = tuple(
        _build(source, ("volume", index), "volume", table) for index, table in enumerate(volumes)
    )
    settings = _settle(_change(Settings(), read), path)
    problem = find_problem(settings)
    if problem is not None:
        keys, reason = problem
        raise source.refuse(keys, reason, variable=_find_variable(keys, tables, volumes))
    return settings


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise SettingsInvalid(path, None, "", f"larger than {FILE_BYTES_MAX} bytes")
        return content.decode("utf-8")
    except OSError as error:
        raise SettingsInvalid(path, None, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(path, None, "", "is not UTF-8") from error


def _parse_document(path: Path | None, text: str) -> dict[str, object]:
    overlong_line = find_overlong_key(text)
    if overlong_line is not None:
        raise SettingsInvalid(path, overlong_line, "", "a key has too many parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Until Python 3.14 the position is only in the message.
        match = re.fullmatch(r"(.*) \(at line ([0-9]+), column ([0-9]+)\)", str(error), re.DOTALL)
        if match is None:
            raise SettingsInvalid(path, text.count("\n") + 1, "", str(error)) from error
        reason = f"{match[1]} (column {match[3]})"
        raise SettingsInvalid(path, int(match[2]), "", reason) from error
    except RecursionError as error:
        raise SettingsInvalid(path, None, "", "is nested too deep") from error
    except ValueError as error:
        # Not of tomllib's own making: an integer of more digits than Python converts.
        raise SettingsInvalid(path, None, "", f"cannot be read: {error}") from error


def _read_table(source: _Source, keys: KeyPath, content: object) -> _Table:
    if not isinstance(content, dict):
        raise source.refuse(keys, f"is a section: write [{keys[0]}] and settings below it")
    table = _Table()
    for key, value in content.items():
        _require_known(source, (*keys, key), key, _list_names(str(keys[0])))
        table[key] = _Given(value=value)
    return table


def _read_volumes(source: _Source, content: object) -> list[_Table]:
    if not isinstance(content, list):
        raise source.refuse(("volume",), "comes several times: write [[volume]]")
    if len(content) > VOLUMES_MAX:
        raise source.refuse(("volume",), f"more than {VOLUMES_MAX}")
    return [_read_table(source, ("volume", index), item) for index, item in enumerate(content)]


def _require_known(source: _Source, keys: KeyPath, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name in names:
        return
    kind = "section" if len(keys) == 1 else "setting"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    raise source.refuse(keys, f"no such {kind}; {hint}")


def _apply_environment(
    source: _Source,
    environ: Mapping[str, str],
    tables: dict[str, _Table],
    volumes: list[_Table],
) -> None:
    # Sorted by number, then name, so that volumes can be added one after the other.
    for variable in sorted(environ, key=lambda name: (len(name), name)):
        text = environ[variable]
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if (
            not variable.startswith(ENVIRONMENT_PREFIX)
            or variable in ENVIRONMENT_RESERVED
            or section not in SECTIONS
            or _ENVIRONMENT_FOREIGN.search(variable) is not None
        ):
            continue
        if section == "volume":
            keys, table, key = _find_volume(source, variable, key, volumes)
        else:
            keys, table = (section,), tables[section]
        names = _list_names(section)
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0].upper()}?" if near else "no such setting"
            raise source.refuse((*keys, key), hint, variable=variable)
        if text:
            table[key] = _Given(value=text, variable=variable)


def _find_volume(
    source: _Source, variable: str, rest: str, volumes: list[_Table]
) -> tuple[KeyPath, _Table, str]:
    match = _VOLUME_VARIABLE.fullmatch(rest)
    number = 0 if match is None else int(match[1])
    if match is None or not 1 <= number <= VOLUMES_MAX:
        raise source.refuse(
            ("volume",),
            f"write {ENVIRONMENT_PREFIX}VOLUME_<n>_<SETTING>, n from 1 to {VOLUMES_MAX}",
            variable=variable,
        )
    # A gap in the numbers leaves an empty table, which is then refused for its missing path.
    while len(volumes) < number:
        volumes.append(_Table())
    return ("volume", number - 1), volumes[number - 1], match[2]


def _build(source: _Source, keys: KeyPath, section: str, table: _Table) -> object:
    """The record of one section; each value is validated by itself, so that errors name it."""
    record = SECTIONS[section]
    values: dict[str, object] = {}
    for setting in dataclasses.fields(record):
        given = table.get(setting.name)
        if given is None:
            if setting.default is dataclasses.MISSING:
                raise source.refuse((*keys, setting.name), "must be given")
            continue
        try:
            # TOML has types, so `"1"` is no number there; the environment has only text.
            values[setting.name] = _list_adapters(section)[setting.name].validate_python(
                given.value, strict=given.variable is None
            )
        except ValidationError as error:
            detail = error.errors(include_url=False, include_context=False, include_input=False)
            reason = detail[0]["msg"].removeprefix("Value error, ")
            # Without its cause, which repeats the value: a catalog URL may hold a password.
            raise source.refuse((*keys, setting.name), reason, variable=given.variable) from None
    return record(**values)


@functools.cache
def _list_names(section: str) -> list[str]:
    return [setting.name for setting in dataclasses.fields(SECTIONS[section])]


@functools.cache
def _list_adapters(section: str) -> dict[str, TypeAdapter[object]]:
    hints = get_type_hints(SECTIONS[section], include_extras=True)
    return {name: TypeAdapter(hint) for name, hint in hints.items()}


def _change(record: _Record, values: Mapping[str, object]) -> _Record:
    return dataclasses.replace(record, **values)


def _settle(settings: Settings, path: Path | None) -> Settings:
    """Settings with absolute paths and with every default that rests on another value filled in."""
    base = Path.cwd() if path is None else path.resolve().parent
    data = base / settings.appliance.data

    def settle(record: _Record) -> _Record:
        paths = {
            setting.name: _settle_path(value, base=base, data=data)
            for setting in dataclasses.fields(record)
            if isinstance(value := getattr(record, setting.name), Path)
        }
        return _change(record, paths)

    url = settings.catalog.url
    if url.startswith(_SQLITE):
        url = f"{_SQLITE}{_settle_path(Path(url.removeprefix(_SQLITE)), base=base, data=data)}"
    return dataclasses.replace(
        settings,
        appliance=settle(settings.appliance),
        s3=settle(settings.s3),
        admin=settle(settings.admin),
        metrics=settle(settings.metrics),
        catalog=dataclasses.replace(settings.catalog, url=url),
        volumes=tuple(_complete_volume(settle(volume)) for volume in settings.volumes),
        secrets=settle(settings.secrets),
        heat=settle(settings.heat),
        access_sample=settle(settings.access_sample),
        source=path,
    )


def _settle_path(path: Path, *, base: Path, data: Path) -> Path:
    if path.parts and path.parts[0] == DATA_PLACEHOLDER:
        return data.joinpath(*path.parts[1:])
    return base / path


def _complete_volume(volume: VolumeSettings) -> VolumeSettings:
    return dataclasses.replace(
        volume,
        name=volume.name or re.sub(r"[^A-Za-z0-9_.-]", "_", volume.path.name)[:64],
        io_slots=volume.io_slots or IO_SLOTS_BY_TIER[volume.tier],
    )


def _find_variable(
    keys: KeyPath, tables: Mapping[str, _Table], volumes: list[_Table]
) -> str | None:
    match keys:
        case ("volume", int(index), str(name)):
            given = volumes[index].get(name)
        case (str(section), str(name)):
            given = tables[section].get(name)
        case _:
            given = None
    return None if given is None else given.variable


def _format_keys(keys: KeyPath) -> str:
    """`s3.listen`, and `volume[2].path` for the second volume."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key + 1}]"
        else:
            text += f".{key}" if text else key
    return text
