"""Why an adapter cannot be used."""

SAVE_AGAIN = "Save the adapter again with PEFT's save_pretrained and upload it whole."


class AdapterError(Exception):
    """A stable code (the name of the check that failed), what is wrong, and what the user can do about it."""

    def __init__(self, code: str, message: str, fix: str = SAVE_AGAIN) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix
