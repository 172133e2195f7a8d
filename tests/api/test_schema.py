"""The OpenAPI document describes every address, without a warning from its generator."""

import pytest
from django.urls import get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from kindling_platform.api import urls


@pytest.fixture(scope="module")
def schema() -> dict:
    GENERATOR_STATS.reset()
    generated = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS._warn_cache
    assert not GENERATOR_STATS._error_cache
    return generated


def test_it_is_valid_openapi(schema: dict):
    validate_schema(schema)


def test_it_names_every_address(schema: dict):
    get_resolver()
    routes = {str(p.pattern) for p in urls.urlpatterns if str(p.pattern).startswith("v1/")}
    described = {path.removeprefix("/api/").replace("{", "<").replace("}", ">") for path in schema["paths"]}
    assert {route.replace("str:", "").replace("path:", "") for route in routes} == described


def test_every_operation_has_a_summary_and_an_id(schema: dict):
    operations = [op for path in schema["paths"].values() for op in path.values()]
    assert all(op["summary"] for op in operations)
    ids = [op["operationId"] for op in operations]
    assert len(ids) == len(set(ids))


def test_every_operation_says_how_it_refuses(schema: dict):
    assert {"message", "type", "param", "code"} <= set(
        schema["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    )
    operations = [op for path in schema["paths"].values() for op in path.values()]
    assert all("4XX" in op["responses"] for op in operations)


@pytest.mark.django_db
def test_anybody_may_read_it(client):
    reply = client.get("/api/schema/")
    assert reply.status_code == 200
    assert b"Kindling control API" in reply.content
