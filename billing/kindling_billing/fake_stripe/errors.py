"""Stripe's refusals: a status, a type, a code, and whether what was done before stays done."""

from typing import Any


class Refusal(Exception):
    """An error body as Stripe writes it. `keeps` tells that the request had effects, as a declined charge has."""

    def __init__(
        self, status: int, kind: str, message: str, *, code: str = "", param: str = "", keeps: bool = False,
        **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.keeps = keeps
        self.error = {"type": kind, "message": message, **more}
        if code:
            self.error["code"] = code
        if param:
            self.error["param"] = param

    @property
    def body(self) -> dict[str, Any]:
        """The whole answer."""
        return {"error": self.error}


def invalid(message: str, *, code: str = "", param: str = "", status: int = 400) -> Refusal:
    """A request that cannot be carried out."""
    return Refusal(status, "invalid_request_error", message, code=code, param=param)


def missing(what: str, id_: str, *, param: str = "id", status: int = 404) -> Refusal:
    """An object that is not there."""
    text = f"No such {what}: '{id_}'"
    return invalid(text, code="resource_missing", param=param, status=status)
