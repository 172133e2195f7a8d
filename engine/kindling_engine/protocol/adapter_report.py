"""What the checks of an adapter speak of: the base's sizes, and a report of findings."""

from dataclasses import dataclass, field

from kindling_engine.protocol.ipc import Finding

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MAX_RANK = 256
MAX_MESSAGE_CHARS = 500
SAVE_AGAIN = (
    "Save the adapter again with PEFT's save_pretrained(safe_serialization=True) and upload it whole."
)


@dataclass(frozen=True, slots=True)
class BaseShape:
    """The sizes of a base model that an adapter's matrices must fit."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    ref: str

    def linear(self, target: str) -> tuple[int, int]:
        """(input width, output width) of a linear layer by its name."""
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


def printable(text: str) -> str:
    """Text from a stranger's file, fit for a database and a page: no control characters, no half surrogates."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text[:MAX_MESSAGE_CHARS])
    return shown.encode("utf-8", "replace").decode()
