"""The OpenAPI description of the admin API, made from its routes and documents. Pure.

Source: OpenAPI Specification 3.1.0.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from appliance.admin.documents import ErrorDocument, adapter_of

if TYPE_CHECKING:
    from appliance.admin.routes import Route

__all__ = ["describe_api"]

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | bool | None

_TEMPLATE = "#/components/schemas/{model}"
_DESCRIPTION = (
    "The one door to the appliance's administration. Served on a Unix socket that only its owner "
    "can open, and on request over TLS with a bearer token. S3 access keys open nothing here."
)


@functools.cache
def describe_api(routes: tuple[Route, ...], *, version: str) -> bytes:
    """The description as JSON, made once: it takes a fifth of a second."""
    schemas: dict[str, Json] = {}
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _describe(route, schemas)
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "Thermocline admin API", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }
    return json.dumps(document, indent=2).encode()


def _describe(route: Route, schemas: dict[str, Json]) -> Json:
    operation: dict[str, Json] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [route.segments[1]],
        "responses": {
            str(int(route.status)): {
                "description": "Done",
                "content": _content(route.result, schemas),
            },
            "default": {
                "description": ", ".join(("RequestInvalid", *route.refusals)),
                "content": _content(ErrorDocument, schemas),
            },
        },
    }
    parameters: list[Json] = [
        {"name": name[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.segments
        if name.startswith("{")
    ]
    parameters += [
        {
            "name": query.name,
            "in": "query",
            "description": query.summary,
            "schema": {"type": "string"},
        }
        for query in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body, schemas)}
    return operation


def _content(kind: type, schemas: dict[str, Json]) -> Json:
    """A reference to the schema of a record, which is added to `schemas` with all it refers to."""
    schema = adapter_of(kind).json_schema(ref_template=_TEMPLATE)
    schemas.update(schema.pop("$defs", {}))
    schemas[kind.__name__] = schema
    return {"application/json": {"schema": {"$ref": _TEMPLATE.format(model=kind.__name__)}}}
