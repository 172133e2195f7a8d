"""One of the answers that a request asks for, between its start in the core and its last token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kindling_engine.protocol.ipc import StepItem
from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.server.errors import ApiError, core_error
from kindling_engine.server.harmony.count import HarmonyCount
from kindling_engine.server.output_text import OutputText, TokenEntry
from kindling_engine.server.prediction_count import PredictionCount
from kindling_engine.server.reasoning import ReasoningCount
from kindling_engine.server.request_common import Prompt
from kindling_engine.server.usage import now_ms


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of one choice. ``finish`` is stop, length or grant_refused in its last piece, else empty.

    ``token_ids`` are the tokens made since the piece before, end tokens and those of text held back included; ``stop``
    is the stop string that ended the text.
    """

    index: int
    text: str
    entries: list[TokenEntry]
    token_ids: list[int]
    finish: str = ""
    stop: str = ""


@dataclass(slots=True)
class Answer:
    """All pieces of one choice together."""

    index: int
    text: str = ""
    entries: list[TokenEntry] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish: str = ""
    stop: str = ""


# What ends an answer where it is, once it has begun: the client's own grammar, or their own adapter, allows no more. As
# an error it would be free, and a way to have every answer for nothing.
CUT_BY_GRAMMAR = frozenset({"constraint_dead_end"})
CUT_BY_ADAPTER = CUT_BY_GRAMMAR | {"non_finite_logits"}


class Choice:
    """Turns the core's items into text. ``finish`` is set once no more will come.

    ``admitted``: the core has begun with it. ``stopped``: whoever asked wants no more of it, and the core's last words
    are awaited. ``cut_by``: codes of errors that cut an answer instead of failing it.
    """

    def __init__(
        self,
        *,
        id: str,
        index: int,
        prompt: Prompt,
        output: OutputText,
        end_ids: frozenset[int],
        echo: bool,
        scoring: bool,
    ) -> None:
        self.id = id
        self.index = index
        self.prompt = prompt
        self.prompt_tokens = len(prompt.ids)
        self.admitted = False
        self.stopped = False
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.logprob_sum = 0.0
        self.first_token_ms: int | None = None
        self.queue_ms = 0.0
        self.adapter_ms: float | None = None
        self.drafted = 0
        self.guessed = 0
        self.finish = ""
        self.cut_by = CUT_BY_GRAMMAR
        self.reasoning: ReasoningCount | HarmonyCount | None = None
        self.prediction: PredictionCount | None = None
        self._output = output
        self._end_ids = end_ids
        self._echo = echo
        self._scoring = scoring
        self._token_ids: list[int] = []
        self._token_s: float | None = None

    @property
    def reasoning_tokens(self) -> int:
        """Of the tokens made, those between the marks of reasoning."""
        return self.reasoning.tokens if self.reasoning else 0

    @property
    def accepted_tokens(self) -> int:
        """Of the tokens made, those that the client's prediction had."""
        return self.prediction.tokens if self.prediction else 0

    @property
    def mean_logprob(self) -> float:
        return self.logprob_sum / max(1, self.completion_tokens)

    def accept(self, item: StepItem) -> bool:
        """Take one item in; True when it completes a stop string, so that the core has to be told.

        Errors: whatever ended the request in the core.
        """
        if self.count(item):
            return not item.finish
        if item.finish:
            self._end(item)
        return False

    def count(self, item: StepItem) -> bool:
        """Take in an item's tokens and figures, but not how it ends; True when a stop string is complete, behind which
        no token counts.
        """
        if self._echo and (item.token_ids or item.finish):
            self._echo = False
            self._output.begin(self.prompt.text, self._prompt_entries(item.prompt_logprobs))
        self._count_figures(item)
        for index, token_id in enumerate(item.token_ids):
            if self._scoring:  # the token comes with the step that reads the prompt; nobody asked for it
                break
            logprobs = item.logprobs[index] if item.logprobs else None
            self._count_token(token_id, logprobs)
            last = index == len(item.token_ids) - 1
            if last and item.finish == "stop" and token_id in self._end_ids:
                self._output.accept_end(token_id)
                continue
            if self._output.accept(token_id, logprobs):
                self.finish = "stop"
                return True
        return False

    def since_last_s(self, now_s: float) -> float | None:
        """How long ago this was last asked, that is the time between tokens; None at the first ones."""
        last_s, self._token_s = self._token_s, now_s
        return None if last_s is None else now_s - last_s

    def take(self) -> Piece:
        """What is new since the last call."""
        text, entries = self._output.take()
        token_ids, self._token_ids = self._token_ids, []
        stop = self._output.matched if self.finish else ""
        return Piece(self.index, text, entries, token_ids, self.finish, stop)

    def _end(self, item: StepItem) -> None:
        if item.finish == "error":
            if item.error_code not in self.cut_by or not self.completion_tokens:
                raise core_error(item.error_code, item.error)
            self._output.end()
            self.finish = "length"
            return
        if item.finish == "cancelled" and self.stopped:
            self._output.end()
            self.finish = "length"
            return
        if item.finish == "cancelled":
            # Nobody but us cancels, and a reader is still here: the server is going down.
            raise ApiError(503, "engine_unavailable", "The engine is shutting down.", retry_after_s=2)
        stopped = self._output.end() or item.finish == "stop"
        self.finish = "stop" if stopped and not self._scoring else "length" if stopped else item.finish

    def _count_figures(self, item: StepItem) -> None:
        self.admitted |= item.prompt_tokens > 0 or bool(item.token_ids)
        self.prompt_tokens = item.prompt_tokens or self.prompt_tokens
        self.cached_tokens = max(self.cached_tokens, item.cached_tokens)
        self.queue_ms = item.queue_ms or self.queue_ms
        self.drafted, self.guessed = max(self.drafted, item.drafted), max(self.guessed, item.guessed)
        if item.adapter_ms >= 0:
            self.adapter_ms = item.adapter_ms

    def _count_token(self, token_id: int, logprobs: TokenLogprobs | None) -> None:
        self.completion_tokens += 1
        self._token_ids.append(token_id)
        if self.reasoning is not None:
            self.reasoning.feed((token_id,))
        if self.prediction is not None:
            self.prediction.feed(token_id)
        if logprobs is not None:
            self.logprob_sum += logprobs.logprob
        if self.first_token_ms is None:
            self.first_token_ms = now_ms()

    def _prompt_entries(self, logprobs: Sequence[TokenLogprobs | None] | None) -> list[TokenEntry]:
        if logprobs is None:
            return []
        return [
            TokenEntry(token_id, one, offset)
            for token_id, one, offset in zip(self.prompt.ids, logprobs, self.prompt.offsets, strict=True)
        ]


def answers_join(pieces: Sequence[Piece], count: int) -> list[Answer]:
    """The answers of ``count`` choices from all their pieces, in order of index."""
    answers = [Answer(index) for index in range(count)]
    texts: list[list[str]] = [[] for _ in range(count)]
    for piece in pieces:
        answer = answers[piece.index]
        texts[piece.index].append(piece.text)
        answer.entries += piece.entries
        answer.token_ids += piece.token_ids
        answer.finish = piece.finish or answer.finish
        answer.stop = piece.stop or answer.stop
    for answer, parts in zip(answers, texts, strict=True):
        answer.text = "".join(parts)
    return answers


def best_select(answers: Sequence[Answer], choices: Sequence[Choice], *, n: int, of: int) -> list[Answer]:
    """Of every ``of`` answers to one prompt the ``n`` whose tokens have the highest mean log-probability."""
    selected: list[Answer] = []
    for first in range(0, len(answers), of):
        ranked = sorted(range(first, first + of), key=lambda index: -choices[index].mean_logprob)
        selected += (answers[index] for index in ranked[:n])
    for index, answer in enumerate(selected):
        answer.index = index
    return selected
