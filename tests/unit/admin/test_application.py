"""The door itself: routing, bodies, the token, errors, the description."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypercorn.typing import ConnectionState

from appliance.admin.application import BODY_BYTES_MAX, AdminApplication
from appliance.admin.errors import FAULTS, AdminRefused, describe_fault
from appliance.admin.resources import ROUTES
from appliance.catalog import errors as catalog_errors
from hal import errors as hal_errors
from tenants import errors as tenant_errors
from tests.admin_harness import TOKEN, open_client

if TYPE_CHECKING:
    from types import ModuleType

    from hypercorn.typing import (
        ASGISendEvent,
        HTTPDisconnectEvent,
        HTTPRequestEvent,
        HTTPScope,
    )

    from tests.admin_harness import AdminDesk

# Nothing of this API works on versions, uploads or conditions.
OBJECT_ERRORS = {
    "ConditionFailed",
    "ConditionMissing",
    "PartInvalid",
    "PartOrderInvalid",
    "PartTooSmall",
    "UploadMissing",
    "VersionMissing",
}


POST_TENANTS: HTTPScope = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/tenants",
    "raw_path": b"/v1/tenants",
    "query_string": b"",
    "root_path": "",
    "headers": [],
    "client": None,
    "server": None,
    "state": ConnectionState({}),
    "extensions": {},
}


def leaves(module: ModuleType) -> list[type[Exception]]:
    kinds = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]
    return [kind for kind in kinds if not kind.__subclasses__()]


@pytest.mark.parametrize(
    "kind",
    [*leaves(tenant_errors), *leaves(catalog_errors), *leaves(hal_errors)],
    ids=lambda kind: kind.__name__,
)
def test_every_error_of_the_layers_below_has_an_answer(kind: type[Exception]) -> None:
    if kind.__name__ in OBJECT_ERRORS:
        return

    assert any(base in FAULTS for base in kind.__mro__), kind


def test_an_error_nobody_expected_has_no_description() -> None:
    assert describe_fault(RuntimeError("boom")) is None


async def test_a_path_that_does_not_exist_is_not_found(desk: AdminDesk) -> None:
    code, _ = await desk.refuse("GET", "/v1/nothing", status=404)

    assert code == "NoSuchPath"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v2/tenants", "//v1/tenants"])
async def test_only_whole_paths_match(desk: AdminDesk, path: str) -> None:
    code, _ = await desk.refuse("GET", f"http://admin{path}", status=404)

    assert code == "NoSuchPath"


async def test_another_method_is_named(desk: AdminDesk) -> None:
    code, message = await desk.refuse("PUT", "/v1/tenants/demo", status=405)

    assert code == "MethodNotAllowed"
    assert message == "this path takes DELETE, GET"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("colour=red", "unknown parameter 'colour'"),
        ("after=a&after=b", "parameter 'after' is given twice"),
        ("after", "the query is not well-formed"),
        ("after=%FF", "the query is not well-formed"),
        ("&".join(f"p{n}=1" for n in range(17)), "the query is not well-formed"),
    ],
)
async def test_a_query_that_is_not_described_is_refused(
    desk: AdminDesk, query: str, why: str
) -> None:
    code, message = await desk.refuse("GET", f"/v1/tenants?{query}", status=400)

    assert (code, message) == ("RequestInvalid", why)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "body: Invalid JSON"),
        (b"{", "body: Invalid JSON"),
        (b"[]", "body: Input should be"),
        (b"null", "body: Input should be"),
        (b'{"name": 5}', "name: Input should be a valid string"),
        (b'{"name": "a", "colour": 1}', "colour: Unexpected keyword argument"),
        (b"{}", "name: Field required"),
        (b'{"name": "\\ud800"}', "body: Invalid JSON"),
        (b"\xff\xfe", "body: Invalid JSON"),
        (b'{"name": "a", "quota": {"bytes_max": 0}}', "quota.bytes_max: Input should be"),
        (b'{"name": "a", "quota": {"bytes_max": -5}}', "quota.bytes_max: Input should be"),
        (b'{"name": "a", "quota": {"bytes_max": 1.5}}', "quota.bytes_max: Input should be"),
        (b'{"name": "a", "quota": {"bytes_max": true}}', "quota.bytes_max: Input should be"),
        (b'{"name": "a", "quota": {"bytes_max": "1"}}', "quota.bytes_max: Input should be"),
        (b'{"name": "a", "quota": {"bytes_max": 9223372036854775808}}', "quota.bytes_max: "),
        (b'{"name": "' + b"n" * 1025 + b'"}', "name: String should have at most 1024"),
        (b"[" * 100_000, "body: "),
    ],
)
async def test_a_malformed_body_is_refused_with_its_field(
    desk: AdminDesk, content: bytes, why: str
) -> None:
    answer = await desk.client.post("/v1/tenants", content=content)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "RequestInvalid")
    assert error["message"].startswith(why), error["message"]
    assert desk.keyring.invalidations == 0


async def test_a_body_where_none_is_taken_is_refused(desk: AdminDesk) -> None:
    code, message = await desk.refuse("POST", "/v1/catalog/check", {"a": 1}, status=400)

    assert (code, message) == ("RequestInvalid", "this request takes no body")


async def test_a_body_above_the_bound_is_refused(desk: AdminDesk) -> None:
    answer = await desk.client.post("/v1/tenants", content=b" " * (BODY_BYTES_MAX + 1))

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "BodyTooLarge"


async def test_a_body_without_a_length_is_bounded_as_well(desk: AdminDesk) -> None:
    piece: HTTPRequestEvent = {
        "type": "http.request",
        "body": b" " * 65_536,
        "more_body": True,
    }
    given = 0
    sent: list[ASGISendEvent] = []

    async def receive() -> HTTPRequestEvent:
        nonlocal given
        given += len(piece["body"])
        return piece

    async def send(event: ASGISendEvent) -> None:
        sent.append(event)

    await AdminApplication(desk.state)(POST_TENANTS, receive, send)

    assert sent[0]["type"] == "http.response.start"
    assert sent[0]["status"] == 413
    assert given <= BODY_BYTES_MAX + len(piece["body"])


async def test_a_client_that_goes_away_gets_no_answer_and_changes_nothing(desk: AdminDesk) -> None:
    events: list[HTTPRequestEvent | HTTPDisconnectEvent] = [
        {"type": "http.request", "body": b'{"name": "half"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[ASGISendEvent] = []

    async def receive() -> HTTPRequestEvent | HTTPDisconnectEvent:
        return events.pop(0)

    async def send(event: ASGISendEvent) -> None:
        sent.append(event)

    await AdminApplication(desk.state)(POST_TENANTS, receive, send)

    assert sent == []
    assert (await desk.call("GET", "/v1/tenants"))["tenants"] == []


async def test_a_secret_in_a_malformed_body_is_not_repeated(desk: AdminDesk) -> None:
    secret = "Canary7Secret5That3Nobody1May8See"
    body = {"access_key_id": 5, "secret_access_key": secret, "extra": secret}

    answer = await desk.client.post("/v1/tenants/demo/keys/import", json=body)

    assert answer.status_code == 400
    assert secret not in answer.text


async def test_a_name_is_one_segment_however_it_is_written(desk: AdminDesk) -> None:
    code, message = await desk.refuse("GET", "/v1/tenants/a%2Fb", status=404)

    assert code == "NoSuchTenant"
    assert "'a/b'" in message


async def test_a_path_that_is_no_text_is_refused(desk: AdminDesk) -> None:
    code, _ = await desk.refuse("GET", "/v1/tenants/%FF", status=400)

    assert code == "RequestInvalid"


class Secretive(Exception):
    """Its text must not leave the server."""


async def test_an_unexpected_error_says_nothing_of_the_inside(desk: AdminDesk) -> None:
    async def fail() -> NoReturn:
        raise Secretive("password=hunter2")

    state = replace(desk.state, list_volume_facts=fail)
    async with open_client(AdminApplication(state)) as client:
        answer = await client.get("/v1/volumes")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "InternalError"
    assert "hunter2" not in answer.text


async def test_a_failed_volume_is_not_an_internal_error(desk: AdminDesk) -> None:
    async def fail() -> NoReturn:
        raise hal_errors.DeviceFailed("/srv/ssd", "input/output error")

    state = replace(desk.state, list_volume_facts=fail)
    async with open_client(AdminApplication(state)) as client:
        answer = await client.get("/v1/volumes")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "VolumeFailed")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": ""}, 403),
        ({"authorization": "Bearer"}, 403),
        ({"authorization": "Bearer "}, 403),
        ({"authorization": TOKEN}, 403),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 403),
        ({"authorization": f"Bearer {TOKEN}x"}, 403),
        ({"authorization": f"bearer {TOKEN}"}, 403),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=TCX/20261121/us-east-1/s3/x"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/v1/tenants", "/v1/openapi.json", "/v1/nothing"])
async def test_without_the_token_no_path_answers_over_tcp(
    desk: AdminDesk, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await desk.remote.get(path, headers=headers)

    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


async def test_two_authorization_headers_are_refused(desk: AdminDesk) -> None:
    right = ("authorization", f"Bearer {TOKEN}")

    answer = await desk.remote.get("/v1/tenants", headers=[right, right])

    assert answer.status_code == 403


async def test_the_token_opens_every_path_over_tcp(desk: AdminDesk) -> None:
    answer = await desk.remote.get("/v1/tenants", headers={"authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 200


async def test_a_change_over_tcp_names_the_address_in_the_audit(desk: AdminDesk) -> None:
    await desk.remote.post(
        "/v1/tenants", json={"name": "far"}, headers={"authorization": f"Bearer {TOKEN}"}
    )

    entries = (await desk.call("GET", "/v1/audit"))["entries"]

    assert isinstance(entries, list)
    assert entries[0]["actor"] == "tcp:127.0.0.1"


async def test_every_answer_forbids_caching(desk: AdminDesk) -> None:
    answer = await desk.client.get("/v1/status")

    assert answer.headers["cache-control"] == "no-store"


async def test_the_description_covers_every_route(desk: AdminDesk) -> None:
    document = await desk.call("GET", "/v1/openapi.json")

    paths = document["paths"]
    assert isinstance(paths, dict)
    described = {
        (method.upper(), path) for path, operations in paths.items() for method in operations
    }
    assert described == {(route.method, route.template) for route in ROUTES}


async def test_every_reference_of_the_description_leads_somewhere(desk: AdminDesk) -> None:
    document = await desk.call("GET", "/v1/openapi.json")

    components = document["components"]
    assert isinstance(components, dict)
    text = json.dumps(document)
    references = {piece.split('"')[0] for piece in text.split("#/components/schemas/")[1:]}
    assert references <= set(components["schemas"])


def test_a_refusal_carries_its_own_fields() -> None:
    refusal = AdminRefused("Code", "why", status=next(iter(FAULTS.values()))[0], fields=("a: b",))

    described = describe_fault(refusal)

    assert described is not None
    assert described[1].fields == ("a: b",)
