from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.tokens import TOKEN_CHARACTERS_MAX, decode_token, encode_token

SECRET = bytes(range(32))
MARKER = "photos/é\n".encode()


def refused(kind: str, bucket_id: int, token: str, secret: bytes = SECRET) -> bool:
    with pytest.raises(S3Error) as caught:
        decode_token(kind, bucket_id, token, secret=secret)
    return caught.value.code is S3Code.INVALID_ARGUMENT


def test_a_token_gives_its_marker_back() -> None:
    for marker in (b"", MARKER, b"\xff" * 1024):
        token = encode_token("objects", 7, marker, secret=SECRET)
        assert len(token) <= TOKEN_CHARACTERS_MAX
        assert decode_token("objects", 7, token, secret=SECRET) == marker


def test_a_token_works_only_where_it_was_given() -> None:
    token = encode_token("objects", 7, MARKER, secret=SECRET)

    assert refused("buckets", 7, token)
    assert refused("objects", 8, token)
    assert refused("objects", 7, token, secret=b"another secret")


def test_a_truncated_or_changed_token_is_refused() -> None:
    token = encode_token("objects", 7, MARKER, secret=SECRET)

    assert all(refused("objects", 7, token[:length]) for length in range(len(token)))
    for index, character in enumerate(token[:-1]):
        changed = token[:index] + ("A" if character != "A" else "B") + token[index + 1 :]
        assert refused("objects", 7, changed)


@pytest.mark.parametrize("token", ["", "=", "A", "é", "!!!!", "A" * 5000, "\ud800", "AQ==AQ"])
def test_what_was_never_a_token_is_refused(token: str) -> None:
    assert refused("objects", 7, token)
