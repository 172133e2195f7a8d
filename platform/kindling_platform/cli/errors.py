"""What the command refuses with."""


class CliError(Exception):
    """One sentence for the user and, where the API gave one, its stable code."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
