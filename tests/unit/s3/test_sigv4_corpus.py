"""The canonicalisation corpus: requests that botocore signs, then each with one byte changed."""

from __future__ import annotations

import itertools
import unicodedata
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from appliance.s3.messages import RequestHead
from tests.unit.s3.signer import ACCESS_KEY, NOW, REGION, SECRET, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A target to sign and, where the client spells it otherwise on the wire, that spelling."""

    name: str
    method: str = "GET"
    signed_target: str = "/bucket/key"
    wire_target: str | None = None
    headers: Pairs = field(default=())


NFC = unicodedata.normalize("NFC", "é").encode()
NFD = unicodedata.normalize("NFD", "é").encode()


def quoted(data: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in data)


# As clients quote them, each byte once; and the same key as others put it on the wire.
SEGMENTS: dict[str, tuple[str, ...]] = {
    "plain": ("key",),
    "space": ("a%20b",),
    "plus": ("a%2Bb", "a+b", "a%2bb"),
    "tilde": ("a~b", "a%7Eb", "a%7eb"),
    "dot": ("a.b",),
    "dot segments": ("a/./b/../c",),
    "escaped dots": ("a/%2E%2E/b", "a/../b"),
    "double slash": ("a//b",),
    "leading slash": ("/a",),
    "trailing slash": ("a/",),
    "escaped slash": ("a%2Fb", "a%2fb"),
    "nfc": (quoted(NFC), quoted(NFC).lower()),
    "nfd": ("e" + quoted(NFD[1:]), quoted(NFD).lower()),
    "emoji": (quoted("🧊".encode()), quoted("🧊".encode()).lower()),
    "brackets": ("a%28b%29", "a(b)"),
    "quotes": ("it%27s%22", "it's%22"),
    "exclamation": ("a%21b%2A", "a!b*"),
    "at and colon": ("a%40b%3Ac", "a@b:c"),
    "dollar and amp": ("a%24b%26c", "a$b&c"),
    "comma semicolon equals": ("a%2Cb%3Bc%3Dd", "a,b;c=d"),
    "percent": ("100%25", "100%25"),
    "escaped escape": ("a%252Fb",),
    "question and hash": ("a%3Fb%23c",),
    "backslash pipe caret": ("a%5Cb%7Cc%5Ed",),
    "underscore hyphen": ("a_b-c",),
    "control": ("a%01b%7F",),
    "backtick braces": ("%60%7Bx%7D",),
    "digits": ("0123456789",),
    "capital": ("KEY",),
}

QUERIES: dict[str, tuple[str, ...]] = {
    "subresource": ("acl",),
    "empty value": ("acl=",),
    "sorted": ("list-type=2&prefix=a",),
    "unsorted": ("prefix=a&list-type=2&delimiter=x",),
    "repeated name": ("a=2&a=1&a=",),
    "name is a prefix": ("a-b=1&a=2",),
    "capital names": ("B=1&a=2&A=3",),
    "space": ("prefix=a%20b", "prefix=a+b"),
    "plus": ("prefix=a%2Bb", "prefix=a%2bb"),
    "slash": ("prefix=a%2Fb%2F", "prefix=a/b/"),
    "tilde": ("prefix=a~b", "prefix=a%7Eb"),
    "nfc": (f"prefix={quoted(NFC)}", f"prefix={quoted(NFC).lower()}"),
    "nfd": (f"prefix=e{quoted(NFD[1:])}", f"prefix={quoted(NFD).lower()}"),
    "equals in value": ("prefix=a%3Db", "prefix=a=b"),
    "amp in value": ("prefix=a%26b",),
    "star and brackets": ("prefix=%2A%28%29%21%27", "prefix=*()!'"),
    "encoded name": ("response-content-type=text%2Fplain&x%20y=1",),
    "colon and comma": ("versionId=a%3Ab%2Cc", "versionId=a:b,c"),
    "upload": ("partNumber=1&uploadId=2~abc",),
}

HEADERS: dict[str, Pairs] = {
    "double spaces": (("x-amz-meta-a", "one  two   three"),),
    "tabs": (("x-amz-meta-a", "one\ttwo"),),
    "mixed white space": (("x-amz-meta-a", "one \t two"),),
    "surrounding space": (("x-amz-meta-a", "  one  "),),
    "empty value": (("x-amz-meta-a", ""),),
    "repeated header": (("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")),
    "repeated with spaces": (("x-amz-meta-a", " 1  1 "), ("x-amz-meta-a", "2")),
    "comma": (("x-amz-meta-a", "1, 2,3"),),
    "colon": (("x-amz-meta-a", "a:b"),),
    "quotes": (("x-amz-meta-a", '"a  b"'),),
    "capital name": (("X-Amz-Meta-A", "v"),),
    "many": tuple((f"x-amz-meta-{n}", str(n)) for n in range(20)),
    "prefix names": (("x-amz-meta-a-b", "1"), ("x-amz-meta-a", "2")),
    "range": (("range", "bytes=0-9"),),
    "content type": (("content-type", "text/plain; charset=utf-8"),),
    "storage class": (("x-amz-storage-class", "STANDARD"),),
    "copy source": (("x-amz-copy-source", "/bucket/a%20b+c"),),
    "md5": (("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),),
    "conditions": (("if-match", '"abc"'), ("if-none-match", "*")),
    "date": (("date", "placed by the signer"),),
}


def each_case() -> Iterator[Case]:
    for name, (signed, *others) in SEGMENTS.items():
        for method in ("GET", "PUT"):
            yield Case(name=f"path {name}", method=method, signed_target=f"/bucket/{signed}")
        for other in others:
            # Either sort of signer: of the meaning, and of the bytes as sent.
            target = f"/bucket/{other}"
            yield Case(
                name=f"path {name}", signed_target=f"/bucket/{meaning(signed)}", wire_target=target
            )
            yield Case(name=f"path {name} as sent", signed_target=target)
    for name, (signed, *others) in QUERIES.items():
        yield Case(name=f"query {name}", signed_target=f"/bucket?{signed}")
        yield Case(name=f"root query {name}", signed_target=f"/?{signed}", method="HEAD")
        for other in others:
            target = f"/bucket?{other}"
            yield Case(name=f"query {name}", signed_target=f"/bucket?{signed}", wire_target=target)
            yield Case(name=f"query {name} as sent", signed_target=target)
    for name, headers in HEADERS.items():
        yield Case(name=f"header {name}", headers=headers, method="PUT")
    both = itertools.product(
        ("space", "plus", "nfd", "brackets", "double slash", "dot segments"),
        ("unsorted", "space", "slash", "empty value", "repeated name", "tilde"),
    )
    for segment, query in both:
        target = f"/bucket/{SEGMENTS[segment][-1]}?{QUERIES[query][-1]}"
        yield Case(name=f"path {segment}, query {query}", signed_target=target)


def meaning(segment: str) -> str:
    """The one true spelling; an escaped slash or dot means the bare one."""
    return segment.replace("%2F", "/").replace("%2E", ".")


CASES = list(each_case())
# botocore's presigner keeps one value of a name only.
PRESIGNABLE = [case for case in CASES if "repeated name" not in case.name]


def identify(cases: list[Case]) -> list[str]:
    return [f"{number}: {case.name}" for number, case in enumerate(cases)]


@pytest.fixture(autouse=True)
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def frozen(remove_tzinfo: bool = True) -> datetime:
        return NOW.replace(tzinfo=None if remove_tzinfo else UTC)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", frozen)


def head_of(request: AWSRequest, case: Case) -> RequestHead:
    """What an HTTP client makes of a signed request."""
    assert isinstance(request.url, str)
    parts = urlsplit(request.url)
    path, query = parts.path, parts.query
    if case.wire_target is not None:
        signed_query = case.signed_target.partition("?")[2]
        path, _, wire_query = case.wire_target.partition("?")
        query = query.replace(signed_query, wire_query, 1) if signed_query else query
    headers = [("host", parts.netloc), *request.headers.items()]
    return RequestHead(
        method=str(request.method),
        raw_path=path.encode(),
        raw_query=query.encode(),
        headers=tuple(
            (name.lower().encode(), value.strip().encode("latin-1")) for name, value in headers
        ),
    )


def request_of(case: Case) -> AWSRequest:
    request = AWSRequest(
        method=case.method, url=f"http://s3.example.test:9000{case.signed_target}", data=b""
    )
    for name, value in case.headers:
        request.headers[name] = value
    return request


def signed_by_header(case: Case) -> RequestHead:
    request = request_of(case)
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET), "s3", REGION).add_auth(request)
    return head_of(request, case)


def signed_by_query(case: Case) -> RequestHead:
    request = request_of(case)
    if "date" in request.headers:
        del request.headers["date"]
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET), "s3", REGION, expires=60).add_auth(request)
    return head_of(request, replace(case, headers=()))


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def tampered(head: RequestHead) -> Iterator[RequestHead]:
    """The request with one byte changed in each thing that a signature covers."""
    yield replace(head, raw_path=head.raw_path + b"x")
    yield replace(head, raw_path=flipped(head.raw_path, len(head.raw_path) - 1))
    yield replace(head, method=head.method + "S")
    yield replace(head, raw_query=b"&".join(filter(None, (head.raw_query, b"tampered"))))
    name, value = head.headers[0]
    yield replace(head, headers=((name, flipped(value, 0)), *head.headers[1:]))
    for number, (name, value) in enumerate(head.headers):
        if name.startswith(b"x-amz-meta-"):
            changed = (*head.headers[:number], (name, value + b"x"), *head.headers[number + 1 :])
            yield replace(head, headers=changed)
        if name == b"authorization":
            changed = (*head.headers[:number], (name, flipped(value, len(value) - 1)))
            yield replace(head, headers=(*changed, *head.headers[number + 1 :]))


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=identify(CASES))
def test_a_header_signature_of_botocore_verifies_until_a_byte_changes(case: Case) -> None:
    head = signed_by_header(case)

    assert outcome_of(head) == "verified"
    for changed in tampered(head):
        assert outcome_of(changed) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("case", PRESIGNABLE, ids=identify(PRESIGNABLE))
def test_a_presigned_url_of_botocore_verifies_until_a_byte_changes(case: Case) -> None:
    head = signed_by_query(case)

    assert outcome_of(head) == "verified"
    for changed in tampered(head):
        assert outcome_of(changed) == "SignatureDoesNotMatch"
    last = len(head.raw_query) - 1
    forged = replace(head, raw_query=flipped(head.raw_query, last))
    assert outcome_of(forged) == "SignatureDoesNotMatch"
