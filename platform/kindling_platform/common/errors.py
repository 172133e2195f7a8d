"""The one error that services raise: a stable code, a sentence a user can act on, an HTTP status."""

from typing import Any


class KindlingError(Exception):
    """A refusal that the API renders as JSON and the console as a fragment."""

    def __init__(
        self, code: str, message: str, status: int = 400, *, param: str | None = None, details: Any = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.param = param
        self.details = details


def not_found(what: str) -> KindlingError:
    """The answer for an object that is not there or belongs to another organisation."""
    return KindlingError("not_found", f"There is no such {what}.", 404)
