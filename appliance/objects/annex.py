"""Codec of the annex: what a body's last record says of the object it belongs to.

A catalog can be rebuilt from the segments alone because of it. It is written before the commit, so
it knows neither the version's sequence nor whether the commit took place; a rebuild orders versions
by their times and body ids (`appliance.rebuild.fold`). What has no bytes of its own, and what an
annex does not know, is said by manifests (`appliance.objects.manifest`).

Form: one byte of version, then UTF-8 JSON with the fields of `Annex` under short names. JSON
because it describes itself and survives new fields; the size hardly counts beside the padding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from appliance.catalog.records import Checksum, VersionAttributes, Versioning
from appliance.objects.json_fields import (
    dump_attributes,
    dump_checksum,
    dump_key,
    read_attributes,
    read_checksum,
    read_key,
    read_number,
    read_optional_number,
    read_text,
)

__all__ = ["Annex", "AnnexInvalid", "decode_annex", "encode_annex"]

ANNEX_VERSION = 1

# Made once: `json.dumps` would make one for each annex.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class AnnexInvalid(Exception):
    """The bytes are not an annex that this program can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annex:
    """What a plain PUT or an uploaded part needs to become catalog rows again.

    Attributes:
        tenant_name: Names, not ids, since whoever reads a record wants to know whose it is.
        bucket_created_us: Tells the bucket from an earlier one of that name; None in old annexes.
        size_bytes: Of the whole body.
        etag: MD5 of the body in hexadecimal.
        upload_id: The multipart upload the body is a part of, None for a plain PUT.
        part_number: With `upload_id`.
        attributes: None for parts, whose upload carries them.
        versioning: Of the bucket when the body came, which says whether it replaced the null
            version; None for parts and in old annexes.
        modified_us: Of the version; None for parts and in old annexes, where the record's
            `written_us` is next to it.
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
    bucket_created_us: int | None = None
    versioning: Versioning | None = None
    modified_us: int | None = None


def encode_annex(annex: Annex) -> bytes:
    """The annex as bytes.

    The caller compares the length with `hal.geometry.ANNEX_BYTES_MAX` before it takes the body:
    a header section of 8 KiB made of nothing but quotes would pass it.
    """
    fields: dict[str, object] = {
        "t": annex.tenant_name,
        "b": annex.bucket_name,
        "i": annex.bucket_id,
        "k": dump_key(annex.key),
        "s": annex.size_bytes,
        "e": annex.etag,
    }
    if annex.checksum is not None:
        fields["c"] = dump_checksum(annex.checksum)
    if annex.attributes is not None:
        fields["a"] = dump_attributes(annex.attributes)
    if annex.upload_id is not None:
        fields["u"] = annex.upload_id
        fields["p"] = annex.part_number
    if annex.bucket_created_us is not None:
        fields["bc"] = annex.bucket_created_us
    if annex.versioning is not None:
        fields["v"] = annex.versioning.value
    if annex.modified_us is not None:
        fields["m"] = annex.modified_us
    text = _ENCODER.encode(fields)
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
            tenant_name=read_text(fields["t"]),
            bucket_name=read_text(fields["b"]),
            bucket_id=read_number(fields["i"]),
            key=read_key(fields["k"]),
            size_bytes=read_number(fields["s"]),
            etag=read_text(fields["e"]),
            checksum=read_checksum(fields.get("c")),
            attributes=read_attributes(fields.get("a")),
            upload_id=read_text(fields["u"]) if "u" in fields else None,
            part_number=read_number(fields["p"]) if "u" in fields else None,
            bucket_created_us=read_optional_number(fields.get("bc")),
            versioning=Versioning(read_text(fields["v"])) if "v" in fields else None,
            modified_us=read_optional_number(fields.get("m")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AnnexInvalid(f"not an annex: {error!r}") from error
