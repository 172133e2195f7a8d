"""Stop strings cost little however they are chosen, and are found as if each were looked for anew."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.server.stop_strings import StopMatcher
from kindling_examples import examples


class SimpleMatcher:
    """What a matcher does, said as simply as possible: it looks through all that it holds at every part."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._held = ""
        self.matched = ""

    def feed(self, text: str) -> str:
        self._held += text
        for end in range(1, len(self._held) + 1):
            if ended := [stop for stop in self._stops if self._held[:end].endswith(stop)]:
                self.matched = max(ended, key=len)
                before, self._held = self._held[: end - len(self.matched)], ""
                return before
        keep = max(
            size
            for stop in self._stops
            for size in range(len(stop))
            if size <= len(self._held) and self._held.endswith(stop[:size])
        )
        free = len(self._held) - keep
        out, self._held = self._held[:free], self._held[free:]
        return out

    def flush(self) -> str:
        out, self._held = self._held, ""
        return out


letters = st.text("abc", max_size=8)
stops = st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=4)


@settings(max_examples=examples(1000), deadline=None)
@given(parts=st.lists(letters | st.just(None), max_size=12), wanted=stops)
def test_every_part_gives_what_the_simple_form_gives(parts: list[str | None], wanted: list[str]):
    matcher, simple = StopMatcher(wanted), SimpleMatcher(wanted)
    for part in parts:  # None: nothing more will come, for now; what comes after a match counts anew
        if part is None:
            assert matcher.flush() == simple.flush()
        else:
            assert matcher.feed(part) == simple.feed(part)
        assert matcher.matched == simple.matched


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (["x" * 1000, "y" * 999, "z" * 998, " the" * 240 + "!"], " the"),
        (["a" * 999 + "b", "a" * 500 + "c", "a" * 250 + "d", "a" * 125 + "e"], "a"),
        (["ab" * 499 + "c", "ba" * 499 + "c"], "ab"),
    ],
)
def test_a_character_costs_a_few_looks_however_much_is_held_back(wanted: list[str], part: str):
    looks = 0

    class Watched(str):
        __slots__ = ()

        def __getitem__(self, place: Any) -> str:
            nonlocal looks
            looks += 1
            return super().__getitem__(place)

    matcher = StopMatcher([Watched(one) for one in wanted])
    looks, chars = 0, 0
    for _ in range(2000):
        matcher.feed(part)
        chars += len(part)
    assert matcher.held_chars > 200
    # A look per stop string and character, one per step back, and one to go on from there.
    assert looks <= 4 * len(wanted) * chars
