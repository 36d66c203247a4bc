from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from tenants.errors import NameInvalid
from tenants.names import (
    KEY_BYTES_MAX,
    validate_bucket_name,
    validate_object_key,
    validate_tenant_name,
    validate_user_name,
)

GOOD_BUCKETS = [
    "abc",
    "a" * 63,
    "my-bucket",
    "my.bucket.2026",
    "0-9",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.a",
    "admin",
    "metrics",
    "health",
    "sthreeway",
    "a--b",
    "s3alias",
]
BAD_BUCKETS = [
    "",
    "ab",
    "a" * 64,
    "Abc",
    "ab_c",
    "ab c",
    "ab/c",
    "ab:c",
    "abc\n",
    "\u0430bc",  # Cyrillic a
    "\uff41bc",
    "a\u0661b",  # a digit that is not ASCII
    "-abc",
    "abc-",
    ".abc",
    "abc.",
    ".sys",
    "a..b",
    "a.-b",
    "a-.b",
    "..",
    "../..",
    "192.168.5.4",
    "999.999.999.999",
    "xn--abc",
    "sthree-abc",
    "sthree-configurator",
    "amzn-s3-demo-x",
    "abc-s3alias",
    "abc--ol-s3",
    "abc.mrap",
    "abc--x-s3",
    "abc--table-s3",
    "a'; DROP TABLE buckets; --",
]


@pytest.mark.parametrize("name", GOOD_BUCKETS)
def test_a_bucket_name_that_s3_takes_is_accepted(name: str) -> None:
    validate_bucket_name(name)


@pytest.mark.parametrize("name", BAD_BUCKETS)
def test_a_bucket_name_that_s3_refuses_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        validate_bucket_name(name)

    assert caught.value.kind == "bucket"
    assert caught.value.name == name


@given(st.text(alphabet="aAz09.-_ /:\u00e9\u0661\n", max_size=70))
def test_an_accepted_bucket_name_is_a_host_name(name: str) -> None:
    try:
        validate_bucket_name(name)
    except NameInvalid:
        return

    assert 3 <= len(name.encode()) <= 63
    for label in name.split("."):
        assert label.isascii()
        assert label.replace("-", "a").isalnum()
        assert label[0].isalnum()
        assert label[-1].isalnum()


@pytest.mark.parametrize("name", ["a", "acme", "acme-2", "1", "a" * 63])
def test_a_tenant_name_is_a_host_label(name: str) -> None:
    validate_tenant_name(name)


@pytest.mark.parametrize(
    "name", ["", "a" * 64, "Acme", "a_b", "a.b", "a--b", "-a", "a-", "a b", "a\n", "a'--", "\u00e9"]
)
def test_a_tenant_name_that_is_no_host_label_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid, match="tenant name"):
        validate_tenant_name(name)


@pytest.mark.parametrize("name", ["root", "a", "Ann.Lee+x=1,2@example_-", "u" * 64])
def test_a_user_name_follows_iam(name: str) -> None:
    validate_user_name(name)


@pytest.mark.parametrize("name", ["", "u" * 65, "a b", "a/b", "a:b", "a\n", "\u00e9", "a'"])
def test_a_user_name_that_iam_refuses_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid, match="user name"):
        validate_user_name(name)


@pytest.mark.parametrize(
    "key",
    [
        b"a",
        b"/",
        b"..",
        b"../../etc/passwd",
        b"a//b",
        b"a\r\nb",
        b" ",
        b"'; DROP TABLE versions; --",
        "\u00e9".encode(),
        "\U0001f9ca".encode() * 256,
        b"k" * KEY_BYTES_MAX,
    ],
)
def test_an_object_key_may_be_any_text(key: bytes) -> None:
    validate_object_key(key)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (b"", "1 to 1024 bytes"),
        (b"k" * 1_025, "1 to 1024 bytes"),
        ("\u00e9".encode() * 513, "1 to 1024 bytes"),
        (b"a\x00b", "must not contain NUL"),
        (b"\xff", "must be UTF-8"),
        (b"\xc3", "must be UTF-8"),
        (b"\xed\xa0\x80", "must be UTF-8"),  # a surrogate
        (b"\xc0\xaf", "must be UTF-8"),  # an overlong slash
    ],
)
def test_an_object_key_that_breaks_a_rule_is_refused_with_it(key: bytes, rule: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        validate_object_key(key)

    assert caught.value.rule == rule
    assert len(caught.value.name) <= 256


@given(st.binary(max_size=1_100))
@example(b"\x00")
def test_any_bytes_are_accepted_or_refused_by_name(key: bytes) -> None:
    try:
        validate_object_key(key)
    except NameInvalid:
        return

    assert 1 <= len(key) <= KEY_BYTES_MAX
    assert "\x00" not in key.decode()
