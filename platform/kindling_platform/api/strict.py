"""Bodies that say nothing but what is asked for."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers as s

MOST_CHARS = 80


class StrictShape(s.Serializer[object]):
    """A body whose every name is known: one with a slip would be a wish that nobody hears, and a key without bounds.

    ``told`` are names of the answer that say nothing when it is sent back.
    """

    told: tuple[str, ...] = ()

    def to_internal_value(self, data: Any) -> Any:
        """Raises ValidationError for a name that there is not."""
        if isinstance(data, Mapping):
            unknown = [str(name) for name in data if name not in self.fields and name not in self.told]
            if unknown:
                known = ", ".join(self.fields) or "none"
                raise s.ValidationError(
                    {unknown[0][:MOST_CHARS]: f"There is no such field here; there are {known}."}
                )
        return super().to_internal_value(data)
