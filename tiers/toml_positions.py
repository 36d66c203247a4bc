"""Where each key of a TOML document stands, which tomllib does not say.

Works on documents that tomllib has accepted, so that it may skip over values without judging them.
A path is the keys and the 0-based indices of arrays down to a value:
``("rule", 2, "threshold", "high")``.

Source: TOML 1.0.0.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

__all__ = ["Path", "Position", "PositionIndex"]

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!"")|""(?!"))*"{3,5}'
    r"|'''(?:[^']|'(?!'')|''(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Line and column, both from 1; a column is a character, a tab among them."""

    line: int
    column: int


class PositionIndex:
    """Positions of the keys and values of one document.

    Args:
        text: TOML that tomllib accepts.
    """

    def __init__(self, text: str) -> None:
        # tomllib reads CRLF as LF, and positions are the same either way: LF ends the line.
        self._text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._keys: dict[Path, int] = {(): 0}
        self._values: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}
        self._scan()

    def find_key(self, path: Path) -> Position:
        """Where the key stands; for what has none, the nearest above it that has."""
        while path not in self._keys and path not in self._values:
            path = path[:-1]
        return self._locate(self._keys[path] if path in self._keys else self._values[path])

    def find_value(self, path: Path) -> Position:
        """Where the value begins; a table's is its key."""
        offset = self._values.get(path)
        return self.find_key(path) if offset is None else self._locate(offset)

    def _locate(self, offset: int) -> Position:
        line = bisect_right(self._lines, offset)
        return Position(line=line, column=offset - self._lines[line - 1] + 1)

    def _scan(self) -> None:
        text, at = self._text, 0
        table: Path = ()
        while (at := _skip(_BLANK, text, at)) < len(text):
            if text.startswith("[[", at):
                table, at = self._scan_header(at, at + 2, is_array=True)
            elif text[at] == "[":
                table, at = self._scan_header(at, at + 1, is_array=False)
            else:
                at = self._scan_pair(table, at)

    def _scan_header(self, start: int, at: int, *, is_array: bool) -> tuple[Path, int]:
        parts, at = self._scan_dotted(at)
        path: Path = ()
        for part, _ in parts[:-1]:
            path = self._enter((*path, part), start)
        path = (*path, parts[-1][0])
        if is_array:
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            self._keys.setdefault(path, start)
            path = (*path, index)
        self._keys.setdefault(path, start)
        return path, at + (2 if is_array else 1)

    def _enter(self, path: Path, offset: int) -> Path:
        """The table at a path; of an array of tables the one that was written last."""
        self._keys.setdefault(path, offset)
        length = self._lengths.get(path)
        return path if length is None else (*path, length - 1)

    def _scan_pair(self, table: Path, at: int) -> int:
        parts, at = self._scan_dotted(at)
        path = table
        for part, offset in parts:
            path = (*path, part)
            self._keys.setdefault(path, offset)
        return self._scan_value(path, _skip(_SPACE, self._text, at + 1))

    def _scan_dotted(self, at: int) -> tuple[list[tuple[str, int]], int]:
        """The parts of a key with their offsets, and the offset of what follows it."""
        parts: list[tuple[str, int]] = []
        while True:
            at = _skip(_SPACE, self._text, at)
            match = _BARE_KEY.match(self._text, at) or _STRING.match(self._text, at)
            assert match is not None, "the document was accepted"
            parts.append((_read_key(match[0]), at))
            at = _skip(_SPACE, self._text, match.end())
            if not self._text.startswith(".", at):
                return parts, at
            at += 1

    def _scan_value(self, path: Path, at: int) -> int:
        text = self._text
        self._values[path] = at
        if text[at] in "\"'":
            return _skip(_STRING, text, at)
        if text[at] == "[":
            return self._scan_array(path, at + 1)
        if text[at] == "{":
            return self._scan_inline(path, at + 1)
        return _skip(_SCALAR, text, at)

    def _scan_array(self, path: Path, at: int) -> int:
        index = 0
        while True:
            at = _skip(_BLANK, self._text, at)
            if self._text[at] == "]":
                return at + 1
            at = _skip(_BLANK, self._text, self._scan_value((*path, index), at))
            index += 1
            if self._text[at] == ",":
                at += 1

    def _scan_inline(self, path: Path, at: int) -> int:
        while True:
            at = _skip(_BLANK, self._text, at)
            if self._text[at] == "}":
                return at + 1
            at = _skip(_BLANK, self._text, self._scan_pair(path, at))
            if self._text[at] == ",":
                at += 1


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None, "the document was accepted"
    return match.end()


def _read_key(text: str) -> str:
    if text[0] == "'":
        return text[1:-1]
    if text[0] == '"':
        return _ESCAPE.sub(_unescape, text[1:-1])
    return text


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2]
    return chr(int(digits, 16)) if digits else _ESCAPES.get(match[3], match[3])
