"""What an answer is made of, in the order in which it is told."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader; ``start`` counts the characters that the model had made before it."""

    text: str
    start: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call begins; calls of an answer are counted from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """The next piece of a call's arguments, which are JSON when all pieces are joined."""

    index: int
    text: str


Delta = Content | Reasoning | ToolCallStart | ToolCallArguments


def deltas_join(deltas: Iterable[Delta]) -> list[Delta]:
    """The same with neighbouring pieces of one kind put together, where they also lay together in the source."""
    out: list[Delta] = []
    for delta in deltas:
        last = out[-1] if out else None
        match last, delta:
            case Content(), Content() if last.start + len(last.text) == delta.start:
                out[-1] = replace(last, text=last.text + delta.text)
            case Reasoning(), Reasoning():
                out[-1] = Reasoning(last.text + delta.text)
            case ToolCallArguments(), ToolCallArguments() if last.index == delta.index:
                out[-1] = replace(last, text=last.text + delta.text)
            case _:
                out.append(delta)
    return out
