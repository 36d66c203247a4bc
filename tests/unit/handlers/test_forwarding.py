"""Forwarding headers count from trusted peers only."""

from __future__ import annotations

from ipaddress import ip_network

from appliance.handlers.forwarding import restore_client
from appliance.s3.messages import RequestHead

TRUSTED = [ip_network("10.0.0.0/8")]


def make_head(peer: str, *headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(
        method="GET",
        raw_path=b"/",
        raw_query=b"",
        headers=((b"host", b"inner:9000"), *headers),
        peer_address=peer,
    )


FORWARDED = (
    (b"x-forwarded-host", b"spoofed.example, s3.example"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-for", b"192.0.2.1, 203.0.113.9"),
)


def test_a_trusted_proxy_speaks_for_its_client() -> None:
    head = restore_client(make_head("10.1.2.3", *FORWARDED), TRUSTED)

    assert head.find_header(b"host") == b"s3.example"
    assert head.is_secure
    assert head.peer_address == "203.0.113.9"


def test_anybody_else_is_not_believed() -> None:
    head = make_head("192.0.2.7", *FORWARDED)

    assert restore_client(head, TRUSTED) is head
    assert restore_client(head, []) is head


def test_a_trusted_proxy_that_says_nothing_changes_nothing() -> None:
    head = make_head("10.1.2.3")

    assert restore_client(head, TRUSTED) == head


def test_a_peer_that_is_no_address_is_not_trusted() -> None:
    head = make_head("", *FORWARDED)

    assert restore_client(head, TRUSTED) is head
