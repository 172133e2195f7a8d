"""What the embedded start refuses with: a stable code and a sentence a user can act on."""


class EmbeddedError(Exception):
    """A step of the start failed in a way the user can mend."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
