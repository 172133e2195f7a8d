"""Reads the fields of one object and refuses by name what nobody asked for."""

from typing import Any

from kindling_platform.gateway.errors import GatewayError


class Fields:
    """One object of a body. A field that is null counts as absent.

    Readers raise 400 with the field's path: `missing_field`, `invalid_value`, and `unsupported_field` from `end`.
    """

    __slots__ = ("_path", "_read", "_values", "ignored")

    def __init__(self, value: Any, path: str = "", ignored: list[str] | None = None) -> None:
        if not isinstance(value, dict):
            raise invalid_value(path, f"{path} has to be an object.")
        self._values = value
        self._path = path
        self._read: set[str] = set()
        # Shared with the objects inside, so that one header names everything.
        self.ignored = [] if ignored is None else ignored

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def inside(self, name: str) -> "Fields | None":
        """The object in a field."""
        value = self.take(name)
        return None if value is None else Fields(value, self.path(name), self.ignored)

    def take(self, name: str) -> Any:
        """The value as it came, None when absent."""
        self._read.add(name)
        return self._values.get(name)

    def need(self, name: str) -> Any:
        value = self.take(name)
        if value is None:
            raise missing_field(self.path(name))
        return value

    def text(self, name: str, *, chars: int | None = None) -> str | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise invalid_value(self.path(name), f"{self.path(name)} has to be a string.")
        if chars is not None and len(value) > chars:
            raise invalid_value(self.path(name), f"{self.path(name)} may have at most {chars} characters.")
        return value

    def need_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise missing_field(self.path(name))
        if not value:
            raise invalid_value(self.path(name), f"{self.path(name)} is empty.")
        return value

    def boolean(self, name: str) -> bool | None:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise invalid_value(self.path(name), f"{self.path(name)} has to be true or false.")
        return value

    def integer(self, name: str, *, low: int, high: int = 1 << 31) -> int | None:
        value = self.take(name)
        if value is None or (type(value) is int and low <= value <= high):
            return value
        raise invalid_value(self.path(name), f"{self.path(name)} has to be an integer from {low} to {high}.")

    def items(self, name: str) -> list[Any]:
        """A list; empty when absent."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise invalid_value(self.path(name), f"{self.path(name)} has to be a list.")
        return value

    def choice(self, name: str, *values: str) -> str | None:
        """One of these words."""
        value = self.take(name)
        if value is not None and (not isinstance(value, str) or value not in values):
            raise invalid_value(self.path(name), f"{self.path(name)} has to be one of {', '.join(values)}.")
        return value

    def only(self, name: str, *harmless: Any) -> None:
        """Allow a field that is not supported as long as its value asks for what happens anyway."""
        value = self.take(name)
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            return
        raise unsupported(self.path(name), f"{self.path(name)} is not supported with this value.")

    def ignore(self, *names: str) -> None:
        """Accept fields that have no effect here; a header of the answer names them."""
        for name in names:
            if self.take(name) is not None and name not in self.ignored:
                self.ignored.append(name)

    def copy(self, into: dict[str, Any], *names: str) -> None:
        """Pass fields on under their own names; the engine checks them."""
        for name in names:
            if (value := self.take(name)) is not None:
                into[name] = value

    def end(self) -> None:
        """Refuse what was not read."""
        for name in self._values:
            if name not in self._read and self._values[name] is not None:
                raise unsupported(self.path(name[:80]))


def missing_field(path: str) -> GatewayError:
    return GatewayError(400, "missing_field", f"The field {path!r} is missing.", param=path)


def invalid_value(path: str, message: str) -> GatewayError:
    return GatewayError(400, "invalid_value", message, param=path)


def unsupported(path: str, message: str = "") -> GatewayError:
    """400 for what other servers offer and this one does not."""
    return GatewayError(400, "unsupported_field", message or f"{path} is not supported.", param=path)
