"""What the fuzzer found, each test named for the effect it had. `tools/fuzz.py` looks for more."""

from __future__ import annotations

import struct
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from appliance.http.framing import ChunkedDecoder as HttpChunkedDecoder
from appliance.http.limits import BODY_READ_BYTES_MAX, HttpLimits
from appliance.objects.annex import AnnexInvalid, decode_annex
from appliance.s3.aws_chunked import ChunkedDecoder
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.xml_parts import COMPLETE_XML_BYTES_MAX, parse_complete_upload
from appliance.s3.xml_reader import parse_delete_objects
from appliance.settings_file import SettingsInvalid, load_settings
from hal.checksums import crc32c
from hal.errors import FormatUnknown, PageCorrupt
from hal.records import SegmentId, VolumeId
from hal.segment import SegmentHeader, decode_segment_header, encode_segment_header
from hal.superblock import Superblock, decode_superblock, encode_superblock
from tools.fuzzing.campaign import measure_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU_MS_MAX = 50.0
UUID = uuid.UUID(int=1)


def cpu_ms(run: Callable[[], object]) -> float:
    """The fastest of four runs, as on the reference machine."""

    def once() -> float:
        started = time.thread_time_ns()
        run()
        return (time.thread_time_ns() - started) / 1e6

    return min(once() for _ in range(4)) / measure_machine()


@pytest.mark.parametrize(
    "fields",
    [
        b'{"t":"","b":"","i":1e999,"k":"","s":5,"e":""}',
        b'{"t":"","b":"","i":1,"k":"","s":Infinity,"e":""}',
        b'{"t":"","b":"","i":1,"k":"","s":5,"e":"","u":"","p":1e377}',
    ],
)
def test_an_annex_with_an_infinite_number_is_refused_not_an_overflow(fields: bytes) -> None:
    with pytest.raises(AnnexInvalid):
        decode_annex(b"\x01" + fields)


def test_a_part_number_without_an_upload_makes_no_part() -> None:
    annex = decode_annex(b'\x01{"t":"","b":"","i":6,"k":"","s":5,"e":"","p":3}')

    assert annex.part_number is None


def mended(block: bytearray) -> bytes:
    block[-4:] = crc32c(bytes(block[:-4])).to_bytes(4, "little")
    return bytes(block)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (16, struct.pack("<Q", 0)),  # sequence
        (56, struct.pack("<Q", 4097)),  # segment bytes
        (72, bytes(32)),  # tier
        (72, b"\xff"),
    ],
)
def test_a_superblock_of_impossible_values_is_not_opened(offset: int, value: bytes) -> None:
    block = bytearray(
        encode_superblock(
            Superblock(
                volume_id=VolumeId(1),
                volume_uuid=UUID,
                appliance_uuid=UUID,
                tier="ssd",
                segment_bytes=4096,
                created_us=1,
            )
        )
    )
    block[offset : offset + len(value)] = value

    with pytest.raises(FormatUnknown):
        decode_superblock(mended(block), where="here")


def test_a_segment_of_another_start_than_its_id_says_is_corrupt() -> None:
    header = SegmentHeader(
        segment_id=SegmentId(7 << 24),
        segment_uuid=UUID,
        volume_uuid=UUID,
        boot_epoch=7,
        created_us=1,
    )
    block = bytearray(encode_segment_header(header))
    block[16:24] = struct.pack("<Q", 8 << 24)

    with pytest.raises(PageCorrupt):
        decode_segment_header(mended(block), where="here")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 8000,
        "a = " + "{b = " * 3000,
        "a = " + "9" * 5000,
        "s3." + "a." * 4000 + "b=1",
    ],
    ids=["arrays", "tables", "digits", "parts"],
)
def test_a_settings_file_of_nonsense_is_refused_without_a_traceback(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "thermocline.toml"
    path.write_text(text)

    with pytest.raises(SettingsInvalid):
        load_settings(path, {})
    assert cpu_ms(lambda: refused(load_settings, path)) < CPU_MS_MAX


def refused(load: Callable[[Path, dict[str, str]], object], path: Path) -> None:
    with pytest.raises(SettingsInvalid):
        load(path, {})


def test_dots_in_strings_and_comments_are_no_parts_of_a_key(tmp_path: Path) -> None:
    path = tmp_path / "thermocline.toml"
    names = ", ".join(f"'a{number}.b.c.example'" for number in range(20))
    volume = "[[volume]]\npath = 'a'\ntier = 'ssd'\n"
    path.write_text(f"{volume}# {'.' * 80}\n[s3]\ndomains = [{names}] # {'.' * 80}\n")

    assert len(load_settings(path, {}).s3.domains) == 20


ONE_BYTE_CHUNKS = b"1\r\na\r\n" * (BODY_READ_BYTES_MAX // 6)


def test_a_delivery_of_one_byte_chunks_does_not_hold_up_the_loop() -> None:
    decoder = HttpChunkedDecoder(HttpLimits())

    assert cpu_ms(lambda: decoder.decode(ONE_BYTE_CHUNKS)) < CPU_MS_MAX
    payload = decoder.decode(ONE_BYTE_CHUNKS)
    assert payload == b"a" * (BODY_READ_BYTES_MAX // 6)


def test_a_delivery_of_one_byte_aws_chunks_does_not_hold_up_the_loop() -> None:
    decoder = ChunkedDecoder(decoded_bytes=10**9, chain=None, has_trailer=False)

    assert cpu_ms(lambda: decoder.receive(ONE_BYTE_CHUNKS)) < CPU_MS_MAX
    assert b"".join(decoder.receive(ONE_BYTE_CHUNKS)) == b"a" * (BODY_READ_BYTES_MAX // 6)


@pytest.mark.parametrize("count", [1, 5])
def test_one_byte_aws_chunks_are_held_to_the_declared_length(count: int) -> None:
    decoder = ChunkedDecoder(decoded_bytes=3, chain=None, has_trailer=False)
    body = b"1\r\na\r\n" * count + b"0\r\n\r\n"

    with pytest.raises(S3Error) as raised:
        decoder.receive(body)
    assert raised.value.code is S3Code.INCOMPLETE_BODY


def completion(content: bytes) -> bytes:
    return b"<CompleteMultipartUpload>%b</CompleteMultipartUpload>" % content


@pytest.mark.parametrize(
    "piece",
    [
        *(b"<!---->", b"<?a?>", b"<![CDATA[]]>", b"<", b"<Part/>"),
        *(b"<Part><ETag>" + b"\n" * 16_000 + b"</ETag></Part>", b"<Part a='' b='' c=''/>"),
    ],
    ids=["comments", "instructions", "sections", "brackets", "parts", "lines", "attributes"],
)
@pytest.mark.parametrize("parse", [parse_complete_upload, parse_delete_objects])
def test_two_megabytes_of_markup_are_refused_at_once(
    parse: Callable[[bytes], object], piece: bytes
) -> None:
    document = completion(piece * ((COMPLETE_XML_BYTES_MAX - 60) // len(piece)))

    def run() -> None:
        with pytest.raises(S3Error) as raised:
            parse(document)
        assert raised.value.code is S3Code.MALFORMED_XML

    assert cpu_ms(run) < CPU_MS_MAX


@pytest.mark.parametrize(
    "document",
    [
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + completion(b"<Part>&b;</Part>"),
        b"<!doctype a>" + completion(b""),
        completion(b"<Part><ETag>&b;</ETag><PartNumber>1</PartNumber></Part>"),
        completion(b"<Part><ETag><![CDATA[<!]]></ETag><PartNumber>1</PartNumber></Part>"),
    ],
)
def test_a_completion_has_no_document_type_and_no_entities(document: bytes) -> None:
    with pytest.raises(S3Error) as raised:
        parse_complete_upload(document)
    assert raised.value.code is S3Code.MALFORMED_XML


def test_a_volume_variable_of_very_many_digits_is_refused_without_a_traceback(
    tmp_path: Path,
) -> None:
    path = tmp_path / "thermocline.toml"
    path.touch()

    with pytest.raises(SettingsInvalid, match="VOLUME_<n>_<SETTING>"):
        load_settings(path, {f"THERMOCLINE_VOLUME_{'9' * 4400}_PATH": "/"})
