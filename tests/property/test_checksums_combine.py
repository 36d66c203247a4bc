"""Checksums of parts combine to the checksum of the whole, however it was cut."""

from __future__ import annotations

from hypothesis import given, strategies as st

from appliance.s3.checksums import ALGORITHMS, ContentDigest, combine_crc

CRCS = sorted(name for name, row in ALGORITHMS.items() if row.combine is not None)


def value_of(algorithm: str, pieces: list[bytes]) -> str:
    digest = ContentDigest({algorithm}, with_sha256=False)
    for piece in pieces:
        digest.update(memoryview(piece))
    return digest.finish().checksums[algorithm]


@given(algorithm=st.sampled_from(CRCS), parts=st.lists(st.binary(max_size=200), min_size=1))
def test_combined_crcs_are_the_crc_of_the_whole(algorithm: str, parts: list[bytes]) -> None:
    values = [(value_of(algorithm, [part]), len(part)) for part in parts]

    assert combine_crc(algorithm, values) == value_of(algorithm, [b"".join(parts)])


@given(algorithm=st.sampled_from(sorted(ALGORITHMS)), pieces=st.lists(st.binary(max_size=100)))
def test_digests_do_not_depend_on_the_pieces(algorithm: str, pieces: list[bytes]) -> None:
    assert value_of(algorithm, pieces) == value_of(algorithm, [b"".join(pieces)])
