"""One error shape for everything under `/api`: OpenAI's."""

from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, DataError
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from kindling_billing.errors import BillingError
from kindling_platform.common.error_index.entries import error_url
from kindling_platform.common.errors import KindlingError

log = structlog.get_logger("kindling.api")
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
# The same request is at work in another process, for a moment.
RUNNING = "idempotency_running"
CODES: dict[type[exceptions.APIException], str] = {
    exceptions.ParseError: "invalid_json",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.PermissionDenied: "permission_denied",
    exceptions.NotAcceptable: "not_acceptable",
}


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler: every refusal in one shape, and our own faults without their details."""
    set_rollback()
    refusal = refusal_of(error)
    if refusal.status >= status.HTTP_500_INTERNAL_SERVER_ERROR and not isinstance(error, KindlingError):
        log.error("api.failed", view=type(context.get("view")).__name__, exc_info=error)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == status.HTTP_401_UNAUTHORIZED else {}
    if refusal.code == RUNNING:
        headers["Retry-After"] = "1"
    return Response(error_body(refusal), status=refusal.status, headers=headers)


def error_body(error: KindlingError) -> dict[str, Any]:
    """The JSON of an error; `details` is there only when it says more, `doc_url` where the index has the code."""
    kind = TYPES.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error")
    body: dict[str, Any] = {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": error.code,
    }
    if error.details is not None:
        body["details"] = error.details
    if url := error_url(settings.KINDLING_ENV.public_url, error.code):
        body["doc_url"] = url
    return {"error": body}


def refusal_of(error: Exception) -> KindlingError:
    """Any exception as the refusal that a client may see."""
    if isinstance(error, KindlingError):
        return error
    if isinstance(error, BillingError):
        return KindlingError(error.code, error.message)
    if isinstance(error, exceptions.ValidationError):
        param, message = _first(error.detail)
        return KindlingError("validation_failed", message, 422, param=param or None)
    if isinstance(error, Http404):
        return KindlingError("not_found", "There is nothing at this address.", 404)
    if isinstance(error, PermissionDenied):
        return KindlingError("permission_denied", "You may not do this.", 403)
    if isinstance(error, exceptions.APIException):
        code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "request_refused")
        return KindlingError(code, str(error.detail), error.status_code)
    if isinstance(error, DataError):
        # What no column can hold, above all a NUL in an address.
        return KindlingError("value_invalid", "A value in this request cannot be one of its kind.")
    if isinstance(error, DatabaseError):
        return KindlingError(
            "database_unavailable", "The platform's database does not answer. Try again.", 503
        )
    return KindlingError("internal_error", "Something failed on our side. Try again.", 500)


@csrf_exempt  # else a slip in an address is answered with a page about forms
def not_found_view(request: HttpRequest, *_: Any, **__: Any) -> JsonResponse:
    """404 for addresses under `/api` that lead nowhere."""
    return JsonResponse(error_body(refusal_of(Http404())), status=404)


def _first(detail: Any, path: str = "") -> tuple[str, str]:
    """The first message in DRF's nested details, and the field it is about."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        inner_path = path if name == "non_field_errors" else f"{path}.{name}".lstrip(".")
        return _first(inner, inner_path)
    if isinstance(detail, list):
        return _first(next(item for item in detail if item), path)
    return path, str(detail)
