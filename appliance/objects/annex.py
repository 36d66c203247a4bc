"""Codec of the annex: what a body's last record says of the object it belongs to.

A catalog can be rebuilt from the segments alone because of it. It is written before the commit, so
it knows neither the version's sequence nor whether the commit took place; a rebuild orders versions
by `written_us` of the record's header and the body id.

Form: one byte of version, then UTF-8 JSON with the fields of `Annex` under short names. JSON
because it describes itself and survives new fields; the size hardly counts beside the padding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from appliance.catalog.records import Checksum, ChecksumType, VersionAttributes

__all__ = ["Annex", "AnnexInvalid", "decode_annex", "encode_annex"]

ANNEX_VERSION = 1


class AnnexInvalid(Exception):
    """The bytes are not an annex that this program can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annex:
    """What a plain PUT or an uploaded part needs to become catalog rows again.

    Attributes:
        tenant_name: Names, not ids, since a rebuilt catalog gives new ids.
        size_bytes: Of the whole body.
        etag: MD5 of the body in hexadecimal.
        upload_id: The multipart upload the body is a part of, None for a plain PUT.
        part_number: With `upload_id`.
        attributes: None for parts, whose upload carries them.
    """

    tenant_name: str
    bucket_name: str
    bucket_id: int
    key: bytes
    size_bytes: int
    etag: str
    checksum: Checksum | None
    attributes: VersionAttributes | None
    upload_id: str | None = None
    part_number: int | None = None


def encode_annex(annex: Annex) -> bytes:
    """The annex as bytes.

    The caller compares the length with `hal.geometry.ANNEX_BYTES_MAX` before it takes the body:
    a header section of 8 KiB made of nothing but quotes would pass it.
    """
    fields: dict[str, object] = {
        "t": annex.tenant_name,
        "b": annex.bucket_name,
        "i": annex.bucket_id,
        # surrogateescape keeps whatever bytes a key may hold
        "k": annex.key.decode("utf-8", "surrogateescape"),
        "s": annex.size_bytes,
        "e": annex.etag,
    }
    if annex.checksum is not None:
        checksum = annex.checksum
        fields["c"] = [checksum.algorithm, checksum.value, checksum.kind.value]
    if annex.attributes is not None:
        attributes = annex.attributes
        fields["a"] = {
            "ct": attributes.content_type,
            "sy": attributes.system,
            "us": attributes.user,
            "tg": attributes.tags,
            "sc": attributes.storage_class,
        }
    if annex.upload_id is not None:
        fields["u"] = annex.upload_id
        fields["p"] = annex.part_number
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return bytes([ANNEX_VERSION]) + text.encode("utf-8", "surrogatepass")


def decode_annex(data: bytes) -> Annex:
    """The annex of its bytes.

    Raises:
        AnnexInvalid: Truncated, of another version, or not of this form.
    """
    if not data or data[0] != ANNEX_VERSION:
        raise AnnexInvalid(f"version {data[0] if data else 'missing'}, know {ANNEX_VERSION}")
    try:
        fields = json.loads(data[1:].decode("utf-8", "surrogatepass"))
        return Annex(
            tenant_name=_text(fields["t"]),
            bucket_name=_text(fields["b"]),
            bucket_id=_number(fields["i"]),
            key=_text(fields["k"]).encode("utf-8", "surrogateescape"),
            size_bytes=_number(fields["s"]),
            etag=_text(fields["e"]),
            checksum=_checksum(fields.get("c")),
            attributes=_attributes(fields.get("a")),
            upload_id=_text(fields["u"]) if "u" in fields else None,
            part_number=_number(fields["p"]) if "u" in fields else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AnnexInvalid(f"not an annex: {error!r}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value


def _number(value: object) -> int:
    # JSON has numbers that are no whole ones, infinity among them, and True is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number was expected")
    return value


def _checksum(value: object) -> Checksum | None:
    match value:
        case None:
            return None
        case [str() as algorithm, str() as text, str() as kind]:
            return Checksum(algorithm=algorithm, value=text, kind=ChecksumType(kind))
        case _:
            raise TypeError("a checksum was expected")


def _attributes(value: object) -> VersionAttributes | None:
    match value:
        case None:
            return None
        case {
            "ct": str() as content_type,
            "sy": list() as system,
            "us": list() as user,
            "tg": list() as tags,
            "sc": str() as storage_class,
        }:
            return VersionAttributes(
                content_type=content_type,
                system=_pairs(system),
                user=_pairs(user),
                tags=_pairs(tags),
                storage_class=storage_class,
            )
        case _:
            raise TypeError("attributes were expected")


def _pairs(rows: list[object]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for row in rows:
        match row:
            case [str() as name, str() as text]:
                pairs.append((name, text))
            case _:
                raise TypeError("a pair of texts was expected")
    return tuple(pairs)
