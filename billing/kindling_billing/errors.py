"""Billing's own refusals; callers above translate them."""


class BillingError(Exception):
    """Money cannot be moved as asked: a stable code and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
