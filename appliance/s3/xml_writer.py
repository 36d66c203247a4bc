"""How S3's XML is written: elements, text, keys.

Markup and text are different types, so that nothing a client sent can become markup. XML 1.0
cannot carry most control characters, not even as references, although AWS writes such references:
parsers refuse the whole page for one of them. Here each becomes U+FFFD, so that one strange key
costs its own name only; who needs the name asks for `encoding-type=url`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType
from urllib.parse import quote_plus

__all__ = [
    "S3_NAMESPACE",
    "XML_DECLARATION",
    "Markup",
    "Owner",
    "document",
    "element",
    "escape_text",
    "format_etag",
    "key_element",
    "optional_element",
    "owner_element",
    "text_element",
]

Markup = NewType("Markup", str)
"""Text that is well-formed XML content already."""

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XML_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'

_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]')
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """An account or user as S3 shows it."""

    canonical_id: str
    display_name: str


def document(root: str, *content: Markup, namespace: str | None = S3_NAMESPACE) -> bytes:
    """A whole document, `XML_DECLARATION` first."""
    opening = root if namespace is None else f'{root} xmlns="{namespace}"'
    return XML_DECLARATION + f"<{opening}>{''.join(content)}</{root}>".encode()


def element(name: str, *content: Markup) -> Markup:
    """An element around markup."""
    return Markup(f"<{name}>{''.join(content)}</{name}>")


def text_element(name: str, value: str | int | bool) -> Markup:
    """An element around text, a number, or `true` and `false`."""
    if isinstance(value, bool):
        return Markup(f"<{name}>{'true' if value else 'false'}</{name}>")
    if isinstance(value, int):
        return Markup(f"<{name}>{value}</{name}>")
    return Markup(f"<{name}>{escape_text(value)}</{name}>")


def escape_text(text: str) -> Markup:
    """Text as it stands between tags; also safe between double quotes."""
    if _SPECIAL.search(text) is None:
        return Markup(text)
    return Markup(_SPECIAL.sub(lambda found: _ESCAPES.get(found[0], "\ufffd"), text))


def optional_element(name: str, value: str | int | None) -> Markup:
    """See `text_element`; nothing for None."""
    return Markup("") if value is None else text_element(name, value)


def key_element(name: str, key: bytes, *, encode_url: bool = False) -> Markup:
    """An element around a key, prefix, delimiter or marker.

    Args:
        name: Of the element.
        key: UTF-8.
        encode_url: As `encoding-type=url` asks: a space is `+`, a slash stays a slash.
    """
    if encode_url:
        return Markup(f"<{name}>{quote_plus(key, safe='/*')}</{name}>")
    return Markup(f"<{name}>{escape_text(key.decode('utf-8', 'replace'))}</{name}>")


def owner_element(name: str, owner: Owner | None) -> Markup:
    """An `Owner` or `Initiator`; nothing for None."""
    if owner is None:
        return Markup("")
    return element(
        name,
        text_element("ID", owner.canonical_id),
        text_element("DisplayName", owner.display_name),
    )


def format_etag(etag: str) -> str:
    """An ETag in the quotes that headers and most documents have around it."""
    return f'"{etag}"'
