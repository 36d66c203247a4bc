"""Listen addresses: what is understood, what may go without TLS, who may connect."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from appliance.http.errors import ListenAddressInvalid, ListenAddressTaken, PlainHttpRefused
from appliance.http.listeners import (
    BoundAddress,
    ListenAddress,
    UnixAddress,
    check_plain_http_allowed,
    open_tcp_sockets,
    open_unix_socket,
    parse_listen_address,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:9000", "::1", 9000),
        ("[::]:65535", "::", 65535),
        ("localhost:80", "localhost", 80),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    address = parse_listen_address(text)

    assert address == ListenAddress(host=host, port=port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "9000", ":9000", "host", "host:", "::1:9000", "a:65536", "a:-1", "a b:1", "a:1\n"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ListenAddressInvalid):
        parse_listen_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_plain_http_is_for_loopback(text: str) -> None:
    check_plain_http_allowed(parse_listen_address(text), is_allowed=False)


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "s3.test:1"])
def test_plain_http_elsewhere_needs_leave(text: str) -> None:
    with pytest.raises(PlainHttpRefused):
        check_plain_http_allowed(parse_listen_address(text), is_allowed=False)

    check_plain_http_allowed(parse_listen_address(text), is_allowed=True)


def test_a_bound_address_has_a_url() -> None:
    assert BoundAddress(host="::1", port=9, is_secure=True).url == "https://[::1]:9"
    assert BoundAddress(host="127.0.0.1", port=9, is_secure=False).url == "http://127.0.0.1:9"


async def test_a_taken_port_is_said_to_be_taken() -> None:
    (opened,) = await open_tcp_sockets(ListenAddress(host="127.0.0.1", port=0), backlog=1)
    with opened, pytest.raises(ListenAddressTaken):
        await open_tcp_sockets(
            ListenAddress(host="127.0.0.1", port=opened.getsockname()[1]), backlog=1
        )


async def test_processes_may_share_a_port_where_asked() -> None:
    (first,) = await open_tcp_sockets(
        ListenAddress(host="127.0.0.1", port=0), backlog=1, reuse_port=True
    )
    address = ListenAddress(host="127.0.0.1", port=first.getsockname()[1])
    (second,) = await open_tcp_sockets(address, backlog=1, reuse_port=True)

    with first, second:
        assert first.getsockname() == second.getsockname()


def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with open_unix_socket(UnixAddress(path=path), backlog=1):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dead_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    address = UnixAddress(path=tmp_path / "admin.sock")
    open_unix_socket(address, backlog=1).close()

    with open_unix_socket(address, backlog=1), pytest.raises(ListenAddressTaken):
        open_unix_socket(address, backlog=1)


def test_a_file_in_the_place_of_a_unix_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")

    with pytest.raises(ListenAddressTaken):
        open_unix_socket(UnixAddress(path=path), backlog=1)

    assert path.read_text() == "data"
