"""The decoder behind every family: Llama and all that differ from it by what their configuration says."""

import torch
from torch import Tensor

from kindling_engine.jit.program import LayerProgram, layer_program
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
from kindling_engine.models.decoder_lora import lora_layout
from kindling_engine.models.decoder_weights import DecoderWeights
from kindling_engine.models.weight_forms import PLAIN, WeightForm
from kindling_engine.models.weights import Checkpoint


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
        self._program = layer_program(whole, self._caches) if compiled else None

    def forward(self, inputs: StepInputs) -> Tensor:
        """Logits ``[m, vocab]`` in fp32 for the wanted rows."""
        return self.logits(self.hidden(inputs), inputs.lora_head)

    def reserve(self, sequences: int) -> None:
        """There is nothing but K and V."""

    def release(self, row: int) -> None:
        """There is nothing but K and V."""

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states ``[m, hidden]`` of the wanted rows; K and V of every token are stored on the
        way.
        """
        tables = [
            rotary.tables(inputs.positions, inputs.rotary_lengths, self.dtype) for rotary in self._rotaries
        ]
        hidden = self._embedding(inputs.tokens)
        if inputs.lora is not None:
            inputs.lora.add_table(hidden, inputs.tokens)
        if self._embedding_scale != 1.0:
            hidden = hidden * self._embedding_scale
        hidden, added = self._through_layers(hidden, inputs, tables)
        if inputs.logit_rows is not None:
            hidden, added = (one.index_select(0, inputs.logit_rows) for one in (hidden, added))
        return self._norm.of_sum(hidden, added)

    def _through_layers(
        self, hidden: Tensor, inputs: StepInputs, tables: list[RotaryTables]
    ) -> tuple[Tensor, Tensor]:
        """``hidden [n, hidden]`` behind all layers but for what the last one adds, and that."""
        program = self._program
        if program is not None and program.takes(inputs.attention, tables):
            lora, adapters = inputs.lora, None
            # Many rows of one adapter, as a prompt has, are better multiplied together.
            if lora is not None and program.adapts and not inputs.attention.prefills:
                adapters = lora.seated(hidden.shape[0])
            if lora is None or adapters is not None:
                return program(hidden, inputs.attention, tables, adapters)
        added: Tensor | None = None
        for layer, cache in zip(self._layers, self._caches, strict=True):
            added = layer(hidden, added, inputs, tables, cache)
        if added is None:
            raise RuntimeError("the decoder has no layers")
        return hidden, added

    def logits(self, hidden: Tensor, lora: LoraBatch | None = None) -> Tensor:
        """Logits ``[m, vocab]`` in fp32 of normed final states; an embedding model has none.

        ``lora`` are adapters of the head, by rows of ``hidden``.
        """
        if self._head is None:
            raise RuntimeError("an embedding model has no head")
        logits = self._head(hidden)
        if lora is not None:
            lora.add_head(logits, hidden)
        logits = logits.float()
        cap = self.config.logit_softcap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)
