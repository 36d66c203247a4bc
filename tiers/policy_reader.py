"""Takes typed fields out of a parsed TOML document and notes, with its place, what is wrong.

Nothing raises: a fault is noted and the default returned, so that one check of a file names all of
its faults. `Table.finish` refuses what nobody took.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, TypeVar

from tiers.errors import PolicyFault
from tiers.units import UnitInvalid, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tiers.toml_positions import Path, PositionIndex

__all__ = ["FaultList", "Table", "format_path", "show_name"]

SHOWN_CHARACTERS = 64  # of a value, a key or a name in a message; a valid name is not cut
LISTED_CHARACTERS = 320  # of the names that are known, in a message
FAULTS_MAX = 100  # of one file: whoever gets more has named the wrong file

T = TypeVar("T")

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%", re.ASCII)
_TIMES = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?x", re.ASCII)


class FaultList:
    """Faults and warnings of one file."""

    def __init__(self, index: PositionIndex) -> None:
        self._index = index
        self._faults: list[PolicyFault] = []
        self._warnings: list[PolicyFault] = []

    @property
    def faults(self) -> tuple[PolicyFault, ...]:
        """What makes the file invalid, in the order of the file."""
        return _in_order(self._faults)[:FAULTS_MAX]

    @property
    def are_many(self) -> bool:
        """Whether more is noted than will be told: to look for what was meant is time lost."""
        return len(self._faults) >= FAULTS_MAX

    @property
    def warnings(self) -> tuple[PolicyFault, ...]:
        """What is probably not meant."""
        return _in_order(self._warnings)[:FAULTS_MAX]

    def refuse(self, path: Path, rule: str, *, at_value: bool = False) -> None:
        """Note a fault at a key, or at its value."""
        self._faults.append(self._make(path, rule, at_value=at_value))

    def warn(self, path: Path, rule: str) -> None:
        """Note a doubt."""
        self._warnings.append(self._make(path, rule, at_value=False))

    def _make(self, path: Path, rule: str, *, at_value: bool) -> PolicyFault:
        position = self._index.find_value(path) if at_value else self._index.find_key(path)
        return PolicyFault(
            line=position.line, column=position.column, key=format_path(path), rule=rule
        )


def _in_order(faults: list[PolicyFault]) -> tuple[PolicyFault, ...]:
    unique = dict.fromkeys(faults)
    return tuple(sorted(unique, key=lambda fault: (fault.line, fault.column)))


def format_path(path: Path) -> str:
    """``rule[3].threshold.high``: indices of arrays from 1, as people count rules."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if text else "") + _show_key(part)
    return text


def _show_key(key: str) -> str:
    return _crop(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else repr(key))


def show_name(name: str) -> str:
    """A name as a message may say it: one short line, whatever the file calls a thing."""
    return _crop(name if name.isprintable() else repr(name))


def _show(value: object) -> str:
    # Only the types whose text is short, or is cut here, get into a message.
    return _crop(repr(value[: SHOWN_CHARACTERS + 1] if isinstance(value, str) else value))


def _crop(shown: str) -> str:
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "..."


def _find_nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name[:SHOWN_CHARACTERS], names, n=1)
    if close:
        return f"; did you mean {show_name(close[0])}?"
    return f"; known: {_list_names(names)}" if names else ""


def _list_names(names: Sequence[str]) -> str:
    """The names with commas, as far as a message has room for them: some are the file's own."""
    listed = ", ".join(map(show_name, names))
    if len(listed) <= LISTED_CHARACTERS:
        return listed
    return listed[: listed.rindex(", ", 0, LISTED_CHARACTERS)] + ", ..."


class Table:
    """One table of the document.

    Args:
        values: As tomllib returned it.
        path: Where it is.
        faults: Where to note faults.
    """

    def __init__(self, values: Mapping[str, object], path: Path, faults: FaultList) -> None:
        self._values = values
        self.path = path
        self.faults = faults
        self._taken: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._values

    def refuse(self, name: str, rule: str) -> None:
        """Note a fault at a field's value, or at the table where the field is missing."""
        self.faults.refuse((*self.path, name), rule, at_value=self.has(name))

    def suggest(self, name: str, known: Iterable[str]) -> str:
        """``; did you mean ...?`` with the known name that is most like it, else the known ones.

        Nothing once the file has more faults than are told.
        """
        return "" if self.faults.are_many else _find_nearest(name, known)

    def skip(self, name: str) -> None:
        """Take a field without judging it."""
        self._taken.add(name)

    def take_text(self, name: str, default: str | None = None, *, bytes_max: int = 1024) -> str:
        """A text that is not empty; without a default it must be there."""
        value = self._take(name)
        if value is None:
            if default is None:
                self.refuse(name, "is required")
            return default or ""
        if not isinstance(value, str) or not value:
            self.refuse(name, f"{_show(value)}: write a text")
        elif len(value.encode("utf-8", "surrogatepass")) > bytes_max:
            self.refuse(name, f"longer than {bytes_max} bytes")
        else:
            return value
        return default or ""

    def take_choice(self, name: str, choices: Iterable[str], default: str | None) -> str | None:
        """One of some words."""
        value = self._take(name)
        if value is None:
            return default
        known = list(choices)
        if isinstance(value, str) and value in known:
            return value
        hint = self.suggest(value if isinstance(value, str) else "", known)
        self.refuse(name, f"{_show(value)} is none of those that are known{hint}")
        return default

    def take_flag(self, name: str) -> bool | None:
        """True or false; None where it is not there."""
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return value
        self.refuse(name, f"{_show(value)}: write true or false")
        return None

    def take_count(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.refuse(name, f"{_show_number(value)}: write a whole number from {low} to {high}")
        return default

    def take_number(self, name: str, default: float, *, low: float, high: float) -> float:
        """A number within bounds."""
        value = self._take(name)
        if value is None:
            return default
        number = _as_number(value)
        if number is not None and low <= number <= high:
            return number
        self.refuse(name, f"{_show_number(value)}: write a number from {low:g} to {high:g}")
        return default

    def take_share(self, name: str, default: float, *, high: float = 1.0) -> float:
        """A share of a whole, as 0.85 or "85%"."""
        value = self._take(name)
        if value is None:
            return default
        match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        number = float(match[1]) / 100 if match else _as_number(value)
        if number is not None and 0.0 <= number <= high:
            return number
        self.refuse(name, f'{_show_number(value)}: write a share such as 0.85 or "85%"')
        return default

    def take_times(self, name: str, default: float, *, low: float, high: float) -> float:
        """A multiple, as "2.0x" or 2.0."""
        value = self._take(name)
        if value is None:
            return default
        match = _TIMES.fullmatch(value) if isinstance(value, str) else None
        number = float(match[1]) if match else _as_number(value)
        if number is not None and low <= number <= high:
            return number
        bounds = f"{low:g}x to {high:g}x"
        self.refuse(name, f'{_show_number(value)}: write a multiple such as "2.0x", {bounds}')
        return default

    def take_size(
        self, name: str, default: T, *, low: int = 0, words: Iterable[str] = ()
    ) -> int | str | T:
        """Bytes, as "64MiB"; or one of some words."""
        return self._take_unit(name, default, parse_size, (low, "bytes"), words)

    def take_duration(
        self, name: str, default: T, *, low: float = 0.0, words: Iterable[str] = ()
    ) -> float | str | T:
        """Seconds, as "6h"; or one of some words."""
        return self._take_unit(name, default, parse_duration, (low, "seconds"), words)

    def _take_unit(
        self,
        name: str,
        default: T,
        parse: Callable[[str], float],
        low: tuple[float, str],
        words: Iterable[str],
    ) -> int | str | T:
        value = self._take(name)
        if value is None:
            return default
        known = tuple(words)
        if isinstance(value, str) and value in known:
            return value
        also = "".join(f', "{word}"' for word in known)
        try:
            # A bare number would leave the unit to be guessed.
            number = parse(value) if isinstance(value, str) and not value.isdigit() else None
        except UnitInvalid as error:
            self.refuse(name, f"{_show(value)}: {error.rule[:200]}{also}")
            return default
        if number is None:
            self.refuse(name, f"{_show_number(value)}: write it with its unit, as a text{also}")
        elif number < low[0]:
            self.refuse(name, f"{_show(value)}: at least {low[0]:g} {low[1]}")
        else:
            return number  # type: ignore[return-value]  # a size is int, a duration float
        return default

    def take_table(self, name: str) -> Table:
        """The table of that name; an empty one where it is not there."""
        value = self._take(name)
        if value is not None and not isinstance(value, dict):
            self.refuse(name, f"{_show_number(value)}: write a table")
            value = None
        return Table(value or {}, (*self.path, name), self.faults)

    def take_tables(self, name: str, *, count_max: int) -> list[Table]:
        """The array of tables of that name."""
        value = self._take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.refuse(name, f"write tables, each under [[{name}]]")
            return []
        if len(value) > count_max:
            self.refuse(name, f"{len(value)} of them, at most {count_max}")
        return [
            Table(entry, (*self.path, name, number), self.faults)
            for number, entry in enumerate(value[:count_max])
        ]

    def take_texts(self, name: str, *, count_max: int) -> tuple[tuple[str, str], ...]:
        """A table of texts, as pairs in the order of their names."""
        table = self.take_table(name)
        pairs = [(key, table.take_text(key)) for key in table.list_names()[:count_max]]
        if len(table.list_names()) > count_max:
            self.refuse(name, f"more than {count_max} of them")
        return tuple(sorted(pairs))

    def list_names(self) -> list[str]:
        """Names of all fields."""
        return list(self._values)

    def finish(self, *, hints: Mapping[str, str] | None = None) -> None:
        """Refuse every field that nobody took.

        Args:
            hints: What to say of fields that are known elsewhere.
        """
        for name in self._values:
            if name in self._taken:
                continue
            hint = (hints or {}).get(name)
            rule = hint or "unknown key" + self.suggest(name, self._taken)
            self.faults.refuse((*self.path, name), rule)

    def _take(self, name: str) -> object:
        self._taken.add(name)
        return self._values.get(name)


def _as_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A whole number of a TOML file may have thousands of digits; those are out of any bounds.
    if isinstance(value, int):
        return float(value) if abs(value) < 2**63 else math.inf
    return value if math.isfinite(value) else None


def _show_number(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of 64 bits or more"
    return _show(value) if isinstance(value, str | int | float) else f"a {_kind_of(value)}"


def _kind_of(value: object) -> str:
    if isinstance(value, dict):
        return "table"
    return "list" if isinstance(value, list) else "date or time"
