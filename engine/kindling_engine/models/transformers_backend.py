"""Any other causal model: transformers' own modules, with our paged attention, scheduler, sampling and LoRA around.

transformers is imported here and not before, so that models with a decoder of ours start without it.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import LayerCache, attention_for
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.models.base import StepInputs
from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import revision_read
from kindling_engine.models.memory import out_of_memory
from kindling_engine.models.transformers_backend_attention import (
    NAME,
    PagedStep,
    attention_register,
    step_announced,
)
from kindling_engine.models.transformers_backend_check import parity_check
from kindling_engine.models.transformers_backend_config import (
    BackendConfig,
    context_length_read,
    eos_ids_read,
    transformers_config_read,
)
from kindling_engine.models.transformers_backend_lora import LinearSites
from kindling_engine.models.transformers_backend_observe import Observation, observing
from kindling_engine.models.transformers_backend_states import SequenceStates, keeps_states
from kindling_engine.models.transformers_backend_weights import causal_load
from kindling_engine.models.weights import LoadProgress

_OBSERVED_TOKENS = 3


class TransformersModel:
    """A model of transformers behind the engine's interface; its layers are told apart by the order of their
    attention calls.
    """

    def __init__(
        self,
        causal: Any,
        *,
        config: BackendConfig,
        trunk: Any,
        observed: Observation,
        sites: LinearSites,
        states: SequenceStates | None,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype: torch.dtype = causal.dtype
        self._causal = causal
        self._trunk = trunk
        self._trunk_forward: Callable[..., Any] = trunk.forward
        self._output_type: type[Any] | None = None
        self._given: Tensor | None = None
        self._specs = observed.specs
        self._kv_heads = observed.kv_heads
        self._sites = sites
        self._states = states
        self._attention = attention_for(device)
        self._caches: list[LayerCache] = []
        trunk.forward = self._trunk_or_given

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

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states ``[m, hidden]`` of the wanted rows."""
        step = PagedStep(inputs.attention, self._caches, self._specs, self._attention)
        states = (
            nullcontext({"use_cache": False})
            if self._states is None
            else self._states.step(inputs.sequences, self.device)
        )
        with step_announced(step), self._sites.applied(inputs.lora), states as options:
            output = self._trunk(
                input_ids=inputs.tokens[None], position_ids=inputs.positions[None], **options
            )
        self._output_type = type(output)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden if inputs.logit_rows is None else hidden.index_select(0, inputs.logit_rows)

    def logits(self, hidden: Tensor, lora: LoraBatch | None = None) -> Tensor:
        """Logits ``[m, vocab]`` in fp32, by whatever the model does behind its last layer: scale, cap, project.

        There are no adapters of the head here.
        """
        self._given = hidden[None]
        try:
            tokens = torch.zeros((1, hidden.shape[0]), dtype=torch.int64, device=self.device)
            logits: Tensor = self._causal(input_ids=tokens, use_cache=False).logits
        finally:
            self._given = None
        return logits[0].float()

    def forward(self, inputs: StepInputs) -> Tensor:
        return self.logits(self.hidden(inputs))

    def _trunk_or_given(self, *arguments: Any, **options: Any) -> Any:
        """The trunk's pass; or, while ``logits`` asks, the states it has made before."""
        if self._given is None or self._output_type is None:
            return self._trunk_forward(*arguments, **options)
        return self._output_type(last_hidden_state=self._given)


def transformers_load(
    folder: Path,
    *,
    architecture: str,
    device: torch.device,
    dtype: torch.dtype,
    progress: LoadProgress | None = None,
) -> TransformersModel:
    """Load a causal model of the installed transformers.

    Raises ModelError for one that cannot be served so, with the cause; the checkpoint's own code is never run.
    """
    attention_register()
    raw = transformers_config_read(folder, architecture)
    text = raw.get_text_config(decoder=True)
    causal = causal_load(
        folder, raw, architecture=architecture, dtype=dtype, device=device, progress=progress
    )
    sites = LinearSites(causal)
    observation = Observation()
    states = SequenceStates(causal, text) if keeps_states(text) else None
    watched = nullcontext({"use_cache": False}) if states is None else states.watching(causal)
    with torch.inference_mode(), sites.counting(_OBSERVED_TOKENS), watched as options:
        trunk, hidden_size, vocab_size = _observe(causal, observation, device, architecture, options)
    if not observation.specs and not (states and states.sequence_bytes):
        raise ModelError(
            "unsupported_model",
            f"{architecture} is not served: none of its layers goes through transformers' attention interface.",
        )
    sites.attach()
    if states is not None:
        states.attach(sites)
    length = context_length_read(text, keeps_states=states is not None)
    config = BackendConfig(
        architecture=architecture,
        hidden_size=hidden_size,
        # Pages are what a scheduler counts: a model without attention has thin ones, which stay empty.
        num_layers=max(1, len(observation.specs)),
        num_kv_heads=max(observation.kv_heads, default=1),
        head_dim=max(1, observation.width),
        vocab_size=min(vocab_size, causal.get_input_embeddings().weight.shape[0]),
        context_length=min(length, observation.context_limit or sys.maxsize),
        eos_ids=eos_ids_read(folder, text),
        revision=revision_read(folder),
        state_bytes=0 if states is None else states.sequence_bytes,
    )
    model = TransformersModel(
        causal, config=config, trunk=trunk, observed=observation, sites=sites, states=states, device=device
    )
    _prove(model, causal, states)
    return model


def _prove(model: TransformersModel, causal: Any, states: SequenceStates | None) -> None:
    """Raises ModelError for what transformers does not confirm; states that cannot go on with several tokens at once
    go on with one.
    """
    try:
        parity_check(model, causal)
    except ModelError:
        if states is None:
            raise
        states.goes_on = False
        parity_check(model, causal)


def _observe(
    causal: Any, observation: Observation, device: torch.device, architecture: str, options: dict[str, Any]
) -> tuple[Any, int, int]:
    """Run a short pass; gives the module that holds all layers, and the widths of its output and of the logits."""
    called: list[tuple[Any, Any]] = []
    handles = [
        module.register_forward_hook(lambda module, _, output: called.append((module, output)))
        for module in _trunk_candidates(causal)
    ]
    tokens = torch.arange(_OBSERVED_TOKENS, device=device)[None]
    try:
        with step_announced(observation), observing(observation):
            logits = causal(input_ids=tokens, position_ids=tokens, **options).logits
    except ModelError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        # Modules that want images, cannot take positions or look into the mask fail here in ways of their own.
        said = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(
            "unsupported_model", f"{architecture} is not served: a plain pass over text fails ({said})."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    # The outermost ends last.
    whole = [(module, output) for module, output in called if _states(output) is not None]
    if not whole:
        raise ModelError("unsupported_model", f"{architecture} is not served: its layers stand in no module.")
    _uncalled_release(causal, {id(module) for module, _ in called})
    trunk, output = whole[-1]
    return trunk, output.last_hidden_state.shape[-1], logits.shape[-1]


def _states(output: Any) -> Any:
    return getattr(output, "last_hidden_state", None)


def _uncalled_release(causal: Any, called: set[int]) -> None:
    """Let go of the weights of whole models within this one that text does not pass through: what sees or hears."""
    for module in _trunk_candidates(causal):
        if not any(id(part) in called for part in module.modules()):
            for parameter in module.parameters():
                parameter.data = parameter.data.new_empty(0)


def _trunk_candidates(causal: Any) -> Iterable[Any]:
    from transformers import PreTrainedModel

    return [
        module for module in causal.modules() if isinstance(module, PreTrainedModel) and module is not causal
    ]


__all__ = ["NAME", "TransformersModel", "transformers_load"]
