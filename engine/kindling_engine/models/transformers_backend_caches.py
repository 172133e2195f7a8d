"""What transformers keeps of a sequence by itself: in a cache that goes along, or in its modules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kindling_engine.models.errors import ModelError
from kindling_engine.models.transformers_backend_config import padding_id_read
from kindling_engine.models.transformers_backend_lora import LinearSites
from kindling_engine.models.transformers_backend_trunk import named, trunk_watch

# Words, and not the signs in front of a vocabulary, which may count for no position.
_FIRST, _FEW, _MORE = 100, 8, 24
_SAME = 0.01
# Of what a pass gives, and might be asked for by name, too.
_NO_CACHES = {"last_hidden_state", "hidden_states", "attentions"}

Place = tuple[nn.Module, str]


@dataclass(frozen=True, slots=True)
class OwnCache:
    """What a pass gives for the next one, and what it leaves in modules, by their places."""

    given: Any
    inside: tuple[Tensor | None, ...]


class OwnCaches:
    """Passes over the tokens of one sequence, each on top of what is kept of those before it.

    ``token_bytes`` and ``sequence_bytes`` are what that takes, as if nothing were ever dropped. Without ``keeps``
    nothing is kept, and a pass begins with a sequence's first token, whose number is ``first_position`` to the model.
    """

    def __init__(self, causal: Any, architecture: str, sites: LinearSites, *, positions: int) -> None:
        """Learn from short passes what is kept, and how much it is, of a model with so many ``positions``.

        Raises ModelError where they fail.
        """
        padding = padding_id_read(causal.config)
        words = torch.arange(_FIRST, _FIRST + _MORE + 1, device=causal.device)
        words %= causal.get_input_embeddings().weight.shape[0]
        words = words[words != padding][:_MORE]
        fresh = tensors_inside(causal)
        with sites.counting(_FEW):
            self.trunk, output = trunk_watch(causal, architecture, words[None, :_FEW], {"use_cache": True})
        self._module = self.trunk.module
        self._always = named(self._module, use_cache=True)
        self._positions = bool(named(self._module, position_ids=None))
        self.first_position = 0
        self._name, self._new = self._given_find(output, causal.config)
        self._places: list[Place] = []
        self._fresh: tuple[Tensor | None, ...] = ()
        before = tensors_inside(causal)
        _, large = self.go_on(words, 0, None)
        # What only the first pass made, a table for instance, is no sequence's.
        inside = {
            place: value for place, value in tensors_inside(causal).items() if before.get(place) is not value
        }
        self._places = list(inside)
        self._fresh = tuple(fresh.get(place) for place in inside)
        states, small = self.go_on(words[:_FEW], 0, None)
        # Some count positions from behind the number of padding on.
        plain = output.last_hidden_state[0]
        if self._positions and not _same(states, plain):
            self.first_position = 1 + padding
            # On a GPU what reads past its table ends the process.
            if self.first_position + _FEW <= positions:
                states, small = self.go_on(words[:_FEW], 0, None)
            if not _same(states, plain):
                raise ModelError(
                    "unsupported_model", f"{architecture} is not served: it counts positions in its own way."
                )
        small_bytes, large_bytes = _bytes(small), _bytes(OwnCache(large.given, tuple(inside.values())))
        each = -(-max(0, large_bytes - small_bytes) // (_MORE - _FEW))
        # The tokens themselves are kept, too.
        self.token_bytes = each + words.itemsize
        self.sequence_bytes = max(0, small_bytes - _FEW * each)
        self.keeps = small_bytes > 0

    def _given_find(self, output: Any, config: Any) -> tuple[str | None, Callable[[], Any]]:
        """The name of what a pass gives for the next one, and what makes it where a sequence begins."""
        made = {name: value for name, value in output.items() if name not in _NO_CACHES}
        if given := named(self._module, **made):
            return next(iter(given)), lambda: None
        # Some give no cache back, and keep to the one that they are given.
        return next(iter(named(self._module, past_key_values=None)), None), partial(_cache_new, config)

    def go_on(self, tokens: Tensor, position: int, cache: OwnCache | None) -> tuple[Tensor, OwnCache]:
        """States ``[n, hidden]`` of ``tokens [n]``, the first of them at ``position``, and what is kept behind them.

        Without a cache they are a sequence's first. One that was given is used up.
        """
        options = dict(self._always)
        if self._positions:
            first = self.first_position + position
            options["position_ids"] = torch.arange(first, first + len(tokens), device=tokens.device)[None]
        given = self._new() if cache is None else cache.given
        if self._name is not None and given is not None:
            options[self._name] = given
        for (module, name), value in zip(
            self._places, self._fresh if cache is None else cache.inside, strict=True
        ):
            setattr(module, name, value)
        output = self._module(input_ids=tokens[None], **options)
        given = output.get(self._name, given)
        inside = tuple(getattr(module, name) for module, name in self._places)
        states: Tensor = output.last_hidden_state[0]
        return states, OwnCache(given, inside)


def _cache_new(config: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=config)


def tensors_inside(causal: nn.Module) -> dict[Place, Tensor]:
    """Tensors that lie in modules and are neither parameters nor buffers."""
    return {
        (module, name): value
        for module in causal.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }


def _same(states: Tensor, expected: Tensor) -> bool:
    return bool((states - expected).norm() <= _SAME * expected.norm())


def _bytes(cache: OwnCache) -> int:
    """Memory behind all tensors of a cache; views of one tensor are one."""
    storages = [tensor.untyped_storage() for tensor in _tensors((cache.given, cache.inside), set())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that an object leads to."""
    if id(value) in seen or isinstance(value, nn.Module | type):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part, seen)
    else:
        kept = [*vars(value).values()] if hasattr(value, "__dict__") else []
        for part in kept + ([*value.values()] if isinstance(value, Mapping) else []):
            yield from _tensors(part, seen)
