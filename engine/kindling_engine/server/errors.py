"""What the front refuses with, in the shape that OpenAI's clients understand."""

from typing import Any

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class ApiError(Exception):
    """A stable code, a sentence for the caller, an HTTP status and, where there is one, the field at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The error as JSON values."""
        kind = INVALID_REQUEST if self.status < 500 else SERVER_ERROR
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code},
        }


def invalid_value(param: str, message: str) -> ApiError:
    return ApiError(400, "invalid_value", message, param=param)


def unsupported_field(param: str, message: str = "") -> ApiError:
    return ApiError(400, "unsupported_field", message or f"{param} is not supported.", param=param)


def engine_unavailable(message: str) -> ApiError:
    return ApiError(503, "engine_unavailable", message, retry_after_s=2)


# What the core says went wrong, and how that is answered; anything else is a failure of ours.
_STATUS_OF_CORE_CODE = {
    "invalid_value": 400,
    "invalid_schema": 400,
    "unsupported_schema": 400,
    "constraint_dead_end": 400,
    "constraint_unavailable": 400,
    "context_length_exceeded": 400,
    "not_an_embedding_model": 400,
    "not_a_generation_model": 400,
    "duplicate_request": 409,
    "adapter_load_failed": 412,
    "engine_unavailable": 503,
}


def core_error(code: str, message: str) -> ApiError:
    """The answer to a request that the core ended with an error."""
    status = _STATUS_OF_CORE_CODE.get(code, 500)
    return ApiError(
        status,
        code or "engine_failed",
        message or "The engine failed.",
        retry_after_s=2 if status == 503 else None,
    )


def place_of(error: BaseException) -> str:
    """Where it was raised, for a log that may not hold its text."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
