"""What a comparison found, as text, as JSON, and as a row of the support table."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison; ``figures`` are numbers and texts worth keeping."""

    name: str
    passed: bool
    said: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """The checkpoint: its name and revision, never the folder it happens to lie in."""

    architecture: str
    name: str
    revision: str
    dtype: str
    decoder: str
    """``kindling``, or ``transformers`` where its modules serve."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one checkpoint."""

    subject: Subject
    checks: tuple[Check, ...]
    verified_by: str
    transformers_version: str

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            **asdict(self.subject),
            "transformers": self.transformers_version,
            "checks": [asdict(check) for check in self.checks],
            "row": self.row(),
        }

    def row(self) -> str:
        """``| architecture | parity on random weights | real checkpoint verified by, date |``"""
        subject = self.subject
        parity = "in the tests" if subject.decoder == "kindling" else "through transformers, at each start"
        outcome = "" if self.passed else "FAILED: "
        today = datetime.now(UTC).date().isoformat()
        checkpoint = f"{subject.name}@{subject.revision}"
        worst = next((check.figures["worst"] for check in self.checks if "worst" in check.figures), None)
        figures = f"{subject.dtype}" + (f", Δlogit {worst:.1e}" if worst is not None else "")
        return (
            f"| {subject.architecture} | {parity} | {outcome}{checkpoint} ({figures}) "
            f"by {self.verified_by}, {today} |"
        )
