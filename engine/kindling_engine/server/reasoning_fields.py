"""How much a model is to reason: OpenAI's reasoning_effort, and Anthropic's thinking."""

from dataclasses import dataclass
from typing import Any

from kindling_engine.server.errors import invalid_value, unsupported_field
from kindling_engine.server.fields import Fields

MAX_BUDGET = 1 << 31
# Tokens of reasoning that a word stands for; −1 sets no bound.
EFFORTS = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 4096,
    "high": 16384,
    "xhigh": 32768,
    "max": -1,
}
HISTORIES = ("disabled", "interleaved", "preserved")


@dataclass(frozen=True, slots=True)
class ReasoningAsk:
    """``field`` is the one that asked, empty when nobody did. ``budget`` is in tokens, −1 unbounded; ``effort`` the
    word that was used. ``history`` says which earlier reasoning the prompt shows; empty leaves that to the template.
    """

    field: str = ""
    budget: int = -1
    effort: str = ""
    history: str = ""

    def check(self, *, reasons: bool) -> None:
        """Errors: `unsupported_field` when a model that does not reason is asked to."""
        if self.field and self.budget and not reasons:
            raise unsupported_field(
                self.field, f"This model does not reason: leave {self.field} out, or switch reasoning off."
            )
        if self.history == "preserved" and not reasons:
            raise unsupported_field("reasoning_history", "This model does not reason.")


def reasoning_fields_read(fields: Fields) -> ReasoningAsk:
    """Read reasoning_effort, thinking and reasoning_history. Errors: `invalid_value`, `unsupported_field`."""
    effort, thinking = fields.take("reasoning_effort"), fields.object("thinking")
    history = "" if (given := fields.take("reasoning_history")) is None else given
    if given is not None and not (isinstance(given, str) and given in HISTORIES):
        raise invalid_value("reasoning_history", f"reasoning_history must be one of {', '.join(HISTORIES)}.")
    if effort is not None and thinking is not None:
        raise invalid_value("thinking", "Give either reasoning_effort or thinking, not both.")
    if effort is not None:
        budget, word = _effort(effort)
        return ReasoningAsk("reasoning_effort", budget, word, history)
    if thinking is not None:
        return ReasoningAsk("thinking", _thinking(thinking), "", history)
    return ReasoningAsk(history=history)


def _effort(value: Any) -> tuple[int, str]:
    if isinstance(value, bool):
        return (-1 if value else 0), ""
    if isinstance(value, str) and value in EFFORTS:
        return EFFORTS[value], value
    if isinstance(value, int) and 0 <= value <= MAX_BUDGET:
        return value, ""
    raise invalid_value(
        "reasoning_effort",
        f"reasoning_effort must be one of {', '.join(EFFORTS)}, true, false or a number of tokens.",
    )


def _thinking(value: dict[str, Any]) -> int:
    fields = Fields(value, "thinking.")
    kind = fields.need("type")
    if kind not in ("enabled", "disabled", "adaptive"):
        raise invalid_value("thinking.type", "thinking.type must be enabled, disabled or adaptive.")
    budget = fields.integer("budget_tokens", low=0, high=MAX_BUDGET)
    fields.end()
    if kind == "disabled":
        if budget:
            raise invalid_value("thinking.budget_tokens", "thinking.budget_tokens needs type enabled.")
        return 0
    return -1 if budget is None else budget
