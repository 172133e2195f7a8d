"""What came of a request: an answer, a refusal that is final, or nothing that one can rely on."""

from typing import Any


class ProviderAway(Exception):
    """The provider did not answer, or not with anything final; the request may have had its effect.

    `replayed_failure` tells that the provider repeats a failure which it keeps under the request's key.
    """

    def __init__(self, code: str, message: str, *, failed: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.failed = failed


class ProviderRefused(Exception):
    """A final no: the request will never succeed as it is. `intent` is the payment that a declined charge left."""

    def __init__(
        self, code: str, message: str, *, param: str = "", intent: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.intent = intent
