"""Which states are kept of a text, and from which one it goes on, for models whose layers have a state.

Keys and values of a prefix are nothing without the state behind it, and a state is as large as the keys and values of
hundreds of tokens or more. So few are kept, where texts are likely to part: where a text leaves what another one has
had before it; near a prompt's end, as it comes again with the next turn of a chat; at the last multiple of a long
stretch before that, for other questions on the same document; and at the last border that an answer has come to.
Places are counted in blocks here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kindling_engine.kvcache.state_slots import StateSlots

_WORTH = 2
"""Fewer blocks than this are computed again sooner than a state is kept for them."""
_STRETCH = 64
_SLOTS_A_TEXT = 4
"""While there are fewer slots for each text that runs, answers keep none: they would drive out each other's."""


@dataclass(frozen=True, slots=True)
class StateMoves:
    """What a row of a step does beside its tokens: ``source`` is the slot of the state that it goes on from, None for
    its own; ``keeps`` are positions up to which states are kept, and the slots that they go to.
    """

    source: int | None = None
    keeps: tuple[tuple[int, int], ...] = ()


NO_MOVES = StateMoves()


@dataclass(slots=True)
class TextStates:
    """States of one text: it goes on behind ``begun`` blocks, and is to keep one at each of ``borders`` and, in its
    answer, from ``answer`` on; 0 for nowhere.
    """

    begun: int = 0
    borders: tuple[int, ...] = ()
    answer: int = 0
    source: int | None = None
    """The slot of the state that it goes on from, until a step has read it."""
    writing: dict[int, int] = field(default_factory=dict)
    """Slots by border that steps write to, until one is booked that has."""
    saved: int = 0
    """The last border of the prompt that is kept."""
    last: bytes | None = None
    """The state in its answer that is known."""
    made: list[bytes] = field(default_factory=list)


class PrefixStates:
    """Looks after the states of all texts."""

    def __init__(self, capacity: int, has_block: Callable[[bytes], bool]) -> None:
        self.slots = StateSlots(capacity, has_block)

    def deepest(self, chain: Sequence[bytes]) -> int:
        """The number of blocks, of those with hashes ``chain``, behind the last of which a state is known."""
        return next((depth for depth in range(len(chain), 0, -1) if self.slots.knows(chain[depth - 1])), 0)

    def begin(self, text: TextStates, chain: Sequence[bytes]) -> None:
        """A text goes on from a known state."""
        if text.begun:
            text.source = self.slots.read(chain[text.begun - 1])

    def keeps(self, text: TextStates, borders: range, *, running: int) -> list[tuple[int, int]]:
        """Those of ``borders``, to which a row comes, that are kept, with their slots; ``running`` texts share all."""
        answers = text.answer and running * _SLOTS_A_TEXT <= self.slots.capacity
        kept = []
        for border in borders:
            if border not in text.borders and not (answers and border >= text.answer):
                continue
            slot = text.writing.get(border)
            if slot is None:
                slot = self.slots.take()
            if slot is not None:
                text.writing[border] = slot
                kept.append((border, slot))
        return kept

    def publish(self, text: TextStates, computed: int, chain: Sequence[bytes]) -> None:
        """A step has been booked, behind which ``computed`` blocks of a text are known."""
        self._read_end(text)
        for border in sorted(one for one in text.writing if one <= computed):
            state = chain[border - 1]
            if self.slots.publish(state, text.writing.pop(border), border - max(text.saved, text.begun)):
                text.made.append(state)
                if border not in text.borders:
                    if text.last is not None:
                        self.slots.forget(text.last)
                        text.made.remove(text.last)
                    text.last = state
            if border in text.borders:
                text.saved = border

    def end(self, text: TextStates, *, suspect: bool) -> None:
        """A text gives up its blocks. ``suspect``: so are its states."""
        self._read_end(text)
        for slot in text.writing.values():
            self.slots.give_back(slot)
        for state in text.made if suspect else ():
            self.slots.forget(state)

    def _read_end(self, text: TextStates) -> None:
        if text.source is not None:
            self.slots.read_end(text.source)
            text.source = None


def text_states(*, begun: int, known: int, length: int) -> TextStates:
    """A text of ``length`` full blocks and something behind them, of which ``known`` blocks are and it goes on behind
    ``begun``.

    The last block before its end is left out: templates change how a prompt ends once there is an answer.
    """
    end = length - 1
    borders: list[int] = []
    for border in (min(known, end), end, end // _STRETCH * _STRETCH):
        if border - begun >= _WORTH and all(abs(border - other) >= _WORTH for other in borders):
            borders.append(border)
    answer = max(length + 1, max(borders, default=begun) + _WORTH)
    return TextStates(begun, tuple(sorted(borders)), answer)
