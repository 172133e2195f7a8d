"""What the checks of an adapter speak of: the base's sizes, and a report of findings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kindling_engine.protocol.findings import Finding

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_DECODER_LINEAR = re.compile(
    r"model\.layers\.(0|[1-9][0-9]{0,3})\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"
)
MAX_RANK = 256
MAX_MESSAGE_CHARS = 500
SAVE_AGAIN = (
    "Save the adapter again with PEFT's save_pretrained(safe_serialization=True) and upload it whole."
)


@dataclass(frozen=True, slots=True)
class BaseShape:
    """The sizes of a base model that an adapter's matrices must fit.

    ``linears`` gives the (input width, output width) of every layer that may be adapted, by its path; a ``*`` in
    a path stands for any number. Without it, the layers are those of the Llama family, from the other sizes.
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

    @property
    def targets(self) -> tuple[str, ...]:
        """The short names of the layers that may be adapted."""
        if not self.linears:
            return TARGETS
        return tuple(dict.fromkeys(path.rsplit(".", 1)[-1] for path in self.linears))

    def linear_at(self, path: str) -> tuple[int, int] | None:
        """(input width, output width) of the layer at a path such as ``model.layers.0.self_attn.q_proj``."""
        if self.linears:
            return self.linears.get(path) or self.linears.get(_numbers_starred(path))
        match = _DECODER_LINEAR.fullmatch(path)
        if match is None or int(match[1]) >= self.num_layers:
            return None
        return self.linear(path.rsplit(".", 1)[1])

    def linear(self, target: str) -> tuple[int, int]:
        """(input width, output width) of a linear layer of the Llama family by its name."""
        heads, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden_size, heads),
            "k_proj": (self.hidden_size, kv),
            "v_proj": (self.hidden_size, kv),
            "o_proj": (heads, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }[target]


@dataclass(slots=True)
class AdapterReport:
    """The findings of a check and what could be read on the way."""

    findings: list[Finding] = field(default_factory=list)
    rank: int = 0
    target_modules: list[str] = field(default_factory=list)
    parameters: int = 0
    dtype: str = ""
    size_bytes: int = 0

    @property
    def ok(self) -> bool:
        """True when nothing failed; warnings may remain."""
        return all(finding.level != "fail" for finding in self.findings)

    def add(self, check: str, level: str, message: str, fix: str = "") -> None:
        """Note one finding."""
        self.findings.append(Finding(check, level, printable(message), fix))

    def failed(self, *checks: str) -> bool:
        """Whether one of these checks failed."""
        return any(finding.check in checks and finding.level == "fail" for finding in self.findings)


def _numbers_starred(path: str) -> str:
    """Numbers as transformers writes them; "01" is none."""
    return ".".join(
        "*" if part.isascii() and part.isdigit() and str(int(part)) == part else part
        for part in path.split(".")
    )


def printable(text: str) -> str:
    """Text from a stranger's file, fit for a database and a page: no control characters, no half surrogates."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text[:MAX_MESSAGE_CHARS])
    return shown.encode("utf-8", "replace").decode()
