"""Why a checkpoint cannot be served."""


class ModelError(Exception):
    """A stable code and a sentence that says what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
