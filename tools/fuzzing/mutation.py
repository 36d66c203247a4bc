"""Mutations of byte strings: bits, ranges, tokens, words of a dictionary, splices and blow-ups.

All randomness comes from the `Random` given, so that one seed makes one sequence of inputs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

__all__ = ["Mutator"]

_TOKEN = re.compile(rb"[A-Za-z0-9]+|[^A-Za-z0-9]")
_NUMBER = re.compile(rb"[0-9]+")
_WINDOW_BYTES = 2048  # tokens are looked for around one place, whatever the size of the input
_BYTES = (0x00, 0x01, 0x09, 0x0A, 0x0D, 0x20, 0x22, 0x25, 0x2F, 0x3B, 0x3D, 0x7F, 0x80, 0xC3, 0xFF)
_NUMBERS = (
    *(b"", b"-1", b"0", b"00", b"1", b"9", b"10000", b"10001", b"65535", b"65536", b"+1", b"1_0"),
    *(b"2147483647", b"2147483648", b"4294967296", b"9223372036854775807"),
    *(b"9223372036854775808", b"18446744073709551615", b"9" * 19, b"9" * 40, b"9" * 4400),
    *(b"1e3", b"1e999", b"0x10", "\u0663".encode(), b"99999999", b"20260230", b" 7"),
)


class Mutator:
    """Makes an input out of those of a corpus.

    Args:
        random: Where every choice comes from.
        words: Pieces that mean something to the parser.
        bytes_max: Longest input to make.
    """

    def __init__(self, random: Random, *, words: Sequence[bytes], bytes_max: int) -> None:
        self._random = random
        self._words = (*words, b"\r\n", b"\x00", b"\xff\xfe", b"%00", b"%", b"\xc3\x28")
        self._bytes_max = bytes_max
        self._small: tuple[Callable[[bytes], bytes], ...] = (
            self._flip_bit,
            self._set_byte,
            self._insert_bytes,
            self._delete_range,
            self._copy_range,
            self._swap_ranges,
            self._insert_word,
            self._replace_token,
            self._delete_token,
            self._swap_case,
            self._escape_byte,
            self._replace_number,
            self._replace_number,
            self._insert_word,
        )

    def make(self, corpus: Sequence[bytes]) -> bytes:
        """The next input: one of the corpus after one to a dozen changes."""
        random = self._random
        data = random.choice(corpus)
        if random.random() < 0.9:  # small inputs are quick, and say as much
            data = min(data, random.choice(corpus), random.choice(corpus), key=len)
        lot = random.random()
        if lot < 0.08:
            data = self._splice(data, random.choice(corpus))
        elif lot < 0.11:
            data = self._blow_up(data)
        elif lot < 0.13:
            data = data[: random.randrange(len(data) + 1)]
        while True:
            data = random.choice(self._small)(data)
            if random.random() < 0.4:
                return data[: self._bytes_max]

    def _at(self, data: bytes) -> int:
        return self._random.randrange(len(data) + 1)

    def _range(self, data: bytes) -> tuple[int, int]:
        """A place and an end behind it; short ranges are likelier."""
        start = self._at(data)
        length = int(2 ** (self._random.random() * 8))
        return start, min(start + length, len(data))

    def _flip_bit(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._random.randrange(len(data))
        return b"%b%c%b" % (data[:at], data[at] ^ 1 << self._random.randrange(8), data[at + 1 :])

    def _set_byte(self, data: bytes) -> bytes:
        at = self._at(data)
        return b"%b%c%b" % (data[:at], self._random.choice(_BYTES), data[at + 1 :])

    def _insert_bytes(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self._random.randbytes(self._random.randrange(1, 9)) + data[at:]

    def _delete_range(self, data: bytes) -> bytes:
        start, end = self._range(data)
        return data[:start] + data[end:]

    def _copy_range(self, data: bytes) -> bytes:
        start, end = self._range(data)
        at = self._at(data)
        return data[:at] + data[start:end] * self._random.choice((1, 1, 2, 9)) + data[at:]

    def _swap_ranges(self, data: bytes) -> bytes:
        first, second = self._range(data), self._range(data)
        if first[1] > second[0]:
            first, second = second, first
        if first[1] > second[0]:
            return data
        return (
            data[: first[0]]
            + data[second[0] : second[1]]
            + data[first[1] : second[0]]
            + data[first[0] : first[1]]
            + data[second[1] :]
        )

    def _insert_word(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self._random.choice(self._words) + data[at:]

    def _find(self, pattern: re.Pattern[bytes], data: bytes) -> tuple[int, int] | None:
        """A match of the pattern near some place."""
        start = max(0, self._at(data) - _WINDOW_BYTES // 2)
        spans = [m.span() for m in pattern.finditer(data, start, start + _WINDOW_BYTES)]
        return self._random.choice(spans) if spans else None

    def _replace_token(self, data: bytes) -> bytes:
        span = self._find(_TOKEN, data)
        return data if span is None else self._put(data, span, self._random.choice(self._words))

    def _delete_token(self, data: bytes) -> bytes:
        span = self._find(_TOKEN, data)
        return data if span is None else self._put(data, span, b"")

    def _swap_case(self, data: bytes) -> bytes:
        span = self._find(_TOKEN, data)
        if span is None:
            return data
        return self._put(data, span, data[span[0] : span[1]].swapcase())

    def _escape_byte(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._random.randrange(len(data))
        form = self._random.choice((b"%%%02X", b"%%%02x", b"&#x%x;"))
        return self._put(data, (at, at + 1), form % data[at])

    def _replace_number(self, data: bytes) -> bytes:
        span = self._find(_NUMBER, data)
        return data if span is None else self._put(data, span, self._random.choice(_NUMBERS))

    def _put(self, data: bytes, span: tuple[int, int], piece: bytes) -> bytes:
        return data[: span[0]] + piece + data[span[1] :]

    def _splice(self, data: bytes, other: bytes) -> bytes:
        return data[: self._at(data)] + other[self._at(other) :]

    def _blow_up(self, data: bytes) -> bytes:
        """One piece many times over, up to the longest input: what is not linear shows there."""
        random = self._random
        span = self._find(_TOKEN, data) if random.random() < 0.5 else None
        start, end = span if span is not None else self._range(data)
        piece = data[start:end] if random.random() < 0.7 else random.choice(self._words)
        if not piece:
            piece = b"a"
        size = min(self._bytes_max, int(64 * 2 ** (random.random() * 16)))
        if random.random() < 0.15:
            size = self._bytes_max
        count = max(1, (size - len(data)) // len(piece))
        if random.random() < 0.2:  # nested: an opening piece before, a closing one behind
            closing = random.choice(self._words)
            count = max(1, count * len(piece) // (len(piece) + len(closing)))
            return data[:start] + piece * count + data[start:end] + closing * count + data[end:]
        return data[:start] + piece * count + data[end:]
