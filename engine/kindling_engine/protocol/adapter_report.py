"""What the checks of an adapter put together: a report of findings."""

from dataclasses import dataclass, field

from kindling_engine.protocol.findings import Finding

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
UNSEEN = "unseen_modules"
FETCH_FAILED = "fetch"
"""Says nothing of the adapter: its files could not be brought to the engine."""
ENGINE_FAILED = "engine"
"""Says nothing of the adapter either: the engine failed with it in its hands."""
MAX_RANK = 256
MAX_MESSAGE_CHARS = 500
SAVE_AGAIN = (
    "Save the adapter again with PEFT's save_pretrained(safe_serialization=True) and upload it whole."
)


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
