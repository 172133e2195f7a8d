"""What the runner needs of any causal model, whoever built it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import AttentionInputs
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.sites import LoraLayout

Task = Literal["generate", "embed"]


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """Tokens ``start`` to ``stop`` of a step are one sequence's, from ``position`` on; it keeps its ``row``.

    It goes on from the state in row ``source``, if that is not its own. ``keeps`` are positions that it comes to, and
    further rows to which the states are copied that it has there.
    """

    row: int
    start: int
    stop: int
    position: int
    source: int | None = None
    keeps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StepInputs:
    """One step's tokens, flattened over requests: ``tokens`` and ``positions [n]``.

    ``logit_rows [m]`` are the tokens whose logits are wanted; None wants all. ``lora`` is None in a base-only
    step; ``lora_head`` are those of its adapters that change the head, by wanted rows. ``rotary_lengths [n]`` are
    there for models with a ``rotary_limit``: the length of the token's prompt, or of the sequence up to it where that
    is longer. ``sequences``, in the order of their tokens, are there for models that keep a state for each.
    """

    tokens: Tensor
    positions: Tensor
    attention: AttentionInputs
    logit_rows: Tensor | None
    lora: LoraBatch | None
    rotary_lengths: Tensor | None = None
    lora_head: LoraBatch | None = None
    sequences: tuple[SequenceRows, ...] = ()


class ModelConfig(Protocol):
    """What scheduler, runner and intake read of a model's configuration; lengths in tokens.

    ``num_layers_kv`` is the number of layers that store K and V: 0 in an encoder. ``rotary_limit`` is the length
    beyond which rotation depends on the sequence's length, None if it never does. ``revision`` names the weights.
    ``state_bytes`` is what layers keep for each sequence beside keys and values; where they do, a prefix is shared as
    far as its state was kept, and not at all without ``state_rows``: the model can be told which row's to go on from.
    ``token_bytes`` is what a model that does without pages keeps for each token by itself; no prefix is shared there.
    """

    @property
    def architecture(self) -> str: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_layers_kv(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def rotary_limit(self) -> int | None: ...
    @property
    def state_bytes(self) -> int: ...
    @property
    def state_rows(self) -> bool: ...
    @property
    def token_bytes(self) -> int: ...
    @property
    def eos_ids(self) -> tuple[int, ...]: ...
    @property
    def revision(self) -> str: ...
    @property
    def is_encoder(self) -> bool: ...
    @property
    def task(self) -> Task: ...


class Model(Protocol):
    """A causal model over paged KV."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def lora(self) -> LoraLayout: ...

    def bind(self, storage: KvStorage) -> None:
        """Attach the KV pages that ``hidden`` reads and writes."""

    def reserve(self, sequences: int) -> None:
        """So many sequences will be known at once: make room for what is kept for each beside K and V."""

    def release(self, row: int) -> None:
        """A sequence's row is free: let go of what is kept for it beside K and V, if its size is its own."""

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states ``[m, hidden]`` of the wanted rows; K and V of every token are stored on the
        way.
        """

    def logits(self, hidden: Tensor, lora: LoraBatch | None = None) -> Tensor:
        """Logits ``[m, vocab]`` in fp32, with adapters of the head by rows of ``hidden``."""

    def forward(self, inputs: StepInputs) -> Tensor:
        """The logits of what ``hidden`` gives."""
