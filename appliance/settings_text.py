"""Settings as text: their documentation, a new commented file, and the line a key stands on.

`describe_settings` feeds the README's table, `write_settings_file` is what `init` leaves behind,
and `find_lines` lets errors name a line, which `tomllib` does not tell for values.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

from pydantic.fields import FieldInfo

from appliance.setting_types import Address, KeepFree
from appliance.settings import SECTIONS
from appliance.units import format_size_exact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.settings import VolumeSettings

__all__ = [
    "ENVIRONMENT_PREFIX",
    "KeyPath",
    "SettingDoc",
    "describe_settings",
    "find_lines",
    "find_overlong_key",
    "format_settings_file",
    "format_settings_table",
    "write_settings_file",
]

ENVIRONMENT_PREFIX = "THERMOCLINE_"

KeyPath = tuple[str | int, ...]
"""Where a value lies: `("s3", "listen")`, `("volume", 0, "path")`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDoc:
    """One setting as its reader needs it.

    Attributes:
        name: Section and key, `s3.listen`.
        environment: The variable that overrides it; `<n>` stands for a volume's number from 1.
        default: As TOML; empty where there is none.
        is_required: True where it must be given.
        meaning: One sentence.
    """

    name: str
    environment: str
    default: str
    is_required: bool
    meaning: str


def describe_settings() -> list[SettingDoc]:
    """Every setting there is, in the order of the file."""
    docs: list[SettingDoc] = []
    for section, record in SECTIONS.items():
        hints = get_type_hints(record, include_extras=True)
        for setting in dataclasses.fields(record):
            number = "<n>_" if section == "volume" else ""
            is_required = setting.default is MISSING
            docs.append(
                SettingDoc(
                    name=f"{section}.{setting.name}",
                    environment=f"{ENVIRONMENT_PREFIX}{section.upper()}_{number}"
                    f"{setting.name.upper()}",
                    default="" if is_required else _format_value(setting.name, setting.default),
                    is_required=is_required,
                    meaning=_find_meaning(hints[setting.name]),
                )
            )
    return docs


def format_settings_table() -> str:
    """All settings as a Markdown table, for the documentation."""
    lines = ["| setting | default | environment | meaning |", "|---|---|---|---|"]
    for doc in describe_settings():
        default = f"`{doc.default}`" if doc.default else "required" if doc.is_required else "unset"
        lines.append(f"| `{doc.name}` | {default} | `{doc.environment}` | {doc.meaning} |")
    return "\n".join(lines) + "\n"


def _find_meaning(hint: object) -> str:
    for extra in get_args(hint):
        if isinstance(extra, FieldInfo) and extra.description is not None:
            return extra.description
    raise AssertionError(f"a setting without description: {hint}")


def _format_value(name: str, value: object) -> str:
    """A value as TOML; empty for None, which TOML cannot say."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return _quote(format_size_exact(value)) if "bytes" in name and value else str(value)
        case float():
            return f"{value:g}"
        case tuple():
            return f"[{', '.join(_format_value(name, item) for item in value)}]"
        case str() | Path() | Address() | KeepFree():
            return _quote(str(value))
        case _:
            raise AssertionError(f"no TOML form for {type(value).__name__}")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04X}", escaped) + '"'


def format_settings_file(
    values: Mapping[str, object], *, volumes: Sequence[VolumeSettings] = ()
) -> str:
    """The text of a settings file: `values` in force, everything else commented with its default.

    Args:
        values: Setting name (`s3.listen`) -> value of the type its record holds.
        volumes: The `[[volume]]` tables; a commented example where there are none.
    """
    known = {doc.name for doc in describe_settings()}
    assert set(values) <= known, set(values) - known
    lines = [
        "# Settings of a Thermocline appliance.",
        "# A line that begins with # shows a default; remove the # to change it. Each setting can",
        f"# also be set by an environment variable: s3.listen is {ENVIRONMENT_PREFIX}S3_LISTEN.",
    ]
    for section in SECTIONS:
        if section != "volume":
            lines += ["", f"[{section}]", *_format_section(section, values)]
            continue
        for volume in volumes:
            held = {
                f"volume.{setting.name}": getattr(volume, setting.name)
                for setting in dataclasses.fields(volume)
                if getattr(volume, setting.name) != setting.default
            }
            lines += ["", "[[volume]]", *_format_section(section, held)]
        if not volumes:
            lines += ["", "# [[volume]]", *_format_section(section, {})]
    return "\n".join(lines) + "\n"


def _format_section(section: str, values: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    for doc in describe_settings():
        owner, _, key = doc.name.partition(".")
        if owner != section:
            continue
        lines += textwrap.wrap(doc.meaning, width=96, initial_indent="# ", subsequent_indent="# ")
        if doc.name in values:
            lines.append(f"{key} = {_format_value(key, values[doc.name])}")
        else:
            lines.append(f"#{key} = {doc.default}".rstrip())
    return lines


def write_settings_file(
    path: Path, values: Mapping[str, object], *, volumes: Sequence[VolumeSettings] = ()
) -> None:
    """Write a new settings file, mode 0600 because a catalog URL may hold a password.

    Args:
        path: Must not exist.
        values: See `format_settings_file`.
        volumes: See `format_settings_file`.

    Raises:
        OSError: It exists already, or cannot be written.
    """
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(format_settings_file(values, volumes=volumes), encoding="utf-8")


_KEY_DOTS_MAX = 32
_KEY = re.compile(r"""[ \t]*("(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL
)


def find_overlong_key(text: str) -> int | None:
    """The 1-based line of a key of more than 32 parts, None where there is none.

    `tomllib` takes a time that rises with the square of the parts; a setting has two.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > _KEY_DOTS_MAX:
            outside_strings = _STRING.sub("''", line).partition("#")[0]
            if outside_strings.count(".") > _KEY_DOTS_MAX:
                return number
    return None


def find_lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line of each key and table of a TOML document.

    Keys inside inline tables are not looked into: their outer key's line is near enough.

    Args:
        text: A document that `tomllib` accepts; of another, the result is of no use.
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    position = 0
    while (position := _skip(_BLANK, text, position)) < len(text):
        line = text.count("\n", 0, position) + 1
        brackets = 2 if text.startswith("[[", position) else int(text[position] == "[")
        keys, position = _read_keys(text, position + brackets)
        if brackets:
            table = _enter_table(keys, counts, is_array=brackets == 2)
            lines.setdefault(table, line)
            position += brackets
            continue
        for depth in range(1, len(keys) + 1):
            lines.setdefault((*table, *keys[:depth]), line)
        position = _skip_value(text, position + 1)
    return lines


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()


def _read_keys(text: str, position: int) -> tuple[tuple[str, ...], int]:
    keys: list[str] = []
    while (match := _KEY.match(text, position)) is not None:
        keys.append(match[1].strip("\"'"))
        position = match.end()
        if not text.startswith(".", position):
            break
        position += 1
    return tuple(keys), position


def _enter_table(keys: tuple[str, ...], counts: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """The path of a table header; an array's name means its latest element."""
    path: KeyPath = ()
    for number, key in enumerate(keys, start=1):
        path = (*path, key)
        if is_array and number == len(keys):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _skip_value(text: str, position: int) -> int:
    """The end of the value that begins at `position`: its newline, or a comment before it."""
    depth = 0
    while position < len(text):
        letter = text[position]
        if letter in "\"'":
            # An unclosed string cannot be in a valid document; step on, to end in any case.
            position = max(_skip(_STRING, text, position), position + 1)
            continue
        if depth == 0 and letter in "\n#":
            break
        if letter == "#":
            position = _skip(_BLANK, text, position)
            continue
        depth += (letter in "[{") - (letter in "]}")
        position += 1
    return position
