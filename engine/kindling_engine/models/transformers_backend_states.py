"""Layers with a state for each sequence (convolutions, state spaces, linear attention), within transformers' modules.

All else in a step works token by token, so its sequences lie end to end as one. A module that keeps a state is called
for each sequence by itself instead, and for all that go on by one token together, with a cache of transformers that
holds just their states. A new state takes the old one's place when its sequence goes on from there: a step that failed
behind its last layer, too, runs again from where it began. States that a sequence has on its way are copied to further
rows, from which other sequences may go on.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kindling_engine.models.base import SequenceRows
from kindling_engine.models.transformers_backend_lora import LinearSites

Key = tuple[int, int, str]
"""Layer, number of its state, and which of transformers' two kinds."""

_KINDS = ("conv", "recurrent")


@dataclass(frozen=True, slots=True)
class _Part:
    """Tokens of a step that a module computes in one call: some of one sequence, or one each of many.

    ``tokens`` are those of ``places``, on the device. They go on from the states in ``rows``, ``fresh`` ones from none,
    and their states then, those of ``kept`` among the sequences, are copied to rows ``copies``.
    """

    tokens: Tensor
    places: list[int]
    rows: Tensor
    fresh: bool
    many: bool
    kept: Tensor | None = None
    copies: Tensor | None = None

    def pick(self, values: Tensor) -> Tensor:
        """Of ``[1, n, …]`` as ``[sequences, tokens, …]``."""
        return values[0].index_select(0, self.tokens).unsqueeze(1 if self.many else 0)

    def put(self, target: Tensor, values: Tensor) -> None:
        target[0].index_copy_(0, self.tokens, values[:, 0] if self.many else values[0])


@dataclass(frozen=True, slots=True)
class _Run:
    """Parts that follow each other, of the sequences in rows ``numbers``, at whose end these stand at ``ends``."""

    parts: list[_Part]
    numbers: list[int]
    ends: list[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """States that a step has made of ``rows``, which stand at ``ends`` with them, until the rows go on."""

    rows: list[int]
    ends: list[int]
    states: list[tuple[Key, Tensor]]


class SequenceStates:
    """The states of all sequences that run, by their rows, and the modules that read and write them."""

    def __init__(self, causal: Any, config: Any) -> None:
        named = inspect.signature(causal.forward).parameters
        self._argument = "cache_params" if "cache_params" in named else "past_key_values"
        self._inner = _passing_cache(config)
        self._outer = _passing_cache(config)
        self._mixers: list[tuple[nn.Module, tuple[int, ...]]] = []
        self._tables: dict[Key, Tensor] = {}
        self._reached: dict[int, int] = {}
        self._runs: list[_Run] | None = None
        self._count = 0
        self._made: list[list[tuple[Key, Tensor]]] = []
        self._held: dict[int, tuple[_Held, int]] = {}
        self._least_rows = 1
        self._sites: LinearSites | None = None
        self.goes_on = True
        """Whether modules take a state and several tokens at once; else tokens follow one by one."""

    @contextmanager
    def watching(self, causal: nn.Module) -> Iterator[dict[str, Any]]:
        """Learn from a pass with these arguments which modules keep states, for which layers."""
        inside: list[set[int]] = []

        def entered(_module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            if self._is_given(arguments, options):
                inside.append(self._begun())

        def left(
            module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], _output: object
        ) -> None:
            if self._is_given(arguments, options):
                known = {layer for _, layers in self._mixers for layer in layers}
                if new := self._begun() - inside.pop() - known:
                    self._mixers.append((module, tuple(sorted(new))))

        handles = []
        for module in causal.modules():
            handles.append(module.register_forward_pre_hook(entered, with_kwargs=True))
            handles.append(module.register_forward_hook(left, with_kwargs=True))
        try:
            yield {self._argument: self._inner, "use_cache": True}
        finally:
            for handle in handles:
                handle.remove()

    @property
    def sequence_bytes(self) -> int:
        """What is kept for one sequence; 0 before a pass was watched."""
        return sum(
            state.nbytes for layer in self._begun() for *_, state in _states(self._inner.layers[layer])
        )

    def attach(self, sites: LinearSites) -> None:
        """Have the modules called sequence by sequence in the steps to come."""
        self._sites = sites
        for module, layers in self._mixers:
            module.forward = partial(self._mixed, module.forward, layers)

    def more_slowly(self) -> bool:
        """Fall back to tokens one by one; False if they are already."""
        fell, self.goes_on = self.goes_on, False
        return fell

    def detach(self) -> None:
        """Give the modules their own passes back."""
        for module, _ in self._mixers:
            del module.forward

    def release(self, row: int) -> None:
        """A sequence has ended: let go of what a step has made of it."""
        self._held.pop(row, None)

    def reserve(self, sequences: int) -> None:
        """Make room in the tables for so many at once."""
        self._least_rows = sequences
        for key, table in list(self._tables.items()):
            self._table(key, table, sequences - 1)

    @contextmanager
    def step(self, sequences: Sequence[SequenceRows], device: torch.device) -> Iterator[dict[str, Any]]:
        """A pass over these sequences, with the arguments that it needs."""
        self._go_on(sequences, device)
        for one in sequences:
            if one.position and one.source is None and self._reached.get(one.row) != one.position:
                raise RuntimeError("a sequence's state does not end where its tokens go on")
        self._count = sequences[-1].stop
        self._runs = self._runs_make(sequences, device)
        self._made = [[] for _ in self._runs]
        try:
            yield {self._argument: self._outer, "use_cache": True}
            for run, made in zip(self._runs, self._made, strict=True):
                held = _Held(run.numbers, run.ends, made)
                self._held |= {row: (held, place) for place, row in enumerate(run.numbers)}
        finally:
            self._runs, self._made = None, []

    def _go_on(self, sequences: Sequence[SequenceRows], device: torch.device) -> None:
        """Put the states that were made last into the tables, of those that go on from them."""
        followed: dict[_Held, list[int]] = {}
        for one in sequences:
            held, place = self._held.get(one.row, (None, 0))
            new = not one.position or one.source is not None
            if held is not None and not new and one.position == held.ends[place]:
                followed.setdefault(held, []).append(place)
            elif new or one.position == self._reached.get(one.row):
                # A new sequence has the row, or this one runs once more from where it was.
                self._held.pop(one.row, None)
        for held, places in followed.items():
            rows = torch.tensor([held.rows[place] for place in places], device=device)
            chosen = torch.tensor(places, device=device) if places != list(range(len(held.rows))) else None
            for key, state in held.states:
                table = self._table(key, state, max(held.rows))
                table.index_copy_(0, rows, state if chosen is None else state.index_select(0, chosen))
            # Only now: a copy that failed is made once more.
            for place in places:
                self._reached[held.rows[place]] = held.ends[place]
                del self._held[held.rows[place]]
            self._part(held)

    def _part(self, held: _Held) -> None:
        """Rows that did not go on with the others keep their own states alone, not those of all."""
        for place, row in enumerate(held.rows):
            if self._held.get(row, (None, 0))[0] is held:
                own = [(key, state[place : place + 1].clone()) for key, state in held.states]
                self._held[row] = (_Held([row], [held.ends[place]], own), 0)

    def _runs_make(self, sequences: Sequence[SequenceRows], device: torch.device) -> list[_Run]:
        ahead = [one for one in sequences if one.position and one.stop - one.start == 1]
        rest = [one for one in sequences if not one.position or one.stop - one.start > 1]
        runs = [self._run(ahead, [(0, 1)], device)] if ahead else []
        return runs + [self._run([one], self._cuts(one), device) for one in rest]

    def _cuts(self, one: SequenceRows) -> list[tuple[int, int]]:
        """A sequence's tokens, as first and behind the last, cut where states are kept."""
        count = one.stop - one.start
        stops = sorted({*(position - one.position for position, _ in one.keeps), count})
        if self.goes_on:
            return list(zip([0, *stops], stops, strict=False))
        # Behind a state they follow one by one. What has none yet is gone through from its beginning, again and again.
        return [(0, stop) for stop in stops] if not one.position else [(at, at + 1) for at in range(count)]

    def _run(
        self, sequences: Sequence[SequenceRows], cuts: Sequence[tuple[int, int]], device: torch.device
    ) -> _Run:
        """One sequence in parts, or many that go on by one token."""

        def ints(values: list[int]) -> Tensor:
            return torch.tensor(values, device=device)

        rows = ints([one.row if one.source is None else one.source for one in sequences])
        parts = []
        for first, stop in cuts:
            places = [place for one in sequences for place in range(one.start + first, one.start + stop)]
            kept = [
                (place, row)
                for place, one in enumerate(sequences)
                for position, row in one.keeps
                if position == one.position + stop
            ]
            parts.append(
                _Part(
                    ints(places),
                    places,
                    rows,
                    fresh=not sequences[0].position and not first,
                    many=len(places) == len(sequences),
                    kept=ints([place for place, _ in kept]) if kept else None,
                    copies=ints([row for _, row in kept]) if kept else None,
                )
            )
        ends = [one.position + one.stop - one.start for one in sequences]
        return _Run(parts, [one.row for one in sequences], ends)

    def _mixed(
        self, forward: Callable[..., Any], layers: tuple[int, ...], *arguments: Any, **options: Any
    ) -> Any:
        """A module's pass over a step, part by part; outside of steps its own."""
        if self._runs is None or self._sites is None:
            return forward(*arguments, **options)
        count = self._count
        output: Any = None
        for run, kept in zip(self._runs, self._made, strict=True):
            for part in run.parts:
                if part.fresh or part is run.parts[0]:
                    self._load(layers, part)
                given = [self._given(value, part, count) for value in arguments]
                named = {name: self._given(value, part, count) for name, value in options.items()}
                with self._sites.narrowed(part.places):
                    made = forward(*given, **named)
                states = made[0] if isinstance(made, tuple) else made
                if output is None:
                    output = states.new_empty((1, count, *states.shape[2:]))
                part.put(output, states)
                self._copy(layers, part)
            self._keep(layers, kept)
        return (output, *made[1:]) if isinstance(made, tuple) else output

    def _given(self, value: Any, part: _Part, count: int) -> Any:
        """An argument as a part needs it: what has an entry for each token of the step is cut."""
        if value is self._outer:
            return self._inner
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, count):
            return part.pick(value)
        if isinstance(value, tuple):
            return tuple(self._given(one, part, count) for one in value)
        return value

    def _load(self, layers: tuple[int, ...], part: _Part) -> None:
        for layer in layers:
            kept = self._inner.layers[layer]
            for number in range(kept.number_of_states):
                for kind in _KINDS:
                    table = None if part.fresh else self._tables.get((layer, number, kind))
                    state = None if table is None else table.index_select(0, part.rows)
                    getattr(kept, f"{kind}_states")[number] = state
                    getattr(kept, f"is_{kind}_states_initialized")[number] = state is not None
                kept.has_previous_state[number] = not part.fresh

    def _copy(self, layers: tuple[int, ...], part: _Part) -> None:
        """Nobody goes on from these rows before the step has ended well."""
        if part.kept is None or part.copies is None:
            return
        for layer in layers:
            for number, kind, state in _states(self._inner.layers[layer]):
                table = self._table((layer, number, kind), state, 0)
                table.index_copy_(0, part.copies, state.index_select(0, part.kept))

    def _keep(self, layers: tuple[int, ...], made: list[tuple[Key, Tensor]]) -> None:
        for layer in layers:
            for number, kind, state in _states(self._inner.layers[layer]):
                made.append(((layer, number, kind), state))

    def _table(self, key: Key, state: Tensor, row: int) -> Tensor:
        """States of one kind by row, with room for a row; each is written before it is read."""
        table = self._tables.get(key)
        if table is None or len(table) <= row:
            grown = state.new_empty((max(row + 1, self._least_rows), *state.shape[1:]))
            if table is not None:
                grown[: len(table)] = table
            table = self._tables[key] = grown
        return table

    def _begun(self) -> set[int]:
        """Layers of which something is kept."""
        return {layer for layer, kept in enumerate(self._inner.layers) if _states(kept)}

    def _is_given(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
        return any(value is self._inner for value in (*arguments, *options.values()))


def keeps_states(config: Any) -> bool:
    """Whether transformers keeps a state, beside keys and values, for any layer of a model."""
    return any(hasattr(layer, "number_of_states") for layer in _passing_cache(config).layers)


def _passing_cache(config: Any) -> Any:
    """transformers' cache of a model, but that keys and values pass through it: they are kept in our pages."""
    from transformers import DynamicCache

    class PassingCache(DynamicCache):  # type: ignore[misc]
        def update(
            self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            return key_states, value_states

        def get_seq_length(self, *_: Any, **__: Any) -> int:
            return 0

        def get_mask_sizes(self, query_length: int, *_: Any, **__: Any) -> tuple[int, int]:
            return query_length, 0

    return PassingCache(config=config)


def _states(kept: Any) -> list[tuple[int, str, Tensor]]:
    """What a layer of transformers' cache keeps: number, kind, ``[sequences, …]``."""
    return [
        (number, kind, getattr(kept, f"{kind}_states")[number])
        for number in range(getattr(kept, "number_of_states", 0))
        for kind in _KINDS
        if getattr(kept, f"is_{kind}_states_initialized")[number]
    ]
