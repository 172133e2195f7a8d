"""docs/api.md against the gateway's routes and forwarded headers."""

from kindling_api_page import names_in, table
from kindling_platform.gateway.inference import FORWARDED_HEADERS
from kindling_platform.gateway.limits.caps import HEADERS
from kindling_platform.gateway.routes import METHODS, Action, route_find


def test_every_route_of_the_page_is_served_and_no_action_is_missing():
    found = set()
    for row in table("Routes"):
        method, path = names_in(row[0])[0].split(" ")
        for prefix in ("", "/inference", "/acme"):
            route = route_find(prefix + path.replace("{id}", "acme/words#fast"))
            assert route is not None
            assert method in METHODS[route.action]
            found.add(route.action)
    assert found == set(Action) - {Action.ROOT, Action.UNKNOWN}


def test_the_headers_of_the_page_are_passed_on():
    named = {name for row in table("Headers of a request") for name in names_in(row[0])[:1]}
    assert {name.decode() for name in FORWARDED_HEADERS} == named - {"authorization"} - {name.decode() for name in HEADERS.values()}
