"""The sizes of a base model that an adapter's matrices must fit, by the paths that PEFT knows its modules by."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EMBEDDING, HEAD = "embed_tokens", "lm_head"
GATE_UP, DOWN = "gate_up_proj", "down_proj"
_LAYER_LINEAR = re.compile(
    r"layers\.(0|[1-9][0-9]{0,3})\.(?:self_attn\.([qkvo]_proj|qkv_proj)|mlp\.((?:gate|up|down|gate_up)_proj|gate|router))"
)
_LAYER_EXPERTS = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.mlp\.experts")
_EXPERT = re.compile(r"(.+\.experts)\.(0|[1-9][0-9]{0,4})\.((?:gate|up|down)_proj)")
_PREFIXES = {"Gemma3ForConditionalGeneration": "model.language_model."}
_FUSED = frozenset({"Phi3ForCausalLM"})
# Their experts are two parameters in which gate and up take turns; their layers have no other MLP.
_JOINED = frozenset({"GptOssForCausalLM"})
_MIXTURES = _JOINED | {"Qwen3MoeForCausalLM"}
# Their layers' names and widths follow from the sizes in the catalog; what other models have, only an engine knows.
DECODERS = _FUSED | _MIXTURES | {
    "LlamaForCausalLM", "SmolLM3ForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
    "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """Of a mixture's experts: how many, and the widths of the model and of each expert.

    ``interleaved``: outputs of gate and up take turns, and no expert is ever a layer by itself.
    """

    count: int
    hidden_size: int
    intermediate_size: int
    interleaved: bool = False

    def parameter(self, name: str) -> tuple[int, int]:
        """(input width, output width) of one expert's part of ``gate_up_proj`` or ``down_proj``."""
        if name == GATE_UP:
            return self.hidden_size, 2 * self.intermediate_size
        return self.intermediate_size, self.hidden_size

    def linear(self, name: str) -> tuple[int, int]:
        """(input width, output width) of one expert's ``gate_proj``, ``up_proj`` or ``down_proj``."""
        widths = (self.hidden_size, self.intermediate_size)
        return widths[::-1] if name == DOWN else widths


@dataclass(frozen=True, slots=True)
class BaseShape:
    """``linears`` gives the (input width, output width) of every layer that may be adapted, by its path; a ``*`` in a
    path stands for any number. ``embeddings`` gives the (rows, width) of tables likewise, ``experts`` the shape of
    each mixture. ``unseen`` are paths of modules that text does not pass through: their matrices may be there, and do
    nothing. Without ``linears``, all follow from the other sizes, as the families of decoders name them; a base
    that is ``open`` may have any layers, and what an adapter says of them is taken.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    ref: str
    linears: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    embeddings: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    experts: Mapping[str, ExpertShape] = field(default_factory=dict)
    num_experts: int = 0
    expert_size: int = 0
    unseen: frozenset[str] = frozenset()
    vocabulary_hash: str = ""
    open: bool = False

    @classmethod
    def of_catalog(
        cls,
        shapes: Mapping[str, int],
        *,
        architecture: str,
        vocab_size: int,
        ref: str,
        vocabulary_hash: str = "",
    ) -> Self:
        """From the sizes that the catalog keeps of a model."""
        mixture = architecture in _MIXTURES
        return cls(
            architecture=architecture,
            hidden_size=shapes["hidden_size"],
            intermediate_size=shapes["intermediate_size"],
            num_layers=shapes["num_layers"],
            num_heads=shapes["heads"],
            num_kv_heads=shapes["kv_heads"],
            head_dim=shapes["head_dim"],
            vocab_size=vocab_size,
            ref=ref,
            num_experts=shapes.get("experts", 0) if mixture else 0,
            expert_size=shapes.get("expert_size", 0) if mixture else 0,
            vocabulary_hash=vocabulary_hash,
            open=architecture not in DECODERS,
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """The short names of what may be adapted."""
        if self.linears:
            paths = [*self.linears, *self.embeddings]
            names = [path.rsplit(".", 1)[-1] for path in paths]
            apart = not all(mixture.interleaved for mixture in self.experts.values())
            names += [*(TARGETS[4:6] if apart else ()), DOWN, GATE_UP] if self.experts else []
            return tuple(dict.fromkeys(names))
        if self.architecture in _JOINED:
            return *TARGETS[:4], EMBEDDING, HEAD, *(("router", GATE_UP, DOWN) if self.num_experts else ())
        fused = ("qkv_proj", "o_proj", GATE_UP, DOWN)
        names = [*(fused if self.architecture in _FUSED else TARGETS), EMBEDDING, HEAD]
        return tuple(names + (["gate", GATE_UP] if self.num_experts else []))

    def knows(self, target: str) -> bool:
        """Whether a short name may stand among an adapter's targets.

        Lists for any model name layers of an MLP also where there is none; PEFT passes over them.
        """
        if target in self.targets or (self.architecture in _JOINED and target in TARGETS):
            return True
        return any(path.rsplit(".", 1)[-1] == target for path in self.unseen)

    def linear_at(self, path: str) -> tuple[int, int] | None:
        """(input width, output width) of the layer at a path such as ``model.layers.0.self_attn.q_proj``."""
        expert = _EXPERT.fullmatch(path)
        mixture = self.experts_at(expert[1]) if expert else None
        if expert and mixture and not mixture.interleaved:
            return mixture.linear(expert[3]) if int(expert[2]) < mixture.count else None
        if self.linears:
            return self.linears.get(path) or self.linears.get(_numbers_starred(path))
        if path == HEAD:
            return self.hidden_size, self.vocab_size
        match = _LAYER_LINEAR.fullmatch(self._inner(path))
        if match is None or int(match[1]) >= self.num_layers:
            return None
        return self._linears().get(match[2] or match[3])

    def embedding_at(self, path: str) -> tuple[int, int] | None:
        """(rows, width) of the table at a path such as ``model.embed_tokens``."""
        if self.linears:
            return self.embeddings.get(path)
        return (self.vocab_size, self.hidden_size) if self._inner(path) == EMBEDDING else None

    def experts_at(self, path: str) -> ExpertShape | None:
        """The mixture at a path such as ``model.layers.0.mlp.experts``."""
        if self.linears:
            return self.experts.get(path)
        match = _LAYER_EXPERTS.fullmatch(self._inner(path))
        if match is None or int(match[1]) >= self.num_layers or not self.num_experts:
            return None
        joined = self.architecture in _JOINED
        return ExpertShape(self.num_experts, self.hidden_size, self.expert_size, interleaved=joined)

    def linear(self, target: str) -> tuple[int, int]:
        """(input width, output width) of a linear layer by its name."""
        return self._linears()[target]

    def _linears(self) -> dict[str, tuple[int, int]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        heads, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        shared = {"o_proj": (heads, hidden), DOWN: (inner, hidden)}
        if self.architecture in _FUSED:
            return {"qkv_proj": (hidden, heads + 2 * kv), GATE_UP: (hidden, 2 * inner), **shared}
        router = (hidden, self.num_experts)
        attention = {"q_proj": (hidden, heads), "k_proj": (hidden, kv), "v_proj": (hidden, kv)}
        if self.architecture in _JOINED:
            return {
                **attention,
                "o_proj": shared["o_proj"],
                **({"router": router} if self.num_experts else {}),
            }
        return {
            **attention,
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            **shared,
            **({"gate": router} if self.num_experts else {}),
        }

    def _inner(self, path: str) -> str:
        """The path within the decoder; empty for what lies outside."""
        prefix = _PREFIXES.get(self.architecture, "model.")
        return path.removeprefix(prefix) if path.startswith(prefix) else ""


def _numbers_starred(path: str) -> str:
    """Numbers as transformers writes them; "01" is none."""
    return ".".join(
        "*" if part.isascii() and part.isdigit() and str(int(part)) == part else part
        for part in path.split(".")
    )
