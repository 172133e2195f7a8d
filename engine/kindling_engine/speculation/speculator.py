"""Which guesses a step tries: as many as make its tokens come faster, and none where they would not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import takewhile

from kindling_engine.constraints.base import ForeseeableConstraint
from kindling_engine.scheduler.request import Request
from kindling_engine.speculation.costs import StepCosts
from kindling_engine.speculation.lookup import Guess, TextLookup
from kindling_engine.speculation.rates import Kind, Rates, Tallies

MOST_GUESSED = 15
"""Of one request in one step."""
_MOST_ROWS = 128
"""Of a step with guesses."""
_WORTH_IT = 1.03
"""How much faster tokens have to come, by what is known of costs and rates."""
_PATIENCE = 1.1
"""How much later tokens may come to a request because of the guesses of others."""
_LEAST_CHANCE = 0.05
"""That a guess is right, for a row to be spent on it."""


class RequestDrafting:
    """What the guesses of one request are made from, and how they fared; it hangs on ``Request.drafting``."""

    __slots__ = ("_lookup", "constraint", "kind", "tallies")

    def __init__(self, prediction: Sequence[int] = ()) -> None:
        self._lookup = TextLookup(prediction)
        self.constraint: ForeseeableConstraint | None = None
        """What the answer is bound by, if by anything."""
        self.tallies = Tallies()
        self.kind: Kind = "loose"
        """Of the guess that is being tried."""

    def guess(self, request: Request, count: int) -> Guess | None:
        """Up to ``count`` tokens that may come next: such as have to, else as the text has had them before. None would
        end the answer, as nothing comes behind that.
        """
        if self.constraint is not None and (forced := self.constraint.forced()):
            found: Guess | None = Guess(forced[:count], "forced")
        else:
            found = self._lookup.guess(request.tokens, request.prompt_len, count)
        if found is None:
            return None
        tokens = tuple(takewhile(lambda token: token not in request.stop_ids, found.tokens))
        if self.constraint is not None:
            tokens = tokens[: self.constraint.allowed(tokens)]
        return Guess(tokens, found.kind) if tokens else None


@dataclass(frozen=True, slots=True)
class _Try:
    """A guess, whose it is, and the chance that each of its tokens is right if those before it were."""

    owner: RequestDrafting
    guess: Guess
    chance: float


class Speculator:
    """Weighs guesses by what they bring: where a token is right with the chance p, the n-th of a guess brings pⁿ
    tokens, and rows cost what such steps took lately.

    ``drafted`` tokens were tried so far, and ``guessed`` of them came.
    """

    def __init__(self) -> None:
        self._costs = StepCosts()
        self.drafted = self.guessed = 0
        self._rates = Rates()

    def draft(
        self, requests: Sequence[Request], room: Mapping[str, int], spare: int
    ) -> dict[str, tuple[int, ...]]:
        """What to try in a step of one token each of ``requests``, by request: at most ``room`` tokens of each, and
        ``spare`` of all.
        """
        if spare < 1 or self._costs.seconds(len(requests)) is None:
            return {}
        tries = {one.id: found for one in requests if (found := self._try(one, room[one.id])) is not None}
        lengths = self._lengths(len(requests), tries, spare) if tries else {}
        for request_id, one in tries.items():
            if request_id in lengths:
                one.owner.kind = one.guess.kind
            else:
                self._rates.pass_over(one.owner.tallies, one.guess.kind)
        return {request_id: tries[request_id].guess.tokens[:length] for request_id, length in lengths.items()}

    def learn(self, request: Request, draft: Sequence[int], right: int) -> None:
        """Of what was tried the first ``right`` tokens came."""
        self.drafted += len(draft)
        self.guessed += right
        owner = request.drafting
        if isinstance(owner, RequestDrafting):
            self._rates.learn(owner.tallies, owner.kind, right, missed=right < len(draft))

    def timed(self, rows: int, seconds: float) -> None:
        """A step of ``rows`` tokens, none of them a prompt's, took so long."""
        self._costs.learn(rows, seconds)

    def _try(self, request: Request, room: int) -> _Try | None:
        owner = request.drafting
        if not isinstance(owner, RequestDrafting) or room < 1:
            return None
        guess = owner.guess(request, min(MOST_GUESSED, room))
        if guess is None:
            return None
        return _Try(owner, guess, self._rates.rate(owner.tallies, guess.kind))

    def _lengths(self, rows: int, tries: Mapping[str, _Try], spare: int) -> dict[str, int]:
        """How much of each guess to try, the likeliest tokens first: so that there are the most tokens a second, and
        nobody's come much later for another's guesses.
        """
        taken, expected = dict[str, int](), dict.fromkeys(tries, 1.0)
        heap = [(-one.chance, request_id) for request_id, one in tries.items()]
        heapify(heap)
        tokens, best = float(rows), dict[str, int]()
        plain_s = self._seconds(rows)
        fastest = _WORTH_IT * tokens / plain_s
        for more in range(1, min(spare, _MOST_ROWS - rows) + 1):
            chance, request_id = -heap[0][0], heap[0][1]
            if chance < _LEAST_CHANCE:
                break
            one = tries[request_id]
            taken[request_id] = taken.get(request_id, 0) + 1
            expected[request_id] += chance
            left = taken[request_id] < len(one.guess.tokens)
            heapreplace(heap, (-chance * one.chance if left else 0.0, request_id))
            tokens += chance
            seconds = self._seconds(rows + more)
            if tokens / seconds > fastest:
                least = min(expected.values()) if len(tries) == rows else 1.0
                if seconds <= plain_s * least * _PATIENCE:
                    fastest, best = tokens / seconds, dict(taken)
        return best

    def _seconds(self, rows: int) -> float:
        return max(self._costs.seconds(rows) or 0.0, 1e-9)
