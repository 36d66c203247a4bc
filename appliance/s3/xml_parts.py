"""The body of CompleteMultipartUpload: up to 10,000 parts in 40,000 elements.

Of this size a document costs Python 2 us an element when its callbacks are Python's; the tree of
the standard library's C parser costs a fifth. That parser has no doors to shut, so they are shut
before it: what is no element, comment or CDATA section, a document type above all, is looked for in
the bytes, which are known to be UTF-8, and so is more markup or more attributes than any such
document has.

10,000 parts with a SHA-256 each take some 40 ms all the same, so the caller parses in a thread, and
the C parser gets the document in slices: while it works it lets no other thread run.

Source: AWS, CompleteMultipartUpload.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

# Safe behind `_check_document`, see above.
from xml.etree.ElementTree import ParseError, XMLParser

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.xml_reader import (
    OTHER_MARKUP_MAX,
    check_bytes,
    malformed,
    strip_namespace,
    strip_quotes,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["COMPLETE_XML_BYTES_MAX", "PartChoice", "parse_complete_upload"]

# 10,000 parts with a SHA-256 each are 1.8 MB, and 2.0 MB where a client indents them.
COMPLETE_XML_BYTES_MAX = 2 * 2**20

_PARTS_MAX = 10_000  # S3
_NUMBERS = {str(number): number for number in range(1, _PARTS_MAX + 1)}  # as clients write them
_NUMBER_CHARS_MAX = 10  # leading zeros and all
_SLICE_BYTES = 64 * 1024  # less than 1 ms of the C parser
_ELEMENTS_MAX = 5 * _PARTS_MAX
_LINES_MAX = 2 * _ELEMENTS_MAX  # expat tells of each line by itself
# An ETag may be quoted; the element has no attributes, and its value no other quotes.
_QUOTES_MAX = 2 * _PARTS_MAX + 1000
_DECLARATION = re.compile(rb"<!(?!--|\[CDATA\[)")
_CHECKSUMS = {
    "ChecksumCRC32": "CRC32",
    "ChecksumCRC32C": "CRC32C",
    "ChecksumCRC64NVME": "CRC64NVME",
    "ChecksumSHA1": "SHA1",
    "ChecksumSHA256": "SHA256",
}
_FIELDS = frozenset({"PartNumber", "ETag", *_CHECKSUMS})
_INCOMPLETE = "A Part has a PartNumber and an ETag"


class PartChoice(NamedTuple):
    """A part as CompleteMultipartUpload lists it.

    A tuple: ten thousand frozen dataclasses take three times as long to make.

    Attributes:
        part_number: 1 to 10,000.
        etag: Without quotes.
        checksum: Algorithm and base64 value, or None.
    """

    part_number: int
    etag: str
    checksum: tuple[str, str] | None = None


_make_choice = PartChoice._make


def parse_complete_upload(data: bytes) -> tuple[PartChoice, ...]:
    """The body of CompleteMultipartUpload: 1 to 10,000 parts, in the order given.

    Raises:
        S3Error: `MissingRequestBodyError`, `MalformedXML`; `InvalidArgument` for a part number
            outside 1 to 10,000; `InvalidRequest` for two checksums of a part; `NotImplemented` for
            a checksum of an unknown algorithm.
    """
    if not data:
        raise S3Error(S3Code.MISSING_REQUEST_BODY)
    _check_document(data)
    parser = XMLParser(encoding="utf-8")  # noqa: S314  # see the import
    try:
        for start in range(0, len(data), _SLICE_BYTES):
            parser.feed(data[start : start + _SLICE_BYTES])
        root = parser.close()
    except ParseError:
        raise S3Error(S3Code.MALFORMED_XML) from None
    names = _Names()
    if names[root.tag] != "CompleteMultipartUpload":
        raise _unexpected(names[root.tag])
    if not 1 <= len(root) <= _PARTS_MAX:
        raise malformed(f"An upload has 1 to {_PARTS_MAX} parts")
    return _read_parts(root, names)


class _Names(dict[str, str]):
    """Names of tags without their namespace, which is judged once for each spelling."""

    def __missing__(self, tag: str) -> str:
        # The tree writes `{namespace}name`.
        name = self[tag] = strip_namespace(tag.removeprefix("{"))
        return name


def _check_document(data: bytes) -> None:
    check_bytes(data, tags_max=2 * _ELEMENTS_MAX + OTHER_MARKUP_MAX)
    if data.count(b'"') + data.count(b"'") > _QUOTES_MAX:
        raise malformed("The document has too many attributes")
    if data.count(b"\n") > _LINES_MAX:
        raise malformed("The document has too many lines")
    if _DECLARATION.search(data) is not None:
        raise malformed("A document type is not expected here")


def _read_parts(root: Element, names: _Names) -> tuple[PartChoice, ...]:
    elements = list(root.iter())  # in the order of the document
    counts = list(map(len, root))
    if len(elements) != 1 + len(counts) + sum(counts):
        field = next(field for part in root for field in part if len(field))
        raise _unexpected(names[field.tag])
    tags = [element.tag for element in elements]
    texts = [element.text or "" for element in elements]
    shapes = _Shapes(names)
    choices: list[PartChoice] = []
    start = 1
    for count in counts:
        end = start + 1 + count
        number_at, etag_at, checksum_at, algorithm = shapes[tuple(tags[start:end])]
        text = texts[start + number_at]
        number = _NUMBERS.get(text) or _read_number(text)
        etag = texts[start + etag_at]
        if not etag:
            raise malformed(_INCOMPLETE)
        checksum = (algorithm, texts[start + checksum_at].strip()) if checksum_at else None
        choices.append(_make_choice((number, strip_quotes(etag), checksum)))
        start = end
    return tuple(choices)


class _Shape(NamedTuple):
    """Where the fields of a part stand, 1 for the first; `checksum_at` is 0 where it has none."""

    number_at: int
    etag_at: int
    checksum_at: int
    algorithm: str


class _Shapes(dict[tuple[str, ...], _Shape]):
    """Shapes by the tags of a part and its fields. Few in a document, and each judged once."""

    def __init__(self, names: _Names) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, tags: tuple[str, ...]) -> _Shape:
        shape = self[tags] = _judge_shape([self._names[tag] for tag in tags])
        return shape


def _judge_shape(names: list[str]) -> _Shape:
    if names[0] != "Part":
        raise _unexpected(names[0])
    places: dict[str, int] = {}
    for place, name in enumerate(names[1:], start=1):
        if name.startswith("Checksum") and name not in _CHECKSUMS:
            raise S3Error(S3Code.NOT_IMPLEMENTED, f"{name} is not implemented")
        if name not in _FIELDS or name in places:
            raise _unexpected(name)
        places[name] = place
    number_at, etag_at = places.pop("PartNumber", 0), places.pop("ETag", 0)
    if not number_at or not etag_at:
        raise malformed(_INCOMPLETE)
    if len(places) > 1:
        raise S3Error(S3Code.INVALID_REQUEST, "Expecting a single checksum of a part")
    name, checksum_at = places.popitem() if places else ("", 0)
    return _Shape(number_at, etag_at, checksum_at, _CHECKSUMS.get(name, ""))


def _read_number(text: str) -> int:
    text = text.strip()
    if not (text.isdecimal() and text.isascii()) or len(text) > _NUMBER_CHARS_MAX:
        raise malformed(_INCOMPLETE)
    number = int(text)
    if not 1 <= number <= _PARTS_MAX:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            f"Part number must be an integer between 1 and {_PARTS_MAX}, inclusive",
            elements={"ArgumentName": "partNumber", "ArgumentValue": text},
        )
    return number


def _unexpected(name: str) -> S3Error:
    return malformed(f"The element {name} is not expected here")
