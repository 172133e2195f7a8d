"""Reads the fields of a JSON object by type and range, and finds the ones that nobody asked for."""

from typing import Any

from kindling_engine.server.errors import ApiError, invalid_value, unsupported_field


class Fields:
    """One object of the body. A field that is null counts as absent, as in OpenAI's API.

    All readers raise ApiError: `invalid_value` with the field's path, or `missing_field`.
    """

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        return f"{self._path}{name}"

    def take(self, name: str) -> Any:
        """The raw value, None when absent."""
        self._read.add(name)
        return self._values.get(name)

    def need(self, name: str) -> Any:
        value = self.take(name)
        if value is None:
            raise ApiError(400, "missing_field", f"{self.path(name)} is required.", param=self.path(name))
        return value

    def number(self, name: str, *, low: float, high: float, default: float) -> float:
        value = self.take(name)
        if value is None:
            return default
        # The comparison also refuses NaN, and infinities such as 1e999.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise invalid_value(
                self.path(name), f"{self.path(name)} must be a number from {low:g} to {high:g}."
            )
        return float(value)

    def integer(self, name: str, *, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise invalid_value(self.path(name), f"{self.path(name)} must be an integer from {low} to {high}.")

    def boolean(self, name: str) -> bool:
        value = self.take(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise invalid_value(self.path(name), f"{self.path(name)} must be true or false.")
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise invalid_value(self.path(name), f"{self.path(name)} must be an object.")
        return value

    def only(self, name: str, *harmless: Any) -> None:
        """Allow a field we do not support, as long as its value asks for nothing."""
        value = self.take(name)
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            return
        raise unsupported_field(self.path(name), f"{self.path(name)} is not supported with this value.")

    def present(self, *names: str) -> tuple[str, ...]:
        """Which of these fields were given; they count as read."""
        self._read.update(names)
        return tuple(name for name in names if self._values.get(name) is not None)

    def end(self) -> None:
        """Refuse what was given and not read."""
        for name, value in self._values.items():
            if value is not None and name not in self._read:
                raise unsupported_field(self.path(name[:80]))


def text_check(value: Any, param: str, *, empty_ok: bool = True) -> str:
    """A string that can be written as UTF-8: an escaped lone surrogate cannot."""
    if not isinstance(value, str) or not (value or empty_ok):
        raise invalid_value(param, f"{param} must be a {'string' if empty_ok else 'non-empty string'}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid_value(param, f"{param} holds half a surrogate pair.") from None
    return value
