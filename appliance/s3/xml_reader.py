"""Request bodies in XML: bytes to plain values, or `MalformedXML`.

Expat with every door shut: no document type, no entities, UTF-8 only, and limits on depth, elements
and attributes. How long a body may be is for the caller to enforce while it arrives; the constants
here say. Elements may stand in S3's namespace or in none. The one document of tens of thousands of
elements, CompleteMultipartUpload, has a module of its own, `appliance.s3.xml_parts`.

Source: AWS, Amazon S3 API Reference, the request syntax of each operation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, XMLParser

from appliance.s3.addressing import check_key
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.tagging import Tags, check_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "DELETE_XML_BYTES_MAX",
    "OTHER_MARKUP_MAX",
    "XML_BYTES_MAX",
    "DeleteKey",
    "DeleteRequest",
    "check_bytes",
    "malformed",
    "parse_acl",
    "parse_delete_objects",
    "parse_location",
    "parse_tagging",
    "parse_versioning",
    "strip_namespace",
    "strip_quotes",
]

XML_BYTES_MAX = 2**20
DELETE_XML_BYTES_MAX = 2 * 2**20  # 1,000 keys of 1,024 bytes with what surrounds and escapes them

_DEPTH_MAX = 16  # the deepest document, an access control list, has 5
_ATTRIBUTES_MAX = 16  # of one element; S3 has 1
# From one `<` to the next: a key of 1,024 bytes with every byte written as `&#x00;` makes 6 KiB.
_TAG_BYTES_MAX = 16 * 1024
_ELEMENTS_MAX = 1000
_DELETE_KEYS_MAX = 1000  # S3
_DELETE_ELEMENTS_MAX = 8 * _DELETE_KEYS_MAX
# Each element has two tags. What else begins with `<`, comments above all, costs as much as a tag
# and is no element: a few are allowed, not two megabytes of them.
OTHER_MARKUP_MAX = 1000
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
        raise malformed(f"A request deletes 1 to {_DELETE_KEYS_MAX} keys")
    return DeleteRequest(keys=tuple(keys), quiet=quiet)


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
            raise malformed("A Tag has a Key and a Value")
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
        raise malformed("The Status is Enabled or Suspended")
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


class _Node:
    """An element without namespace and attributes."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str, text: str, children: Sequence[_Node]) -> None:
        self.name = name
        self.text = text
        self.children = children

    def only(self, name: str) -> _Node:
        """The only child, which must have that name."""
        if len(self.children) != 1 or self.children[0].name != name:
            raise malformed(f"{self.name} has exactly one {name}")
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
    """Takes expat's events; holds the limits. An element is made when it ends."""

    __slots__ = ("_elements_left", "_names", "_open", "_texts", "data")

    def __init__(self, *, elements_max: int) -> None:
        self._elements_left = elements_max
        self._open: list[list[_Node] | None] = [None]  # children of each open element, root's first
        self._texts: list[str] = []
        self._names: dict[str, str] = {}
        self.data = self._texts.append

    def start(self, _tag: str, attributes: list[str]) -> None:
        self._elements_left -= 1
        if self._elements_left < 0 or len(self._open) > _DEPTH_MAX:
            raise malformed("The document has too many elements or is nested too deep")
        # Names and values of attributes alternate.
        if attributes and len(attributes) > 2 * _ATTRIBUTES_MAX:
            raise malformed("An element has too many attributes")
        self._open.append(None)
        self._texts.clear()

    def end(self, tag: str) -> None:
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = strip_namespace(tag)
        children = self._open.pop()
        # Only a leaf has text that means anything; between children it is white space.
        text = "".join(self._texts) if children is None else ""
        self._texts.clear()
        node = _Node(name, text, children or ())
        siblings = self._open[-1]
        if siblings is None:
            self._open[-1] = [node]
        else:
            siblings.append(node)

    def close(self) -> _Node:
        assert self._open[0] is not None  # expat refuses a document without a root
        return self._open[0][0]


def _parse(data: bytes, root_name: str, *, elements_max: int = _ELEMENTS_MAX) -> _Node:
    if not data:
        raise S3Error(S3Code.MISSING_REQUEST_BODY)
    check_bytes(data, tags_max=2 * elements_max + OTHER_MARKUP_MAX)
    builder = _Builder(elements_max=elements_max)
    parser = XMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    # Straight from expat: the layer between costs as much as all the rest for 10,000 parts.
    parser.parser.StartElementHandler = builder.start
    parser.parser.EndElementHandler = builder.end
    # It would be called for each comment; without it expat refuses unknown entities by itself.
    parser.parser.DefaultHandlerExpand = None
    try:
        parser.feed(data)
        parser.close()
    except (ParseError, DefusedXmlException):
        raise S3Error(S3Code.MALFORMED_XML) from None
    root = builder.close()
    if root.name != root_name:
        raise _unexpected(root)
    return root


def check_bytes(data: bytes, *, tags_max: int) -> None:
    """Refuse what expat would take: other encodings, which it finds by itself, and huge tags.

    Args:
        data: The document.
        tags_max: How often `<` may stand in it.

    Raises:
        S3Error: `MalformedXML`.
    """
    if data.count(b"<") > tags_max:
        raise malformed("The document has too many elements, comments or instructions")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("The encoding must be UTF-8") from None
    declared = _ENCODING.match(data)
    if b"\x00" in data or (declared is not None and declared[1].lower() not in _ENCODINGS):
        raise malformed("The encoding must be UTF-8")
    # Expat collects all attributes of an element, hundreds of thousands, before it tells of one.
    at = -1
    while len(data) - at - 1 > _TAG_BYTES_MAX:
        # The last `<` within reach: whatever lies before it is short enough.
        at = data.rfind(b"<", at + 1, at + 2 + _TAG_BYTES_MAX)
        if at < 0:
            raise malformed("A tag, or the text behind it, is too long")


def strip_namespace(tag: str) -> str:
    """The name in expat's `namespace}name`, where the namespace is S3's or none.

    Raises:
        S3Error: `MalformedXML`.
    """
    namespace, brace, name = tag.rpartition("}")
    if brace and namespace not in _NAMESPACES:
        raise malformed("An element is in another namespace than S3's")
    return name


def _read_delete_key(node: _Node) -> DeleteKey:
    for child in node.children:
        if child.name in ("LastModifiedTime", "Size"):
            raise S3Error(S3Code.NOT_IMPLEMENTED, f"The condition {child.name} is not implemented")
    fields = node.texts({"Key", "VersionId", "ETag"})
    key = fields.get("Key", "").encode("utf-8")
    if not key:
        raise malformed("An Object has a Key")
    etag = fields.get("ETag")
    return DeleteKey(
        key=check_key(key),
        version_id=fields.get("VersionId") or None,
        etag=strip_quotes(etag) if etag else None,
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
        raise malformed(f"{node.name} is true or false")
    return text == "true"


def strip_quotes(etag: str) -> str:
    """An ETag as XML carries it, without white space and quotes around it."""
    return etag.strip().strip('"')


def _unexpected(node: _Node) -> S3Error:
    return malformed(f"The element {node.name} is not expected here")


def malformed(message: str) -> S3Error:
    """`MalformedXML` with a word more than S3 says."""
    return S3Error(S3Code.MALFORMED_XML, message)
