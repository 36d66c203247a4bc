"""Header claims: what is refused, and with which code (SigV4 header rows 1 to 25)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import appliance.s3
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.sigv4 import derive_signing_key, parse_claim, verify_unknown
from tests.unit.s3.signer import (
    ACCESS_KEY,
    EMPTY_SHA256,
    NOW,
    REGION,
    SECRET,
    authenticate,
    make_head,
    outcome_of,
    sign,
    signature_of,
)

if TYPE_CHECKING:
    from appliance.s3.messages import RequestHead

GOOD = sign(make_head())


def with_authorization(text: str, head: RequestHead = GOOD) -> RequestHead:
    kept = tuple(pair for pair in head.headers if pair[0] != b"authorization")
    return replace(head, headers=(*kept, (b"authorization", text.encode("utf-8"))))


def authorization_of(head: RequestHead) -> str:
    value = head.find_header(b"authorization")
    assert value is not None
    return value.decode()


def with_header(head: RequestHead, name: str, value: str) -> RequestHead:
    return replace(head, headers=(*head.headers, (name.encode(), value.encode())))


def test_a_request_without_credentials_is_anonymous() -> None:
    assert parse_claim(make_head(), region=REGION, now=NOW) is None
    assert parse_claim(make_head(target="/b?prefix=X-Amz"), region=REGION, now=NOW) is None


def test_a_signed_request_is_verified() -> None:
    verified = authenticate(GOOD)

    assert verified.claim.access_key_id == ACCESS_KEY
    assert verified.timestamp == "20261120T120000Z"
    assert verified.scope == "20261120/us-east-1/s3/aws4_request"
    assert verified.seed_signature == verified.claim.signature


def test_secrets_and_signatures_stay_out_of_repr() -> None:
    verified = authenticate(GOOD)

    assert verified.seed_signature not in repr(verified)
    assert repr(verified.signing_key) not in repr(verified)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "AccessDenied"),
        ("AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 ", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential=", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA512 Credential=a, SignedHeaders=b, Signature=c", "InvalidArgument"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", "InvalidArgument"),
        ("AWS4-HMAC-SHA256Credential=a", "InvalidArgument"),
        ("Basic dXNlcjpwYXNz", "InvalidArgument"),
        ("Bearer abc", "InvalidArgument"),
        ("aws4-hmac-sha256 Credential=a", "InvalidArgument"),
        (f"AWS {ACCESS_KEY}:sig", "InvalidRequest"),
        ("AWS", "InvalidRequest"),
    ],
)
def test_an_authorization_of_another_form_is_refused(text: str, code: str) -> None:
    assert outcome_of(with_authorization(text)) == code


@pytest.mark.parametrize("name", ["Credential", "SignedHeaders", "Signature"])
def test_a_missing_or_repeated_field_is_malformed(name: str) -> None:
    good = authorization_of(GOOD)
    field = re.search(rf"{name}=[^,]*", good)
    assert field is not None

    without = re.sub(rf",? ?{name}=[^,]*", "", good).replace("SHA256,", "SHA256")
    for text in (without, f"{good}, {field[0]}", f"{good}, Other=1", f"{good},"):
        assert outcome_of(with_authorization(text)) == "AuthorizationHeaderMalformed"


def test_fields_may_come_without_spaces_and_in_any_order() -> None:
    scheme, _, rest = authorization_of(GOOD).partition(" ")
    fields = rest.split(", ")

    assert outcome_of(with_authorization(f"{scheme} {','.join(reversed(fields))}")) == "verified"


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("20261119/us-east-1/s3/aws4_request", "AuthorizationHeaderMalformed"),
        ("2026-11-20/us-east-1/s3/aws4_request", "AuthorizationHeaderMalformed"),
        ("20261120/eu-west-1/s3/aws4_request", "AuthorizationHeaderMalformed"),
        ("20261120/us-east-1/sts/aws4_request", "AuthorizationHeaderMalformed"),
        ("20261120/us-east-1/s3tables/aws4_request", "AuthorizationHeaderMalformed"),
        ("20261120/us-east-1//aws4_request", "AuthorizationHeaderMalformed"),
        ("20261120/us-east-1/s3/aws4", "AuthorizationHeaderMalformed"),
    ],
)
def test_a_scope_of_another_day_region_or_service_is_malformed(scope: str, code: str) -> None:
    assert outcome_of(sign(make_head(), scope=scope)) == code


def test_a_credential_with_too_few_parts_is_malformed() -> None:
    text = authorization_of(GOOD).replace("/s3/", "/")

    assert outcome_of(with_authorization(text)) == "AuthorizationHeaderMalformed"


def test_a_wrong_region_is_told_the_right_one() -> None:
    head = sign(make_head(), scope="20261120/eu-west-1/s3/aws4_request")

    with pytest.raises(S3Error) as caught:
        parse_claim(head, region=REGION, now=NOW)

    assert caught.value.elements == {"Region": "us-east-1"}


@pytest.mark.parametrize(
    "access_key", ["A\x00B", "A\r\nB", 'A"B', "A'B", "A" * 4096, "Ä", "", "A B", "A<B"]
)
def test_an_impossible_access_key_is_unknown(access_key: str) -> None:
    head = sign(make_head(), access_key=access_key)

    assert outcome_of(head) == "InvalidAccessKeyId"


def test_an_access_key_with_a_slash_is_read_from_the_right() -> None:
    assert authenticate(sign(make_head(), access_key="a/b")).claim.access_key_id == "a/b"


def test_an_unknown_key_costs_the_same_work_and_is_refused() -> None:
    claim = parse_claim(GOOD, region=REGION, now=NOW)
    assert claim is not None

    with pytest.raises(S3Error) as caught:
        verify_unknown(claim, GOOD)

    assert caught.value.code is S3Code.INVALID_ACCESS_KEY_ID


def test_the_key_that_stands_in_for_unknown_ones_opens_nothing() -> None:
    # Even a request signed with the stand-in's own secret is refused.
    head = sign(make_head(), secret="")
    claim = parse_claim(head, region=REGION, now=NOW)
    assert claim is not None

    with pytest.raises(S3Error, match="InvalidAccessKeyId"):
        verify_unknown(claim, head)


def test_another_secret_does_not_match() -> None:
    assert outcome_of(sign(make_head(), secret="other")) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("names", ["host", "host;Range", "host;;range", "host;host", "host; range"])
def test_a_wrong_list_of_signed_headers_is_refused(names: str) -> None:
    text = re.sub(r"SignedHeaders=[^,]*", f"SignedHeaders={names}", authorization_of(GOOD))

    code = "AccessDenied" if names == "host" else "AuthorizationHeaderMalformed"
    assert outcome_of(with_authorization(text)) == code


def test_an_unsigned_host_is_refused() -> None:
    head = sign(make_head(), unsigned=("host",))

    with pytest.raises(S3Error) as caught:
        parse_claim(head, region=REGION, now=NOW)

    assert caught.value.code is S3Code.ACCESS_DENIED
    assert caught.value.elements == {"HeadersNotSigned": "host"}


AMZ_HEADERS = [
    "x-amz-copy-source",
    "x-amz-acl",
    "x-amz-tagging",
    "x-amz-meta-a",
    "x-amz-storage-class",
    "x-amz-object-lock-mode",
    "x-amz-decoded-content-length",
    "x-amz-date",
    "x-amz-content-sha256",
]


@pytest.mark.parametrize("name", AMZ_HEADERS)
def test_an_unsigned_amz_header_is_refused(name: str) -> None:
    present = {"x-amz-date", "x-amz-content-sha256"}
    head = make_head(headers=[] if name in present else [(name, "v")])

    with pytest.raises(S3Error) as caught:
        parse_claim(sign(head, unsigned=(name,)), region=REGION, now=NOW)

    assert caught.value.code is S3Code.ACCESS_DENIED
    assert caught.value.elements == {"HeadersNotSigned": name}


def test_an_unsigned_header_of_no_amz_name_is_admitted() -> None:
    head = make_head(headers=[("accept-encoding", "gzip"), ("x-amzn-trace-id", "1")])

    assert outcome_of(sign(head, unsigned=("accept-encoding", "x-amzn-trace-id"))) == "verified"


def test_a_signed_header_that_did_not_arrive_counts_as_empty() -> None:
    head = sign(make_head(headers=[("expect", "100-continue")]))
    stripped = replace(head, headers=tuple(pair for pair in head.headers if pair[0] != b"expect"))

    assert outcome_of(head) == "verified"
    assert outcome_of(stripped) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    "stamp", [None, "2026-11-20", "99999999T999999Z", "20261120T120000", "00000101T000000Z", ""]
)
def test_a_missing_or_broken_date_is_denied(stamp: str | None) -> None:
    assert outcome_of(sign(make_head(), stamp=stamp)) == "AccessDenied"


def sign_by_date(date: str) -> RequestHead:
    """Signed with Date in place of x-amz-date, as botocore does where Date was set."""
    full = sign(make_head(headers=[("date", date)]))
    scheme = authorization_of(full)
    without = replace(
        full,
        headers=tuple(p for p in full.headers if p[0] not in (b"x-amz-date", b"authorization")),
    )
    names = re.search(r"SignedHeaders=([^,]*)", scheme)
    assert names is not None
    kept = [name for name in names[1].split(";") if name != "x-amz-date"]
    scope = f"20261120/{REGION}/s3/aws4_request"
    signature = signature_of(without, kept, EMPTY_SHA256, scope, "20261120T120000Z", SECRET)
    text = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},"
        f"SignedHeaders={';'.join(kept)},Signature={signature}"
    )
    return replace(without, headers=(*without.headers, (b"authorization", text.encode())))


@pytest.mark.parametrize(
    "date", ["Fri, 20 Nov 2026 12:00:00 GMT", "Fri, 20 Nov 2026 12:00:00 -0000", "20261120T120000Z"]
)
def test_the_date_header_serves_in_place_of_the_amz_one(date: str) -> None:
    assert outcome_of(sign_by_date(date)) == "verified"


def test_a_broken_date_header_is_denied() -> None:
    assert outcome_of(sign_by_date("yesterday")) == "AccessDenied"


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [
        (-901, "RequestTimeTooSkewed"),
        (-899, "verified"),
        (0, "verified"),
        (899, "verified"),
        (901, "RequestTimeTooSkewed"),
    ],
)
def test_fifteen_minutes_of_skew_are_admitted(seconds: int, outcome: str) -> None:
    assert outcome_of(GOOD, now=NOW + timedelta(seconds=seconds)) == outcome


@pytest.mark.parametrize("name", ["authorization", "x-amz-date", "x-amz-content-sha256", "host"])
def test_a_repeated_header_of_the_claim_is_refused(name: str) -> None:
    value = GOOD.find_header(name.encode())
    assert value is not None

    assert outcome_of(with_header(GOOD, name, value.decode())) == "InvalidArgument"


def test_a_missing_payload_hash_is_refused() -> None:
    assert outcome_of(sign(make_head(), payload=None)) == "InvalidRequest"


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        ("UNSIGNED-PAYLOAD", "verified"),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "verified"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "verified"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "verified"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", "NotImplemented"),
        ("A" * 64, "verified"),
        ("a" * 63, "InvalidArgument"),
        ("g" * 64, "InvalidArgument"),
        ("", "InvalidArgument"),
        ("unsigned-payload", "InvalidArgument"),
        ("STREAMING-ANYTHING", "InvalidArgument"),
    ],
)
def test_the_payload_text_must_be_known(payload: str, outcome: str) -> None:
    assert outcome_of(sign(make_head(), payload=payload)) == outcome


@pytest.mark.parametrize(
    "payload",
    [
        "UNSIGNED-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ],
)
def test_no_payload_mode_skips_the_signature(payload: str) -> None:
    head = sign(make_head("PUT"), payload=payload, secret="forged")

    assert outcome_of(head) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("signature", ["0", "z" * 64, "0" * 63, "0" * 65, "Ä" * 64])
def test_a_signature_that_is_no_hash_does_not_match(signature: str) -> None:
    text = re.sub(r"Signature=.*", f"Signature={signature}", authorization_of(GOOD))

    assert outcome_of(with_authorization(text)) == "SignatureDoesNotMatch"


def test_session_tokens_are_refused_and_empty_ones_ignored() -> None:
    def token(value: str) -> RequestHead:
        return sign(make_head(headers=[("x-amz-security-token", value)]))

    assert outcome_of(token("IQoJb3JpZ2luX2Vj")) == "InvalidToken"
    assert outcome_of(token("")) == "verified"


def test_a_replayed_request_gives_the_same_answer_until_it_is_too_old() -> None:
    later = NOW + timedelta(minutes=14)

    assert [outcome_of(GOOD, now=when) for when in (NOW, later)] == ["verified"] * 2
    assert outcome_of(GOOD, now=NOW + timedelta(minutes=16)) == "RequestTimeTooSkewed"


def test_the_signing_key_depends_on_secret_day_and_region() -> None:
    keys = {
        derive_signing_key(secret, date=date, region=region)
        for secret in ("a", "b")
        for date in ("20261120", "20261121")
        for region in ("us-east-1", "eu-west-1")
    }

    assert len(keys) == 8


def test_signatures_are_compared_in_constant_time_only() -> None:
    folder = Path(appliance.s3.__file__).parent
    sources = {name: (folder / name).read_text() for name in ("sigv4.py", "aws_chunked.py")}

    for source in sources.values():
        assert source.count("hmac.compare_digest(") == 1
        assert not re.search(r"(signature|expected|presented)\w* [!=]= ", source)
