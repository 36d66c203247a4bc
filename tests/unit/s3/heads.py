"""Request heads for tests of the wire code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.s3.addressing import parse_address
from appliance.s3.messages import RequestHead
from appliance.s3.router import route

if TYPE_CHECKING:
    from appliance.s3.operations import Operation


def make_head(
    method: str = "GET",
    target: bytes = b"/",
    *headers: tuple[bytes, bytes],
) -> RequestHead:
    raw_path, _, raw_query = target.partition(b"?")
    return RequestHead(method=method, raw_path=raw_path, raw_query=raw_query, headers=headers)


def route_request(
    method: str,
    target: bytes,
    *headers: tuple[bytes, bytes],
) -> Operation:
    head = make_head(method, target, *headers)
    return route(head, parse_address(head, domains=()))
