"""Gives every request of the web side an id, which the audit log keeps and the answer carries."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from kindling_platform.common.actors import Actor
from kindling_platform.common.ids import new_id
from kindling_platform.common.origin import Origin, origin_begun
from kindling_platform.common.requests import client_ip

HEADER = "X-Request-Id"
Answer = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def request_ids(get_response: Any) -> Answer:
    """Middleware: an id of our own, whatever the caller sent; until somebody is known, the platform acts from there."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            with origin_begun(_origin(request)) as origin:
                return _named(await get_response(request), origin)

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        with origin_begun(_origin(request)) as origin:
            return _named(get_response(request), origin)

    return answer


def _origin(request: HttpRequest) -> Origin:
    return Origin(new_id("req"), Actor(id="", label="system", ip=client_ip(request)))


def _named(response: HttpResponseBase, origin: Origin) -> HttpResponseBase:
    response[HEADER] = origin.request_id
    return response
