"""Presigned claims: what is refused, and with which code (rows 26 to 34)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.presigned import EXPIRES_S_MAX
from appliance.s3.sigv4 import AuthKind, parse_claim
from tests.unit.s3.signer import (
    EMPTY_SHA256,
    NOW,
    REGION,
    authenticate,
    make_head,
    outcome_of,
    presign,
    sign,
)

if TYPE_CHECKING:
    from appliance.s3.messages import RequestHead

GOOD = presign(make_head())
MALFORMED = "AuthorizationQueryParametersError"


def with_query(head: RequestHead, old: bytes, new: bytes) -> RequestHead:
    assert old in head.raw_query
    return replace(head, raw_query=head.raw_query.replace(old, new))


def test_a_presigned_request_is_verified() -> None:
    claim = authenticate(GOOD).claim

    assert claim.kind is AuthKind.PRESIGNED
    assert claim.expires_s == 900
    assert claim.payload_sha256 == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("expires", ["0", "-1", "604801", "abc", "1e3", "", " 1", "+1", "1.0"])
def test_an_impossible_expiry_is_refused(expires: str) -> None:
    assert outcome_of(presign(make_head(), expires=expires)) == MALFORMED


@pytest.mark.parametrize("expires", ["1", "0900", str(EXPIRES_S_MAX)])
def test_an_expiry_up_to_seven_days_is_admitted(expires: str) -> None:
    assert outcome_of(presign(make_head(), expires=expires)) == "verified"


@pytest.mark.parametrize(
    "name",
    [
        b"X-Amz-Algorithm",
        b"X-Amz-Credential",
        b"X-Amz-Date",
        b"X-Amz-Expires",
        b"X-Amz-SignedHeaders",
        b"X-Amz-Signature",
    ],
)
def test_every_parameter_must_be_there_exactly_once(name: bytes) -> None:
    pairs = GOOD.raw_query.split(b"&")
    without = [pair for pair in pairs if not pair.startswith(name + b"=")]
    (found,) = set(pairs) - set(without)

    assert outcome_of(replace(GOOD, raw_query=b"&".join(without))) == MALFORMED
    assert outcome_of(replace(GOOD, raw_query=b"&".join([*pairs, found]))) == MALFORMED
    escaped = b"%58" + found[1:]
    assert outcome_of(replace(GOOD, raw_query=b"&".join([*pairs, escaped]))) == MALFORMED


@pytest.mark.parametrize(
    "query", ["x-amz-signature=1", "X-Amz-Credential", "X%2DAmz-Algorithm=a", "X-AMZ-SIGNATURE="]
)
def test_any_sign_of_a_claim_makes_the_query_one(query: str) -> None:
    assert outcome_of(make_head(target=f"/bucket/key?{query}")) == MALFORMED


@pytest.mark.parametrize("algorithm", ["AWS4-HMAC-SHA512", "AWS4-ECDSA-P256-SHA256", "none"])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    assert outcome_of(presign(make_head(), algorithm=algorithm)) == MALFORMED


@pytest.mark.parametrize(
    "scope",
    [
        "20261119/us-east-1/s3/aws4_request",
        "20261120/eu-west-1/s3/aws4_request",
        "20261120/us-east-1/sts/aws4_request",
        "20261120/us-east-1/s3/aws5_request",
    ],
)
def test_a_scope_of_another_day_region_or_service_is_refused(scope: str) -> None:
    assert outcome_of(presign(make_head(), scope=scope)) == MALFORMED


def test_a_wrong_region_is_told_the_right_one() -> None:
    head = presign(make_head(), scope="20261120/eu-west-1/s3/aws4_request")

    with pytest.raises(S3Error) as caught:
        parse_claim(head, region=REGION, now=NOW)

    assert caught.value.elements == {"Region": "us-east-1"}


@pytest.mark.parametrize("stamp", ["2026-11-20", "20261320T120000Z", "20261120T120000z"])
def test_a_broken_date_is_refused(stamp: str) -> None:
    assert outcome_of(presign(make_head(), stamp=stamp)) == MALFORMED


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [(-961, "AccessDenied"), (-900, "verified"), (900, "verified"), (901, "AccessDenied")],
)
def test_a_claim_holds_from_its_date_until_it_expires(seconds: int, outcome: str) -> None:
    assert outcome_of(GOOD, now=NOW + timedelta(seconds=seconds)) == outcome


def test_an_expired_request_is_told_when() -> None:
    with pytest.raises(S3Error) as caught:
        parse_claim(GOOD, region=REGION, now=NOW + timedelta(seconds=901))

    assert caught.value.message == "Request has expired"
    assert caught.value.elements == {
        "X-Amz-Expires": "900",
        "Expires": "2026-11-20T12:15:00Z",
        "ServerTime": "2026-11-20T12:15:01Z",
    }


def test_the_last_day_of_the_calendar_is_no_error_of_ours() -> None:
    head = presign(
        make_head(), stamp="99991231T235959Z", scope="99991231/us-east-1/s3/aws4_request"
    )

    assert outcome_of(head) == "AccessDenied"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "HEAD"])
def test_a_claim_for_get_serves_no_other_method(method: str) -> None:
    assert outcome_of(replace(GOOD, method=method)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("host", [b"other.example.test", b"s3.example.test:9000"])
def test_a_claim_for_one_host_serves_no_other(host: bytes) -> None:
    assert outcome_of(replace(GOOD, headers=((b"host", host),))) == "SignatureDoesNotMatch"


def test_a_claim_for_one_key_serves_no_other() -> None:
    assert outcome_of(replace(GOOD, raw_path=b"/bucket/other")) == "SignatureDoesNotMatch"


def test_an_added_parameter_breaks_the_signature() -> None:
    added = replace(GOOD, raw_query=GOOD.raw_query + b"&versionId=1")

    assert outcome_of(added) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-copy-source",
        "x-amz-tagging",
        "x-amz-acl",
        "x-amz-meta-a",
        "x-amz-storage-class",
        "x-amz-object-lock-mode",
        "x-amz-content-sha256",
        "x-amz-decoded-content-length",
    ],
)
def test_an_unsigned_amz_header_is_refused(name: str) -> None:
    good = presign(make_head("PUT"))
    head = replace(good, headers=(*good.headers, (name.encode(), b"/other/secret")))

    with pytest.raises(S3Error) as caught:
        parse_claim(head, region=REGION, now=NOW)

    assert caught.value.code is S3Code.ACCESS_DENIED
    assert caught.value.elements == {"HeadersNotSigned": name}


def test_an_unsigned_host_is_refused() -> None:
    head = presign(make_head(headers=[("range", "bytes=0-1")]), unsigned=("host",))

    assert outcome_of(head) == "AccessDenied"


def test_a_signed_amz_header_is_admitted() -> None:
    head = presign(make_head("PUT", headers=[("x-amz-meta-a", "1")]))

    assert outcome_of(head) == "verified"


def test_the_payload_text_may_come_in_the_query_or_a_signed_header() -> None:
    in_query = presign(
        make_head("PUT"), payload=EMPTY_SHA256, extra=[("X-Amz-Content-Sha256", EMPTY_SHA256)]
    )
    in_header = presign(
        make_head("PUT", headers=[("x-amz-content-sha256", EMPTY_SHA256)]), payload=EMPTY_SHA256
    )

    for head in (in_query, in_header):
        assert authenticate(head).claim.payload_sha256 == EMPTY_SHA256


def test_two_payload_texts_must_agree() -> None:
    head = presign(
        make_head("PUT", headers=[("x-amz-content-sha256", EMPTY_SHA256)]),
        payload=EMPTY_SHA256,
        extra=[("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")],
    )

    assert outcome_of(head) == MALFORMED


def test_an_unknown_payload_text_is_refused() -> None:
    head = presign(make_head("PUT"), extra=[("X-Amz-Content-Sha256", "STREAMING-X")])

    assert outcome_of(head) == "InvalidArgument"


def test_session_tokens_are_refused() -> None:
    head = presign(make_head(), extra=[("X-Amz-Security-Token", "IQoJb3JpZ2luX2Vj")])

    assert outcome_of(head) == "InvalidToken"


@pytest.mark.parametrize(
    "query",
    ["AWSAccessKeyId=AK&Signature=s&Expires=1", "AWSAccessKeyId=AK", "Signature=s", "Signature"],
)
def test_a_version_2_claim_in_the_query_is_refused(query: str) -> None:
    assert outcome_of(make_head(target=f"/bucket/key?{query}")) == "InvalidRequest"


def test_a_claim_in_header_and_query_at_once_is_refused() -> None:
    signed = sign(make_head())
    both = replace(GOOD, headers=signed.headers)

    assert outcome_of(both) == "InvalidArgument"


def test_bytes_beyond_ascii_in_a_parameter_are_refused_and_not_raised() -> None:
    for old in (b"X-Amz-Expires=900", b"X-Amz-Date=2026", b"X-Amz-SignedHeaders=host"):
        assert outcome_of(with_query(GOOD, old, old + b"%C3%A9")) == MALFORMED
    odd = with_query(GOOD, b"X-Amz-Signature=", b"X-Amz-Signature=%C3%A9")
    assert outcome_of(odd) == "SignatureDoesNotMatch"
