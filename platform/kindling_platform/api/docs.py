"""The API for people to read: a page made from the OpenAPI document, without scripts or other hosts."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address; parameters and fields as (name, kind, meaning)."""

    id: str
    method: str
    path: str
    summary: str
    parameters: list[tuple[str, str, str]]
    fields: list[tuple[str, str, str]]
    answer: list[tuple[str, str, str]]


def docs_page(request: HttpRequest) -> HttpResponse:
    """Every operation on one page."""
    context = {
        "operations": operations(),
        "public_url": settings.KINDLING_ENV.public_url,
        "title": settings.SPECTACULAR_SETTINGS["TITLE"],
    }
    return render(request, "api/docs.html", context)


@cache
def operations() -> list[Operation]:
    """What the OpenAPI document describes, in its order."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    parts = schema.get("components", {}).get("schemas", {})
    return [
        Operation(
            id=described["operationId"],
            method=method.upper(),
            path=path,
            summary=described.get("summary", ""),
            parameters=[
                (p["name"], _kind(p.get("schema", {})), p.get("description", ""))
                for p in described.get("parameters", [])
            ],
            fields=_fields(described.get("requestBody", {}), parts),
            answer=_fields(_success(described), parts),
        )
        for path, methods in schema["paths"].items()
        for method, described in methods.items()
        if method in METHODS
    ]


def _success(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        (reply for status, reply in described["responses"].items() if str(status).startswith("2")), {}
    )
    return found


def _fields(body: dict[str, Any], parts: dict[str, Any]) -> list[tuple[str, str, str]]:
    schema = body.get("content", {}).get("application/json", {}).get("schema", {})
    if schema.get("type") == "array":
        schema = schema["items"]
    named = parts.get(schema.get("$ref", "").rpartition("/")[2], schema)
    return [
        (name, _kind(field), field.get("description", ""))
        for name, field in named.get("properties", {}).items()
    ]


def _kind(schema: dict[str, Any]) -> str:
    reference = schema.get("$ref") or next((s["$ref"] for s in schema.get("allOf", []) if "$ref" in s), "")
    if reference:
        return str(reference).rpartition("/")[2].removesuffix("Shape").lower()
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "value")
