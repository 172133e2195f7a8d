"""Which adapter has to go when room is wanted: one that is rarely used, large, and was long not used.

Greedy-Dual-Size with frequency (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy", 1998): an adapter is worth ``L + F · cost / size``, F how often it was used, L the worth of the last one that
went. L grows, so that what was popular once does not stay for ever. A load costs a fixed part and one by the byte.
"""

_FIXED_BYTES = 1 << 20
"""What a load costs beside its bytes, in bytes."""


class Worth:
    """Worth by name, for one tier. Knows neither budgets nor who is in use."""

    def __init__(self) -> None:
        self._level = 0.0
        self._uses: dict[str, int] = {}
        self._worth: dict[str, float] = {}

    def used(self, name: str, size_bytes: int) -> None:
        """Somebody asked for it."""
        uses = self._uses[name] = self._uses.get(name, 0) + 1
        self._worth[name] = self._level + uses * (size_bytes + _FIXED_BYTES) / max(1, size_bytes)

    def evicted(self, name: str) -> None:
        """It went for lack of room; those that stay are worth that much less from now on."""
        self._level = max(self._level, self._worth.get(name, 0.0))
        self.forgotten(name)

    def forgotten(self, name: str) -> None:
        """It went for another reason."""
        self._uses.pop(name, None)
        self._worth.pop(name, None)

    def cheapest_first(self, names: list[str]) -> list[str]:
        """In the order in which they should go; equals by age."""
        return sorted(names, key=lambda name: self._worth.get(name, 0.0))
