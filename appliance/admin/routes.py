"""What a route of the admin API is, how a request finds it, and what its handler is given. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import ValidationError

from appliance.admin.documents import decode_document
from appliance.admin.errors import AdminRefused

if TYPE_CHECKING:
    from appliance.admin.state import AdminState

__all__ = [
    "AFTER",
    "Call",
    "Handler",
    "Query",
    "Route",
    "find_route",
    "next_after",
    "parse_query",
]

QUERY_FIELDS_MAX = 16  # no route takes more than a few; bounds what parsing may cost

DocumentT = TypeVar("DocumentT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One parameter that a route takes after the question mark; all are optional text."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as its handler sees it.

    Attributes:
        path: Values of the braces in the route's template, percent-decoded.
        query: The parameters that were given.
        actor: Who asks, for the audit: `socket`, or `tcp:` and an address.
    """

    route: Route
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    actor: str

    def read_body(self, kind: type[DocumentT]) -> DocumentT:
        """The body as a `kind`, which must be what the route announces.

        Raises:
            AdminRefused: It is not JSON, lacks a field, has one too many, or breaks a bound. What
                was sent is not repeated: it may hold a secret.
        """
        assert kind is self.route.body, "the description and the handler must not disagree"
        try:
            return decode_document(kind, self.body)
        except ValidationError as error:
            raise _malformed(error) from None


AFTER = Query(name="after", summary="The `next_after` of the page before; absent for the first.")

Handler = Callable[["AdminState", Call], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One verb of one noun.

    Attributes:
        template: Path with names in braces, such as `/v1/tenants/{tenant}`.
        summary: One sentence for the OpenAPI description.
        result: Record that the handler returns.
        body: Record that a request must carry, None where it carries none.
        refusals: Codes of errors to be expected, for the description.
        status: Of success.
    """

    method: str
    template: str
    handler: Handler
    summary: str
    result: type
    body: type | None = None
    query: tuple[Query, ...] = ()
    refusals: tuple[str, ...] = ()
    status: HTTPStatus = HTTPStatus.OK

    @property
    def segments(self) -> tuple[str, ...]:
        """The template between its slashes."""
        return tuple(self.template.split("/")[1:])

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Values of the braces, or None where the path is another one."""
        if len(segments) != len(self.segments):
            return None
        values: dict[str, str] = {}
        for mine, given in zip(self.segments, segments, strict=True):
            if mine.startswith("{"):
                values[mine[1:-1]] = given
            elif mine != given:
                return None
        return values


def find_route(
    routes: Sequence[Route], method: str, raw_path: bytes
) -> tuple[Route, dict[str, str]]:
    """The route that a request means, and the values in its path.

    Raises:
        AdminRefused: No such path, or another method is meant.
    """
    segments = _split_path(raw_path)
    allowed: list[str] = []
    for route in routes:
        values = route.match(segments)
        if values is None:
            continue
        if route.method == method:
            return route, values
        allowed.append(route.method)
    if allowed:
        raise AdminRefused(
            "MethodNotAllowed",
            f"this path takes {', '.join(sorted(allowed))}",
            status=HTTPStatus.METHOD_NOT_ALLOWED,
        )
    raise AdminRefused("NoSuchPath", "no such path", status=HTTPStatus.NOT_FOUND)


def parse_query(route: Route, query: bytes) -> dict[str, str]:
    """The parameters of a request.

    Raises:
        AdminRefused: One that the route does not take, one given twice, or bytes that are no text.
    """
    known = {parameter.name for parameter in route.query}
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError as error:  # UnicodeError is one
        raise _bad_request("the query is not well-formed") from error
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise _bad_request(f"unknown parameter {name!r}")
        if name in values:
            raise _bad_request(f"parameter {name!r} is given twice")
        values[name] = value
    return values


def next_after(names: Sequence[str], page_rows: int) -> str | None:
    """What the next page begins after: the last name of a full page, None behind a short one."""
    return names[-1] if len(names) == page_rows else None


def _split_path(raw_path: bytes) -> list[str]:
    """Segments of a path, split before they are decoded: `%2F` is part of a name."""
    try:
        return [
            unquote(segment, errors="strict") for segment in raw_path.decode("ascii").split("/")[1:]
        ]
    except UnicodeError as error:
        raise _bad_request("the path is not UTF-8") from error


def _bad_request(message: str, *fields: str) -> AdminRefused:
    return AdminRefused("RequestInvalid", message, status=HTTPStatus.BAD_REQUEST, fields=fields)


def _malformed(error: ValidationError) -> AdminRefused:
    # Two branches of a union complain about the same field: one line for each distinct complaint.
    fields = tuple(
        dict.fromkeys(
            f"{_field_of(detail['loc'])}: {detail['msg']}"
            for detail in error.errors(
                include_input=False, include_url=False, include_context=False
            )
        )
    )
    return _bad_request("; ".join(fields), *fields)


def _field_of(location: tuple[int | str, ...]) -> str:
    # Pydantic appends the branch of a union, such as `constrained-int`; people know fields only.
    names = [str(step) for step in location if str(step).isidentifier()]
    return ".".join(names) or "body"
