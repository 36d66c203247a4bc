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
    return tuple([_read_part(part, names) for part in root])


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


def _read_part(part: Element, names: _Names) -> PartChoice:
    if names[part.tag] != "Part":
        raise _unexpected(names[part.tag])
    fields = {names[element.tag]: element.text for element in part}
    if len(fields) != len(part) or any(map(len, part)) or not fields.keys() <= _FIELDS:
        raise _refuse_fields(part, names)
    number_text = (fields.pop("PartNumber", "") or "").strip()
    etag = fields.pop("ETag", "")
    is_number = number_text.isdecimal() and number_text.isascii() and len(number_text) <= 10
    if not is_number or not etag:
        raise malformed("A Part has a PartNumber and an ETag")
    number = int(number_text)
    if not 1 <= number <= _PARTS_MAX:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            f"Part number must be an integer between 1 and {_PARTS_MAX}, inclusive",
            elements={"ArgumentName": "partNumber", "ArgumentValue": number_text},
        )
    if len(fields) > 1:
        raise S3Error(S3Code.INVALID_REQUEST, "Expecting a single checksum of a part")
    checksum: tuple[str, str] | None = None
    if fields:
        name, value = fields.popitem()
        checksum = (_CHECKSUMS[name], (value or "").strip())
    return PartChoice(part_number=number, etag=strip_quotes(etag), checksum=checksum)


def _refuse_fields(part: Element, names: _Names) -> S3Error:
    """The error for the first element of a part that is unknown, repeated or no leaf."""
    seen: set[str] = set()
    for element in part:
        name = names[element.tag]
        if name.startswith("Checksum") and name not in _CHECKSUMS:
            return S3Error(S3Code.NOT_IMPLEMENTED, f"{name} is not implemented")
        if name not in _FIELDS or name in seen or len(element):
            return _unexpected(name)
        seen.add(name)
    raise AssertionError("a part was refused for nothing")


def _unexpected(name: str) -> S3Error:
    return malformed(f"The element {name} is not expected here")
