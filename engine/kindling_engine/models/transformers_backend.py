"""Any other causal model: transformers' own modules, with our scheduler, sampling and LoRA around.

Where it can be, with our paged attention in them; else sequence by sequence, as ``transformers_backend_sequences``.
transformers is imported here and not before, so that models with a decoder of ours start without it.
"""

import logging
import sys
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import LayerCache, attention_for
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.models.base import Model, StepInputs
from kindling_engine.models.end_tokens import eos_ids_read
from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import revision_read
from kindling_engine.models.transformers_backend_attention import (
    NAME,
    PagedStep,
    attention_leave,
    attention_register,
    step_announced,
)
from kindling_engine.models.transformers_backend_caches import OwnCaches, tensors_inside
from kindling_engine.models.transformers_backend_check import parity_check
from kindling_engine.models.transformers_backend_config import (
    BackendConfig,
    context_length_read,
    layers_check,
    transformers_config_read,
)
from kindling_engine.models.transformers_backend_lora import LinearSites
from kindling_engine.models.transformers_backend_observe import Observation, observing
from kindling_engine.models.transformers_backend_sequences import SequencesModel
from kindling_engine.models.transformers_backend_states import SequenceStates, keeps_states
from kindling_engine.models.transformers_backend_trunk import Trunk, faults_named, trunk_watch
from kindling_engine.models.transformers_backend_weights import causal_load
from kindling_engine.models.weights import LoadProgress

logger = logging.getLogger(__name__)

_OBSERVED_TOKENS = 3


class TransformersModel:
    """A model of transformers behind the engine's interface; its layers are told apart by the order of their
    attention calls.
    """

    def __init__(
        self,
        trunk: Trunk,
        *,
        config: BackendConfig,
        observed: Observation,
        sites: LinearSites,
        states: SequenceStates | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        self._trunk = trunk
        self._specs = observed.specs
        self._kv_heads = observed.kv_heads
        self._sites = sites
        self._states = states
        self._attention = attention_for(device)
        self._caches: list[LayerCache] = []

    @property
    def lora(self) -> LoraLayout:
        return self._sites.layout

    def bind(self, storage: KvStorage) -> None:
        """Attach the KV pages that ``hidden`` reads and writes."""
        self._caches = [
            LayerCache(*(one[:heads] for one in (*pages, *slots)))
            for pages, slots, heads in zip(storage.layers, storage.slots, self._kv_heads, strict=False)
        ]

    def reserve(self, sequences: int) -> None:
        if self._states is not None:
            self._states.reserve(sequences)

    def release(self, row: int) -> None:
        if self._states is not None:
            self._states.release(row)

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states ``[m, hidden]`` of the wanted rows."""
        step = PagedStep(inputs.attention, self._caches, self._specs, self._attention)
        states = (
            nullcontext({"use_cache": False})
            if self._states is None
            else self._states.step(inputs.sequences, self.device)
        )
        with step_announced(step), self._sites.applied(inputs.lora), states as options:
            output = self._trunk.module(
                input_ids=inputs.tokens[None], position_ids=inputs.positions[None], **options
            )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden if inputs.logit_rows is None else hidden.index_select(0, inputs.logit_rows)

    def logits(self, hidden: Tensor, lora: LoraBatch | None = None) -> Tensor:
        """Logits ``[m, vocab]`` in fp32. There are no adapters of the head here."""
        return self._trunk.logits(hidden)

    def forward(self, inputs: StepInputs) -> Tensor:
        return self.logits(self.hidden(inputs))


def transformers_load(
    folder: Path,
    *,
    architecture: str,
    device: torch.device,
    dtype: torch.dtype,
    progress: LoadProgress | None = None,
) -> Model:
    """Load a causal model of the installed transformers.

    Raises ModelError for one that cannot be served, with the cause; the checkpoint's own code is never run.
    """
    attention_register()
    raw = transformers_config_read(folder, architecture)
    load = partial(
        causal_load, folder, raw, architecture=architecture, dtype=dtype, device=device, progress=progress
    )
    causal: Any = None
    try:
        layers_check(raw, architecture)
        causal = load(attention=NAME)
        with ExitStack() as undo:
            paged = _paged_make(causal, raw, folder, undo)
            undo.pop_all()
        return paged
    except ModelError as error:
        if error.code != "unsupported_model":
            raise
        # Not the error, whose frames hold what was tried.
        reason = error.message
    causal = load(attention=None) if causal is None else causal
    attention_leave(causal)
    try:
        model = _sequences_make(causal, raw, folder)
    except ModelError as error:
        if error.code != "unsupported_model":
            raise
        raise ModelError(error.code, f"{reason} Nor is it sequence by sequence: {error.message}") from error
    logger.warning("%s is served sequence by sequence, which is slower. Over pages: %s", architecture, reason)
    return model


def _paged_make(causal: Any, raw: Any, folder: Path, undo: ExitStack) -> TransformersModel:
    """The model over our pages, if transformers confirms it; ``undo`` gets what it has changed in the modules."""
    architecture, device = type(causal).__name__, causal.device
    text = raw.get_text_config(decoder=True)
    fresh = tensors_inside(causal)
    _watch(causal, text)
    first = tensors_inside(causal)
    trunk, observation, sites, states = _watch(causal, text)
    # What only the first pass made, a table for instance, is no sequence's.
    kept = [place for place, value in tensors_inside(causal).items() if first.get(place) is not value]
    if kept:
        for module, name in kept:
            setattr(module, name, fresh.get((module, name)))
        raise ModelError(
            "unsupported_model", f"{architecture} is not served: it keeps tensors in its modules."
        )
    if not observation.specs and not (states and states.sequence_bytes):
        raise ModelError(
            "unsupported_model",
            f"{architecture} is not served: none of its layers goes through transformers' attention interface.",
        )
    undo.callback(sites.detach)
    sites.attach(trunk)
    undo.callback(trunk.detach)
    trunk.attach()
    if states is not None:
        undo.callback(states.detach)
        states.attach(sites)
    length = context_length_read(text, keeps_states=states is not None)
    config = BackendConfig(
        architecture=architecture,
        hidden_size=trunk.hidden_size,
        # Pages are what a scheduler counts: a model without attention has thin ones, which stay empty.
        num_layers=max(1, len(observation.specs)),
        num_kv_heads=max(observation.kv_heads, default=1),
        head_dim=max(1, observation.width),
        vocab_size=trunk.vocab_size,
        context_length=min(length, observation.context_limit or sys.maxsize),
        eos_ids=eos_ids_read(folder, getattr(text, "eos_token_id", None), vocab_size=trunk.vocab_size),
        revision=revision_read(folder),
        state_bytes=0 if states is None else states.sequence_bytes,
        state_rows=states is not None,
    )
    model = TransformersModel(
        trunk,
        config=config,
        observed=observation,
        sites=sites,
        states=states,
        device=device,
        dtype=causal.dtype,
    )
    _prove(model, causal, states)
    return model


def _watch(causal: Any, text: Any) -> tuple[Trunk, Observation, LinearSites, SequenceStates | None]:
    """What one short pass shows of the model."""
    sites = LinearSites(causal)
    observation = Observation()
    states = SequenceStates(causal, text) if keeps_states(text) else None
    watched = nullcontext({"use_cache": False}) if states is None else states.watching(causal)
    tokens = torch.arange(_OBSERVED_TOKENS, device=causal.device)[None]
    with (
        torch.inference_mode(),
        sites.counting(_OBSERVED_TOKENS),
        watched as options,
        step_announced(observation),
        observing(observation),
    ):
        trunk, _ = trunk_watch(causal, type(causal).__name__, tokens, {"position_ids": tokens, **options})
    return trunk, observation, sites, states


def _sequences_make(causal: Any, raw: Any, folder: Path) -> SequencesModel:
    """The model sequence by sequence, if transformers confirms it."""
    architecture = type(causal).__name__
    text = raw.get_text_config(decoder=True)
    sites = LinearSites(causal)
    positions = context_length_read(text, keeps_states=True)
    with torch.inference_mode(), faults_named(architecture, "a pass over text"):
        caches = OwnCaches(causal, architecture, sites, positions=positions)
    sites.attach(caches.trunk)
    caches.trunk.attach()
    config = BackendConfig(
        architecture=architecture,
        hidden_size=caches.trunk.hidden_size,
        # Thin pages, which stay empty.
        num_layers=1,
        num_kv_heads=1,
        head_dim=1,
        vocab_size=caches.trunk.vocab_size,
        # Positions from another number on leave the table's beginning unused.
        context_length=positions - caches.first_position,
        eos_ids=eos_ids_read(folder, getattr(text, "eos_token_id", None), vocab_size=caches.trunk.vocab_size),
        revision=revision_read(folder),
        state_bytes=caches.sequence_bytes,
        token_bytes=caches.token_bytes,
    )
    model = SequencesModel(
        config=config, caches=caches, sites=sites, device=causal.device, dtype=causal.dtype
    )
    _prove(model, causal, model)
    return model


def _prove(model: Model, causal: Any, keeper: SequenceStates | SequencesModel | None) -> None:
    """Raises ModelError for what transformers does not confirm. What is kept of sequences may not go on with several
    tokens at once, or not at all.
    """
    try:
        parity_check(model, causal)
    except ModelError:
        if keeper is None or not keeper.more_slowly():
            raise
        _prove(model, causal, keeper)


__all__ = ["NAME", "TransformersModel", "transformers_load"]
