"""Why an adapter cannot be used."""


class AdapterError(Exception):
    """A stable code (the name of the check that failed) and a sentence that a user can act on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
