"""The decoder behind every family: Llama and all that differ from it by what their configuration says."""

import torch
from torch import Tensor

from kindling_engine.jit.adapters import AdapterRows
from kindling_engine.jit.program import EndParts, LayerProgram, layer_program
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import LayerCache
from kindling_engine.layers.attention_paged import PagedAttention
from kindling_engine.layers.invariant import SingleRotary
from kindling_engine.layers.linear import Projection
from kindling_engine.layers.moe import SparseMlp
from kindling_engine.layers.rotary import Rotary, RotaryTables
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.models.base import StepInputs
from kindling_engine.models.config import DecoderConfig
from kindling_engine.models.decoder_layer import compiled_of
from kindling_engine.models.decoder_lora import lora_layout
from kindling_engine.models.decoder_weights import DecoderWeights
from kindling_engine.models.weight_forms import PLAIN, WeightForm
from kindling_engine.models.weights import Checkpoint

Called = tuple[LayerProgram, AdapterRows | None]
"""The compiled call of all layers for a step, and its adapters."""


class Decoder:
    """Pre-norm decoder with grouped-query attention and gated MLPs or mixtures of them."""

    def __init__(
        self,
        config: DecoderConfig,
        checkpoint: Checkpoint,
        device: torch.device,
        form: WeightForm = PLAIN,
        *,
        batch_invariant: bool = False,
    ) -> None:
        self.config = config
        self.device = device
        self.weight_form = form.name
        self.lora = lora_layout(config, checkpoint.folder)
        weights = DecoderWeights(config, checkpoint, device, form, batch_invariant=batch_invariant)
        self._embedding = weights.embedding()
        self.dtype = self._embedding.dtype
        # As the reference does it, the scale itself is rounded to the dtype of the weights.
        self._embedding_scale = float(torch.tensor(config.embedding_scale, dtype=self.dtype))
        self._head: Projection | None = None
        if config.task != "embed":
            # A checkpoint with tied embeddings may store the head as well; the flag decides. It is laid out while the
            # embedding is in memory.
            self._head = self._embedding.head() if config.tied_embeddings else weights.head()
        self._layers = [weights.layer(index) for index in range(config.num_layers)]
        self._norm = weights.final_norm()
        self.kv_scales = weights.kv_scales()
        weights.refuse_left()
        make_rotary = SingleRotary if batch_invariant else Rotary
        self._rotaries = [make_rotary(rotary, device) for rotary in config.rotaries]
        self._caches: list[LayerCache] = []
        self._program: LayerProgram | None = None

    @property
    def paged(self) -> PagedAttention | None:
        """Of its first layer: the attention that reads nothing of the host, if the device has one."""
        return self._layers[0].attention.paged

    @property
    def mixture(self) -> SparseMlp | None:
        """The mixture of experts of the first layer that has one."""
        return next((layer.mlp for layer in self._layers if isinstance(layer.mlp, SparseMlp)), None)

    def bind(self, storage: KvStorage) -> None:
        """Attach the KV pages that ``hidden`` reads and writes."""
        self._caches = [
            LayerCache(*pages, *slots, *scales, dtype=self.dtype)
            for pages, slots, scales in zip(storage.layers, storage.slots, storage.scales, strict=True)
        ]
        codes = [layer.attention.compiled for layer in self._layers]
        reads = [
            code.meet(cache) for code, cache in zip(codes, self._caches, strict=True) if code is not None
        ]
        parts = [layer.parts for layer in self._layers]
        whole = [one for one in parts if one is not None]
        compiled = len(whole) == len(parts) and all(reads)
        self._program = layer_program(whole, self._caches, self._end_parts()) if compiled else None

    def _end_parts(self) -> EndParts | None:
        head = compiled_of(self._head)
        return EndParts(self._norm, head) if head is not None and self._norm.compiled else None

    def forward(self, inputs: StepInputs) -> Tensor:
        """Logits ``[m, vocab]`` in fp32 for the wanted rows."""
        hidden, tables = self._entered(inputs)
        called = self._call_of(inputs, tables)
        if called is not None and inputs.logit_rows is None and inputs.lora_head is None:
            program, adapters = called
            if program.ends:
                return self._capped(program.logits(hidden, inputs.attention, tables, adapters))
        return self.logits(self._left(called, hidden, inputs, tables), inputs.lora_head)

    def reserve(self, sequences: int) -> None:
        """There is nothing but K and V."""

    def release(self, row: int) -> None:
        """There is nothing but K and V."""

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states ``[m, hidden]`` of the wanted rows; K and V of every token are stored on the
        way.
        """
        hidden, tables = self._entered(inputs)
        return self._left(self._call_of(inputs, tables), hidden, inputs, tables)

    def _entered(self, inputs: StepInputs) -> tuple[Tensor, list[RotaryTables]]:
        """States ``[n, hidden]`` in front of the layers, and how these rotate."""
        tables = [
            rotary.tables(inputs.positions, inputs.rotary_lengths, self.dtype) for rotary in self._rotaries
        ]
        hidden = self._embedding(inputs.tokens)
        if inputs.lora is not None:
            inputs.lora.add_table(hidden, inputs.tokens)
        if self._embedding_scale != 1.0:
            hidden = hidden * self._embedding_scale
        return hidden, tables

    def _call_of(self, inputs: StepInputs, tables: list[RotaryTables]) -> Called | None:
        """The compiled call of all layers, with its adapters; None for a step that it does not take."""
        program, lora = self._program, inputs.lora
        if program is None or not program.takes(inputs.attention, tables):
            return None
        if lora is None:
            return program, None
        # Many rows of one adapter, as a prompt has, are better multiplied together.
        if not program.adapts or inputs.attention.prefills:
            return None
        adapters = lora.seated(inputs.tokens.shape[0])
        return None if adapters is None else (program, adapters)

    def _left(
        self, called: Called | None, hidden: Tensor, inputs: StepInputs, tables: list[RotaryTables]
    ) -> Tensor:
        """Normed states of the wanted rows behind the layers."""
        if called is not None:
            program, adapters = called
            hidden, added = program(hidden, inputs.attention, tables, adapters)
        else:
            added = self._layer_by_layer(hidden, inputs, tables)
        if inputs.logit_rows is not None:
            hidden, added = (one.index_select(0, inputs.logit_rows) for one in (hidden, added))
        return self._norm.of_sum(hidden, added)

    def _layer_by_layer(self, hidden: Tensor, inputs: StepInputs, tables: list[RotaryTables]) -> Tensor:
        """What the last layer adds to ``hidden [n, hidden]``, which then has what the others do."""
        added: Tensor | None = None
        for layer, cache in zip(self._layers, self._caches, strict=True):
            added = layer(hidden, added, inputs, tables, cache)
        if added is None:
            raise RuntimeError("the decoder has no layers")
        return added

    def logits(self, hidden: Tensor, lora: LoraBatch | None = None) -> Tensor:
        """Logits ``[m, vocab]`` in fp32 of normed final states; an embedding model has none.

        ``lora`` are adapters of the head, by rows of ``hidden``.
        """
        if self._head is None:
            raise RuntimeError("an embedding model has no head")
        logits = self._head(hidden)
        if lora is not None:
            lora.add_head(logits, hidden)
        return self._capped(logits.float())

    def _capped(self, logits: Tensor) -> Tensor:
        cap = self.config.logit_softcap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)
