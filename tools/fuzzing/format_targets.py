"""Targets of what lies on disks: records, superblocks, segment headers, annexes, settings."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from zlib import crc32 as zip_crc32

from appliance.catalog.records import Checksum, ChecksumType, VersionAttributes
from appliance.objects.annex import Annex, AnnexInvalid, decode_annex, encode_annex
from appliance.settings import VolumeSettings
from appliance.settings_file import SettingsInvalid, load_settings
from appliance.settings_text import describe_settings, format_settings_file
from hal.checksums import blake3_digest, crc32c
from hal.errors import FormatUnknown, PageCorrupt
from hal.geometry import HEADER_BYTES, record_bytes, span_range
from hal.page_codec import (
    ExpectedRecord,
    RecordHeader,
    annex_of,
    decode_header,
    encode_header,
    open_record,
    open_spans,
    seal_record,
)
from hal.records import BodyId, SegmentId, VolumeId
from hal.segment import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
)
from hal.superblock import (
    COPY_COUNT,
    SUPERBLOCK_BYTES,
    Superblock,
    decode_superblock,
    encode_superblock,
)
from tools.fuzzing.campaign import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["format_targets"]

_UUID = uuid.UUID(int=0x1234)
_BINARY_WORDS = (
    *(b"\0" * 8, b"\xff" * 8, b"\xff" * 4, b"\x00\x10\x00\x00", b"\x01\x00", b"\x02\x00"),
    *(b"TCRECORD", b"TCVOLUME", b"TCSEGMNT", (4 * 2**20).to_bytes(4, "little")),
)


def _mend_block(data: bytes, size: int) -> bytes:
    """The CRC32C at the end of a block of `size` made right."""
    if len(data) < size:
        return data
    checksum = crc32c(data[: size - 4]).to_bytes(4, "little")
    return data[: size - 4] + checksum + data[size:]


def _seal(payload: bytes, annex: bytes, body_id: int) -> bytes:
    record = bytearray(record_bytes(payload_bytes=len(payload), annex_bytes=len(annex)))
    record[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
    seal_record(
        memoryview(record),
        segment_uuid=_UUID.bytes,
        offset=8192,
        tenant_id=3,
        body_id=BodyId(body_id),
        page_index=body_id,
        payload_bytes=len(payload),
        annex=annex,
        is_last=bool(annex),
        written_us=1,
    )
    return bytes(record)


def _expected(header: RecordHeader, blake3: bytes) -> ExpectedRecord:
    return ExpectedRecord(
        segment_uuid=header.segment_uuid,
        offset=header.offset,
        body_id=header.body_id,
        page_index=header.page_index,
        payload_bytes=header.payload_bytes,
        blake3=blake3,
    )


def _record_target() -> Target:
    payloads = (b"", b"hello", bytes(range(256)) * 300, bytes(200_000))
    digests = {index: blake3_digest(payload) for index, payload in enumerate(payloads)}

    def run(data: bytes) -> Callable[[], Hashable]:
        header = decode_header(data)
        annex = annex_of(memoryview(data), header)
        # The catalog's word for a body that exists, else the header's own.
        digest = digests.get(header.page_index, header.blake3)
        expected = _expected(header, digest)
        payload = open_record(memoryview(data), expected=expected, where="r")

        def judge() -> Hashable:
            assert decode_header(encode_header(header)) == header, "no round trip"
            assert blake3_digest(payload) == digest, "other bytes than were written"
            assert len(annex) == header.annex_bytes
            if payload:
                random = Random(zip_crc32(data))  # noqa: S311  # nothing secret
                offset = random.randrange(len(payload))
                wanted = span_range(
                    payload_bytes=len(payload),
                    offset=offset,
                    length_bytes=random.randrange(1, len(payload) - offset + 1),
                )
                end = wanted.record_offset + wanted.length_bytes
                try:
                    part = open_spans(
                        memoryview(data),
                        memoryview(data)[wanted.record_offset : end],
                        span_range=wanted,
                        expected=expected,
                        where="r",
                    )
                except PageCorrupt:
                    return "spans differ"  # only where somebody mended a wrong header
                assert part == payload[offset : offset + wanted.payload_length_bytes]
            return (header.kind, header.is_last, len(payload).bit_length(), bool(annex))

        return judge

    return Target(
        name="record",
        seeds=tuple(
            _seal(payload, annex, index)
            for index, payload in enumerate(payloads)
            for annex in (b"", b"annex" * 10)
        ),
        run=run,
        allowed=(FormatUnknown, PageCorrupt),
        words=_BINARY_WORDS,
        bytes_max=2**19,
        mend=lambda data: _mend_block(data, HEADER_BYTES),
    )


def _superblock_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        found = decode_superblock(data, where="s")

        def judge() -> Hashable:
            block = encode_superblock(found)
            assert decode_superblock(block, where="s") == found, "no round trip"
            return (len(found.tier), found.sequence.bit_length())

        return judge

    def mend(data: bytes) -> bytes:
        blocks = [
            _mend_block(data[at : at + SUPERBLOCK_BYTES], SUPERBLOCK_BYTES)
            for at in range(0, len(data), SUPERBLOCK_BYTES)
        ]
        return b"".join(blocks)

    blocks = [
        encode_superblock(
            Superblock(
                volume_id=VolumeId(5),
                volume_uuid=_UUID,
                appliance_uuid=_UUID,
                tier=tier,
                segment_bytes=2**30,
                created_us=1,
                sequence=sequence,
            )
        )
        for tier, sequence in (("ssd", 1), ("hdd", 2), ("t" * 32, 2**64 - 1))
    ]
    return Target(
        name="superblock",
        seeds=(blocks[0] + blocks[1], blocks[2], bytes(SUPERBLOCK_BYTES) + blocks[0]),
        run=run,
        allowed=(FormatUnknown,),
        words=_BINARY_WORDS,
        bytes_max=COPY_COUNT * SUPERBLOCK_BYTES + 64,
        mend=mend,
    )


def _segment_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        header = decode_segment_header(data, where="s")

        def judge() -> Hashable:
            assert decode_segment_header(encode_segment_header(header), where="s") == header
            return header.boot_epoch.bit_length()

        return judge

    return Target(
        name="segment",
        seeds=tuple(
            encode_segment_header(
                SegmentHeader(
                    segment_id=SegmentId(epoch << 24 | 9),
                    segment_uuid=_UUID,
                    volume_uuid=_UUID,
                    boot_epoch=epoch,
                    created_us=1,
                )
            )
            for epoch in (1, 2**40 - 1)
        ),
        run=run,
        allowed=(FormatUnknown, PageCorrupt),
        words=_BINARY_WORDS,
        bytes_max=SEGMENT_HEADER_BYTES + 64,
        mend=lambda data: _mend_block(data, SEGMENT_HEADER_BYTES),
    )


def _annex_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        annex = decode_annex(data)

        def judge() -> Hashable:
            assert decode_annex(encode_annex(annex)) == annex, "no round trip"
            return (annex.checksum is None, annex.attributes is None, annex.part_number is None)

        return judge

    plain = Annex(
        tenant_name="t",
        bucket_name="b",
        bucket_id=1,
        key=b"k\xff/\xc3\xa9",
        size_bytes=5,
        etag="0" * 32,
        checksum=Checksum(algorithm="CRC32", value="AAAAAA==", kind=ChecksumType.COMPOSITE),
        attributes=VersionAttributes(
            content_type="a/b", system=(("expires", "0"),), user=(("a", "b"),), tags=(("k", "v"),)
        ),
    )
    part = Annex(
        tenant_name="t",
        bucket_name="b",
        bucket_id=2**62,
        key=b"k",
        size_bytes=5,
        etag="e",
        checksum=None,
        attributes=None,
        upload_id="u",
        part_number=3,
    )
    return Target(
        name="annex",
        seeds=(encode_annex(plain), encode_annex(part)),
        run=run,
        allowed=(AnnexInvalid,),
        words=(
            *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"Infinity"),
            *(b"-Infinity", b'"\\ud800"', b"\\u0000", b'"u":', b'"p":', b'"a":', b'"c":', b"1.5"),
            *(b"\xed\xa0\x80", b"1e999", b"-1"),
        ),
        bytes_max=16 * 1024,
    )


def _settings_target() -> Target:
    """An input is the file and, behind U+001E, variables a line."""
    directory = Path(tempfile.mkdtemp(prefix="thermocline-fuzz-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = directory / "thermocline.toml"

    def run(data: bytes) -> Callable[[], Hashable]:
        text, _, variables = data.partition(b"\x1e")
        path.write_bytes(text)
        lines = (line.partition("=") for line in variables.decode("latin-1").split("\n"))
        settings = load_settings(path, {name: value for name, _, value in lines})

        def judge() -> Hashable:
            assert all(volume.path.is_absolute() for volume in settings.volumes)
            assert settings.appliance.data.is_absolute()
            return (len(settings.volumes), len(settings.s3.listen), settings.s3.allow_plain_http)

        return judge

    def judge_refusal(data: bytes, error: Exception) -> None:
        assert isinstance(error, SettingsInvalid)
        lines = data.partition(b"\x1e")[0].count(b"\n") + 1
        assert error.line is None or 1 <= error.line <= lines, error

    volumes = [
        VolumeSettings(path=Path("/a/ssd"), tier="ssd"),
        VolumeSettings(path=Path("hdd"), tier="hdd", io_slots=3, name="h"),
    ]
    written = format_settings_file({}, volumes=volumes)
    everything = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in written.split("\n")
        if not line.rstrip().endswith("=")
    )
    volume = b'[[volume]]\npath = "v"\ntier = "ssd"\n'
    names = [doc.name.rpartition(".")[2].encode() for doc in describe_settings()]
    return Target(
        name="settings",
        seeds=(
            written.encode(),
            everything.encode(),
            volume + b"io_slots = 0x1_0\n#" + b"\n[tenants]\nbuckets_max = 1000\n",
            volume + b"[s3]\nlisten = ['127.0.0.1:9000', \"[::1]:0\"]\ndomains = []\n",
            volume + b"\x1eTHERMOCLINE_S3_LISTEN=127.0.0.1:1\nTHERMOCLINE_VOLUME_2_PATH=/x\n"
            b"THERMOCLINE_VOLUME_2_TIER=hdd\n",
        ),
        run=run,
        allowed=(SettingsInvalid,),
        words=(
            *(*names, b"[", b"]", b"[[", b"]]", b"[s3]\n", b"[[volume]]\n", b" = ", b'"', b"'"),
            *(b'"""', b"'''", b"{", b"}", b"#", b".", b"a.", b"\n", b"a = 1\n", b"1979-05-27"),
            *(b"inf", b"nan", b"1_000", b"0x1", b'"\\u0000"', b'"10GiB"', b'"5%"', b"true", b"-1"),
            *(b"\x1eTHERMOCLINE_", b"S3_LISTEN=", b'"[::1]:80"', b'"sqlite:///x"', b"07:32:00"),
        ),
        bytes_max=16 * 1024,
        judge_refusal=judge_refusal,
    )


def format_targets() -> list[Target]:
    """Everything that is read back from a disk."""
    return [
        _record_target(),
        _superblock_target(),
        _segment_target(),
        _annex_target(),
        _settings_target(),
    ]
