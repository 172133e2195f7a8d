"""Answers that are files: whatever a client says that it accepts, and refusals stay JSON."""

from collections.abc import Iterable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

# How the OpenAPI document describes a table.
CSV = {(200, "text/csv"): OpenApiTypes.STR}


class AnyAccepted(BaseContentNegotiation):
    """Asks nothing of the header `Accept`: a file has one form, and a refusal has another."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        first = next(iter(renderers))
        return first, first.media_type or ""
