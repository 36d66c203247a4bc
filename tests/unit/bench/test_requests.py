"""Requests that are signed before the clock runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.client.raw import Credentials, RawRequest, Signing, presign
from tools.bench.records import Body
from tools.bench.requests import EXPIRES_S, PreparedRequest, Presigner, prepare_put, write_list

CREDENTIALS = Credentials(access_key_id="AKEXAMPLE", secret_access_key="not a secret")
HOST = "127.0.0.1:9000"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def parts(target: str) -> tuple[str, frozenset[str]]:
    path, _, query = target.partition("?")
    return path, frozenset(query.split("&"))


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/bench/r/00000001", {}),
        ("PUT", "/bench/w1/00000002", {}),
        ("GET", "/bench", {"list-type": "2", "max-keys": "1000", "start-after": "00/01.dat"}),
    ],
)
def test_presigned_urls_are_those_of_the_client_tests(
    method: str, path: str, query: dict[str, str]
) -> None:
    found = Presigner(CREDENTIALS, HOST, now=NOW).presign(method, path, query=query)
    text = "&".join(f"{name}={value.replace('/', '%2F')}" for name, value in query.items())
    bare = RawRequest(method=method, path=path, query=text, headers=(("host", HOST),))
    expected = presign(bare, CREDENTIALS, Signing(now=NOW), expires=str(EXPIRES_S))

    assert parts(found.target) == parts(expected.target)


def test_headers_beside_the_signature_are_sent() -> None:
    found = Presigner(CREDENTIALS, HOST, now=NOW).presign(
        "GET", "/bench/r/0", headers=(("Range", "bytes=0-65535"),)
    )

    assert found.headers == (("Host", HOST), ("Range", "bytes=0-65535"))


@pytest.mark.parametrize("kind", Body)
def test_bodies_are_on_file_as_they_go_on_the_wire(kind: Body, tmp_path: Path) -> None:
    payload = bytes(range(256)) * 600
    request = prepare_put(
        kind,
        "/bench/w/0",
        payload,
        credentials=CREDENTIALS,
        host=HOST,
        body_file=tmp_path / "body",
    )

    sent = (tmp_path / "body").read_bytes()
    is_chunked = kind in {Body.CHUNKS_SIGNED, Body.CHUNKS_TRAILER}
    assert request.body == tmp_path / "body"
    assert (sent == payload) is not is_chunked
    assert len(sent) >= len(payload)
    named = {name.lower() for name, _ in request.headers}
    assert ("authorization" in named) is not kind.is_presigned


def test_a_list_has_one_request_a_line(tmp_path: Path) -> None:
    request = PreparedRequest(method="GET", target="/a?b=c", headers=(("Host", HOST),))
    put = replace(request, method="PUT", body=Path("/body"))
    write_list(tmp_path / "list", [request, put])

    assert (tmp_path / "list").read_text() == (
        f"GET\t/a?b=c\t-\tHost: {HOST}\nPUT\t/a?b=c\t/body\tHost: {HOST}\n"
    )
