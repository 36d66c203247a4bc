"""The header fields of a request, collected once.

Text of a field has one character per byte (latin-1): whatever a client sent goes back to it byte
for byte, be it ASCII, UTF-8 or neither.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Fields", "check_field_value"]

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5 allows only the tab
_NOTHING: frozenset[bytes] = frozenset()


def check_field_value(name: str, value: bytes) -> bytes:
    """`value`, if it may stand in a header field.

    Raises:
        S3Error: `InvalidArgument` for CR, LF and every other control character but the tab.
    """
    if _CONTROL.search(value) is not None:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            f"{name} holds a control character",
            elements={"ArgumentName": name},
        )
    return value


@record
class Fields:
    """Header fields by lower-case name.

    Attributes:
        values: Lines of one name joined by a comma, in wire order (RFC 9110 section 5.2).
        repeated: Names that came in more than one line.
    """

    values: Mapping[bytes, bytes]
    repeated: frozenset[bytes]

    @classmethod
    def collect(cls, lines: Iterable[tuple[bytes, bytes]]) -> Fields:
        """Collect the lines of a head, names in lower case."""
        lines = tuple(lines)
        once = dict(lines)
        if len(once) == len(lines):  # nearly every head
            return cls(values=once, repeated=_NOTHING)
        values: dict[bytes, bytes] = {}
        repeated: set[bytes] = set()
        for name, value in lines:
            if name in values:
                repeated.add(name)
                values[name] += b"," + value
            else:
                values[name] = value
        return cls(values=values, repeated=frozenset(repeated))

    def find(self, name: bytes) -> bytes | None:
        """The value of a field that is no list, None where it is absent.

        Raises:
            S3Error: `InvalidArgument` where it came more than once.
        """
        if name in self.repeated:
            text = name.decode("latin-1")
            raise S3Error(
                S3Code.INVALID_ARGUMENT,
                f"Header {text} was given more than once",
                elements={"ArgumentName": text},
            )
        return self.values.get(name)

    def find_text(self, name: bytes) -> str | None:
        """See `find`; one character per byte."""
        value = self.find(name)
        return None if value is None else value.decode("latin-1")

    def find_list_text(self, name: bytes) -> str | None:
        """The value of a field that is a list, its lines joined; one character per byte."""
        value = self.values.get(name)
        return None if value is None else value.decode("latin-1")
