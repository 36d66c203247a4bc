"""Request bodies in XML: bytes to plain values, or `MalformedXML`.

Expat with every door shut: no document type, no entities, UTF-8 only, and limits on depth, elements
and attributes. How long a body may be is for the caller to enforce while it arrives; the constants
here say. Elements may stand in S3's namespace or in none.

Source: AWS, Amazon S3 API Reference, the request syntax of each operation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, XMLParser

from appliance.s3.addressing import check_key
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.tagging import Tags, check_tags

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "COMPLETE_XML_BYTES_MAX",
    "DELETE_XML_BYTES_MAX",
    "XML_BYTES_MAX",
    "DeleteKey",
    "DeleteRequest",
    "PartChoice",
    "parse_acl",
    "parse_complete_upload",
    "parse_delete_objects",
    "parse_location",
    "parse_tagging",
    "parse_versioning",
]

XML_BYTES_MAX = 2**20
DELETE_XML_BYTES_MAX = 2 * 2**20  # 1,000 keys of 1,024 bytes with what surrounds and escapes them
# 10,000 parts with a SHA-256 each are 1.8 MB, and 2.0 MB where a client indents them.
COMPLETE_XML_BYTES_MAX = 2 * 2**20

_DEPTH_MAX = 16  # the deepest document, an access control list, has 5
_ATTRIBUTES_MAX = 16  # of one element; S3 has 1
# From one `<` to the next: a key of 1,024 bytes with every byte written as `&#x00;` makes 6 KiB.
_TAG_BYTES_MAX = 16 * 1024
_ELEMENTS_MAX = 1000
_DELETE_KEYS_MAX = 1000  # S3
_DELETE_ELEMENTS_MAX = 8 * _DELETE_KEYS_MAX
_PARTS_MAX = 10_000  # S3
_COMPLETE_ELEMENTS_MAX = 5 * _PARTS_MAX
_NAMESPACES = frozenset(
    {
        "http://s3.amazonaws.com/doc/2006-03-01/",
        "http://s3.amazonaws.com/doc/2006-03-01",
        "http://doc.s3.amazonaws.com/2006-03-01",
        "http://doc.s3.amazonaws.com/2006-03-01/",
    }
)
_ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]*)["']""")
_ENCODINGS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_PART_NUMBER = re.compile(r"[0-9]{1,10}")
_CHECKSUMS = {
    "ChecksumCRC32": "CRC32",
    "ChecksumCRC32C": "CRC32C",
    "ChecksumCRC64NVME": "CRC64NVME",
    "ChecksumSHA1": "SHA1",
    "ChecksumSHA256": "SHA256",
}
_PART_FIELDS = frozenset({"PartNumber", "ETag", *_CHECKSUMS})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteKey:
    """A key, or version, to delete; `etag` (without quotes) is a condition, `*` for any."""

    key: bytes
    version_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """The body of DeleteObjects: 1 to 1,000 keys."""

    keys: tuple[DeleteKey, ...]
    quiet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChoice:
    """A part as CompleteMultipartUpload lists it.

    Attributes:
        part_number: 1 to 10,000.
        etag: Without quotes.
        checksum: Algorithm and base64 value, or None.
    """

    part_number: int
    etag: str
    checksum: tuple[str, str] | None = None


def parse_delete_objects(data: bytes) -> DeleteRequest:
    """The body of DeleteObjects.

    Raises:
        S3Error: `MissingRequestBodyError`, `MalformedXML`; `KeyTooLongError`; `NotImplemented` for
            the conditions of directory buckets.
    """
    root = _parse(data, "Delete", elements_max=_DELETE_ELEMENTS_MAX)
    keys: list[DeleteKey] = []
    quiet = False
    for child in root.children:
        if child.name == "Object":
            keys.append(_read_delete_key(child))
        elif child.name == "Quiet":
            quiet = _read_boolean(child)
        else:
            raise _unexpected(child)
    if not 1 <= len(keys) <= _DELETE_KEYS_MAX:
        raise _malformed(f"A request deletes 1 to {_DELETE_KEYS_MAX} keys")
    return DeleteRequest(keys=tuple(keys), quiet=quiet)


def parse_complete_upload(data: bytes) -> tuple[PartChoice, ...]:
    """The body of CompleteMultipartUpload: 1 to 10,000 parts, in the order given.

    Raises:
        S3Error: `MissingRequestBodyError`, `MalformedXML`; `InvalidArgument` for a part number
            outside 1 to 10,000; `InvalidRequest` for two checksums of a part; `NotImplemented` for
            a checksum of an unknown algorithm.
    """
    root = _parse(data, "CompleteMultipartUpload", elements_max=_COMPLETE_ELEMENTS_MAX)
    parts = tuple(_read_part(child) for child in root.children)
    if not 1 <= len(parts) <= _PARTS_MAX:
        raise _malformed(f"An upload has 1 to {_PARTS_MAX} parts")
    return parts


def parse_tagging(data: bytes) -> Tags:
    """The body of PutObjectTagging, possibly of no tags.

    Raises:
        S3Error: `MissingRequestBodyError`, `MalformedXML`; `InvalidTag`, see `check_tags`.
    """
    tag_set = _parse(data, "Tagging").only("TagSet")
    tags: list[tuple[str, str]] = []
    for child in tag_set.children:
        if child.name != "Tag":
            raise _unexpected(child)
        fields = child.texts({"Key", "Value"})
        if fields.keys() != {"Key", "Value"}:
            raise _malformed("A Tag has a Key and a Value")
        tags.append((fields["Key"], fields["Value"]))
    return check_tags(tags)


def parse_versioning(data: bytes) -> str:
    """The body of PutBucketVersioning: `Enabled` or `Suspended`.

    Raises:
        S3Error: `MissingRequestBodyError`, `MalformedXML`; `NotImplemented` for MFA delete.
    """
    fields = _parse(data, "VersioningConfiguration").texts({"Status", "MfaDelete"})
    if fields.get("MfaDelete", "Disabled") != "Disabled":
        raise S3Error(S3Code.NOT_IMPLEMENTED, "MFA delete is not implemented")
    status = fields.get("Status")
    if status not in ("Enabled", "Suspended"):
        raise _malformed("The Status is Enabled or Suspended")
    return status


def parse_location(data: bytes) -> str | None:
    """The body of CreateBucket: the region it names, None for none. It may be empty.

    Raises:
        S3Error: `MalformedXML`; `NotImplemented` for directory buckets and bucket tags.
    """
    if not data:
        return None
    root = _parse(data, "CreateBucketConfiguration")
    for child in root.children:
        if child.name in ("Bucket", "Location", "Tags"):
            message = f"{child.name} of a bucket is not implemented"
            raise S3Error(S3Code.NOT_IMPLEMENTED, message)
    return root.texts({"LocationConstraint"}).get("LocationConstraint", "").strip() or None


def parse_acl(data: bytes, *, owner_id: str) -> bool:
    """The body of PutBucketAcl and PutObjectAcl: whether it says what holds here anyway.

    Returns:
        True where the owner is `owner_id` and the only grant gives that owner full control.

    Raises:
        S3Error: `MissingRequestBodyError`, `MalformedXML`.
    """
    root = _parse(data, "AccessControlPolicy")
    owner: _Node | None = None
    grants: list[_Node] = []
    for child in root.children:
        if child.name == "Owner" and owner is None:
            owner = child
        elif child.name == "AccessControlList":
            grants.extend(child.children)
        else:
            raise _unexpected(child)
    if owner is not None and owner.texts({"ID", "DisplayName"}).get("ID") != owner_id:
        return False
    if len(grants) != 1:
        return False
    return _grants_everything(grants[0], owner_id)


@dataclass(slots=True, kw_only=True)
class _Node:
    """An element without namespace and attributes."""

    name: str
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def only(self, name: str) -> _Node:
        """The only child, which must have that name."""
        if len(self.children) != 1 or self.children[0].name != name:
            raise _malformed(f"{self.name} has exactly one {name}")
        return self.children[0]

    def texts(self, names: Iterable[str]) -> dict[str, str]:
        """The texts of the children, which must have these names, once each, and no children."""
        found: dict[str, str] = {}
        for child in self.children:
            if child.name not in names or child.name in found or child.children:
                raise _unexpected(child)
            found[child.name] = child.text
        return found


class _Builder:
    """Takes expat's events; holds the limits."""

    def __init__(self, *, elements_max: int) -> None:
        self._elements_left = elements_max
        self._open: list[_Node] = []
        self._texts: list[str] = []
        self._root: _Node | None = None

    def start(self, tag: str, attributes: list[str]) -> None:
        # Names and values of attributes alternate.
        self._elements_left -= 1
        if self._elements_left < 0 or len(self._open) == _DEPTH_MAX:
            raise _malformed("The document has too many elements or is nested too deep")
        if len(attributes) > 2 * _ATTRIBUTES_MAX:
            raise _malformed("An element has too many attributes")
        node = _Node(name=_strip_namespace(tag))
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)
        self._texts.clear()

    def end(self, _tag: str) -> None:
        # Only a leaf has text that means anything; between children it is white space.
        node = self._open.pop()
        if not node.children:
            node.text = "".join(self._texts)
        self._texts.clear()

    def data(self, text: str) -> None:
        self._texts.append(text)

    def close(self) -> _Node:
        assert self._root is not None  # expat refuses a document without a root
        return self._root


def _parse(data: bytes, root_name: str, *, elements_max: int = _ELEMENTS_MAX) -> _Node:
    if not data:
        raise S3Error(S3Code.MISSING_REQUEST_BODY)
    _check_bytes(data)
    builder = _Builder(elements_max=elements_max)
    parser = XMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    # Straight from expat: the layer between costs as much as all the rest for 10,000 parts.
    parser.parser.StartElementHandler = builder.start
    parser.parser.EndElementHandler = builder.end
    try:
        parser.feed(data)
        parser.close()
    except (ParseError, DefusedXmlException):
        raise S3Error(S3Code.MALFORMED_XML) from None
    root = builder.close()
    if root.name != root_name:
        raise _unexpected(root)
    return root


def _check_bytes(data: bytes) -> None:
    """Refuse what expat would take: other encodings, which it finds by itself, and huge tags."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("The encoding must be UTF-8") from None
    declared = _ENCODING.match(data)
    if b"\x00" in data or (declared is not None and declared[1].lower() not in _ENCODINGS):
        raise _malformed("The encoding must be UTF-8")
    # Expat collects all attributes of an element, hundreds of thousands, before it tells of one.
    if max(map(len, data.split(b"<"))) > _TAG_BYTES_MAX:
        raise _malformed("A tag, or the text behind it, is too long")


def _strip_namespace(tag: str) -> str:
    namespace, brace, name = tag.rpartition("}")
    if brace and namespace not in _NAMESPACES:
        raise _malformed("An element is in another namespace than S3's")
    return name


def _read_delete_key(node: _Node) -> DeleteKey:
    for child in node.children:
        if child.name in ("LastModifiedTime", "Size"):
            raise S3Error(S3Code.NOT_IMPLEMENTED, f"The condition {child.name} is not implemented")
    fields = node.texts({"Key", "VersionId", "ETag"})
    key = fields.get("Key", "").encode("utf-8")
    if not key:
        raise _malformed("An Object has a Key")
    etag = fields.get("ETag")
    return DeleteKey(
        key=check_key(key),
        version_id=fields.get("VersionId") or None,
        etag=_strip_quotes(etag) if etag else None,
    )


def _read_part(node: _Node) -> PartChoice:
    if node.name != "Part":
        raise _unexpected(node)
    for child in node.children:
        if child.name.startswith("Checksum") and child.name not in _CHECKSUMS:
            raise S3Error(S3Code.NOT_IMPLEMENTED, f"{child.name} is not implemented")
    fields = node.texts(_PART_FIELDS)
    number_text, etag = fields.pop("PartNumber", "").strip(), fields.pop("ETag", "")
    if _PART_NUMBER.fullmatch(number_text) is None or not etag:
        raise _malformed("A Part has a PartNumber and an ETag")
    if not 1 <= int(number_text) <= _PARTS_MAX:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            f"Part number must be an integer between 1 and {_PARTS_MAX}, inclusive",
            elements={"ArgumentName": "partNumber", "ArgumentValue": number_text},
        )
    if len(fields) > 1:
        raise S3Error(S3Code.INVALID_REQUEST, "Expecting a single checksum of a part")
    checksums = [(_CHECKSUMS[name], value.strip()) for name, value in fields.items()]
    return PartChoice(
        part_number=int(number_text),
        etag=_strip_quotes(etag),
        checksum=checksums[0] if checksums else None,
    )


def _grants_everything(grant: _Node, owner_id: str) -> bool:
    if grant.name != "Grant":
        raise _unexpected(grant)
    grantee_id = permission = ""
    for child in grant.children:
        if child.name == "Grantee":
            fields = child.texts({"ID", "DisplayName", "URI", "EmailAddress", "Type"})
            grantee_id = fields.get("ID", "").strip()
        elif child.name == "Permission":
            permission = child.text.strip()
        else:
            raise _unexpected(child)
    return grantee_id == owner_id and permission == "FULL_CONTROL"


def _read_boolean(node: _Node) -> bool:
    text = node.text.strip().lower()
    if text not in ("true", "false"):
        raise _malformed(f"{node.name} is true or false")
    return text == "true"


def _strip_quotes(etag: str) -> str:
    return etag.strip().strip('"')


def _unexpected(node: _Node) -> S3Error:
    return _malformed(f"The element {node.name} is not expected here")


def _malformed(message: str) -> S3Error:
    return S3Error(S3Code.MALFORMED_XML, message)
