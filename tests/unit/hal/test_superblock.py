"""The volume's identity: two copies, the newest intact one counts."""

from __future__ import annotations

import dataclasses
import uuid

import pytest
from hypothesis import given, strategies

from hal.checksums import crc32c
from hal.errors import FormatUnknown
from hal.records import VolumeId
from hal.superblock import (
    SUPERBLOCK_BYTES,
    Superblock,
    copy_index,
    decode_superblock,
    encode_superblock,
)

IDENTITY = Superblock(
    volume_id=VolumeId(3),
    volume_uuid=uuid.UUID(int=11),
    appliance_uuid=uuid.UUID(int=12),
    tier="ssd",
    segment_bytes=1 << 30,
    created_us=99,
)


def encode_both(first: Superblock, second: Superblock) -> bytearray:
    blocks = [b"", b""]
    for superblock in (first, second):
        blocks[copy_index(superblock.sequence)] = encode_superblock(superblock)
    return bytearray(b"".join(blocks))


@given(
    volume_id=strategies.integers(0, 2**32 - 1),
    volume_uuid=strategies.uuids(),
    appliance_uuid=strategies.uuids(),
    tier=strategies.text(
        strategies.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32
    ),
    segment_blocks=strategies.integers(0, 2**50),
    created_us=strategies.integers(0, 2**64 - 1),
    sequence=strategies.integers(1, 2**64 - 1),
)
def test_a_copy_decodes_to_what_was_encoded(
    volume_id: int,
    volume_uuid: uuid.UUID,
    appliance_uuid: uuid.UUID,
    tier: str,
    segment_blocks: int,
    created_us: int,
    sequence: int,
) -> None:
    superblock = Superblock(
        volume_id=VolumeId(volume_id),
        volume_uuid=volume_uuid,
        appliance_uuid=appliance_uuid,
        tier=tier,
        segment_bytes=segment_blocks * 4096,
        created_us=created_us,
        sequence=sequence,
    )

    copy = encode_superblock(superblock)

    assert len(copy) == SUPERBLOCK_BYTES
    assert decode_superblock(copy + bytes(SUPERBLOCK_BYTES), where="here") == superblock


def test_the_higher_sequence_counts() -> None:
    newer = dataclasses.replace(IDENTITY, sequence=2, tier="hdd")

    assert decode_superblock(encode_both(IDENTITY, newer), where="here") == newer
    assert decode_superblock(encode_both(newer, IDENTITY), where="here") == newer


@given(byte=strategies.integers(0, SUPERBLOCK_BYTES - 1), bit=strategies.integers(0, 7))
def test_any_flipped_bit_in_the_newer_copy_leaves_the_older_one(byte: int, bit: int) -> None:
    newer = dataclasses.replace(IDENTITY, sequence=2, tier="hdd")
    both = encode_both(IDENTITY, newer)
    both[copy_index(2) * SUPERBLOCK_BYTES + byte] ^= 1 << bit

    assert decode_superblock(both, where="here") == IDENTITY


def test_two_damaged_copies_are_no_volume() -> None:
    both = encode_both(IDENTITY, dataclasses.replace(IDENTITY, sequence=2))
    both[100] ^= 1
    both[SUPERBLOCK_BYTES + 100] ^= 1

    with pytest.raises(FormatUnknown, match="no intact copy"):
        decode_superblock(both, where="here")


def test_an_intact_copy_of_another_version_is_refused_though_the_other_is_known() -> None:
    both = encode_both(IDENTITY, dataclasses.replace(IDENTITY, sequence=2))
    both[8:10] = b"\x02\x00"
    both[SUPERBLOCK_BYTES - 4 : SUPERBLOCK_BYTES] = crc32c(
        bytes(both[: SUPERBLOCK_BYTES - 4])
    ).to_bytes(4, "little")

    with pytest.raises(FormatUnknown, match="version 2"):
        decode_superblock(both, where="here")


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 5000, 8192])
def test_zeros_of_any_length_are_no_volume(length: int) -> None:
    with pytest.raises(FormatUnknown):
        decode_superblock(bytes(length), where="here")


@given(data=strategies.binary(max_size=200))
def test_garbage_is_no_volume(data: bytes) -> None:
    with pytest.raises(FormatUnknown):
        decode_superblock(b"TCVOLUME\x01\x00" + data.ljust(9000, b"\x5a"), where="here")


@pytest.mark.parametrize("tier", ["", "x" * 33])
def test_a_tier_name_that_does_not_fit_is_a_programmers_error(tier: str) -> None:
    with pytest.raises(AssertionError):
        encode_superblock(dataclasses.replace(IDENTITY, tier=tier))
