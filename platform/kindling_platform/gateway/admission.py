"""How much a request may spend: a bound for its prompt, then output tokens in small rolling grants."""

from dataclasses import dataclass

from kindling_billing.admission import BUDGET, HELD, MOST_PICOUSD, STALE, Claim, Verdict
from kindling_billing.holds import hold_nano
from kindling_billing.rating import Price, event_cost_picousd
from kindling_platform.gateway.ask import Ask
from kindling_platform.gateway.auth import Caller, Keys
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.limits.caps import DEADLINE, MAX_COST, NO_CAPS, Caps
from kindling_platform.gateway.limits.headers import Pairs, rate_headers
from kindling_platform.gateway.limits.refusals import refusal
from kindling_platform.gateway.wallets import FREE, Wallets

GRANT_TOKENS = 512
SHORTAGES = ("credit", "budget")


@dataclass(frozen=True, slots=True)
class Usage:
    """The engine's final counts of a request."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0


class Admission:
    """The hold of one request; `granted` is the total of output tokens that it covers.

    `limited_by` names what ends the answer before the model does: max_cost, deadline_ms, credit or budget.
    """

    __slots__ = (
        *(
            "_admitted_us",
            "_caller",
            "_charged",
            "_keys",
            "_nothing",
            "_price",
            "_prompt_picousd",
            "_prompt_tokens",
        ),
        *("_verdict", "_wallets", "granted", "limited_by", "request_id", "touched", "wanted"),
    )

    def __init__(
        self,
        wallets: Wallets,
        *,
        caller: Caller,
        keys: Keys,
        request_id: str,
        ask: Ask,
        price: Price,
        context_length: int,
        generates: bool = True,
        caps: Caps = NO_CAPS,
    ) -> None:
        self._wallets = wallets
        self._caller = caller
        self._keys = keys
        self._price = price
        # A request that makes no output still needs its prompt held: it starts below a grant of zero.
        self._nothing = 0 if generates else -1
        self._prompt_tokens = min(ask.prompt_tokens_bound, context_length * ask.texts)
        self._prompt_picousd = self._prompt_tokens * price.input
        self.request_id = request_id
        each = min(ask.max_tokens or context_length, context_length)
        self.wanted = each * ask.answers if generates else 0
        self.granted = self._nothing
        self.limited_by = ""
        self.touched = False
        self._charged = 0
        self._admitted_us = 0
        self._verdict = Verdict("")
        self._cap(MOST_PICOUSD, "credit")
        if caps.max_cost_picousd is not None:
            self._cap(caps.max_cost_picousd, MAX_COST)

    async def admit(self, *, first_tokens: int) -> None:
        """Hold the prompt and up to `first_tokens` of output, or what is affordable of them.

        Raises:
            GatewayError: 402 when not even one token is affordable, 429 for limits, 401 for a key that was revoked.

        A caller whom no rates bind gets all that is wanted or nothing: no answer of a batch is cut for want of money.
        """
        tokens = self.wanted if not self._caller.rated else min(first_tokens, self.wanted)
        verdict = await self._ask(tokens, self._units(tokens), is_first=True)
        if verdict.state != HELD:
            raise refusal(self._caller.limit_scopes, verdict)
        self._admitted_us = verdict.now_us
        self._charged = min(tokens, GRANT_TOKENS)
        self._note_shortage(verdict, tokens)

    async def extend(self) -> bool:
        """Add the next grant, or what is affordable of it; False when nothing is."""
        tokens = min(self.granted + GRANT_TOKENS, self.wanted)
        if tokens <= self.granted:
            return False
        grown = max(tokens - max(self._charged, self.granted), 0)
        verdict = await self._ask(tokens, (0, 0, 0, grown), is_first=False)
        if verdict.state != HELD:
            self.limited_by = "budget" if verdict.state == BUDGET else "credit"
            return False
        self._charged += grown
        self._note_shortage(verdict, tokens)
        return True

    async def move(self, request_id: str) -> None:
        """Move the hold to another request id, for a second try that the engine logs on its own."""
        verdict = await self._ask(
            self.granted,
            self._units(self.granted),
            is_first=True,
            taken_from=self.request_id,
            moved_to=request_id,
        )
        if verdict.state != HELD:
            raise refusal(self._caller.limit_scopes, verdict)

    @property
    def is_admitted(self) -> bool:
        return self._verdict.state == HELD

    def limit(self) -> str:
        """`limited_by` as of now."""
        return self.limited_by

    def cut(self) -> None:
        """The request's own deadline is over."""
        self.limited_by = DEADLINE

    def headers(self) -> Pairs:
        """What tells the client of its limits; after `admit`."""
        pairs = rate_headers(self._caller.limit_scopes, self._verdict)
        if self.limited_by == MAX_COST:
            pairs.append((b"x-kindling-max-tokens", b"%d" % self.wanted))
        return pairs

    def settle(self, usage: Usage) -> None:
        """The engine has counted: hold the cost until it is posted."""
        cost = event_cost_picousd(
            self._price,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        )
        made = (usage.prompt_tokens, usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens)
        self._end(hold_nano(cost), self._corrections(made))

    def settle_unknown(self) -> None:
        """The request was cut and the engine's log knows the cost: keep the hold until it is posted."""
        self._end(None, ())

    def release(self) -> None:
        """The request costs nothing."""
        self._end(FREE, self._corrections((0, 0, 0)))

    def _end(self, cost_nano: int | None, corrections: tuple[tuple[int, int, int], ...]) -> None:
        self._wallets.settle(
            self._caller.payer,
            self.request_id,
            cost_nano,
            corrections=corrections,
            admitted_us=self._admitted_us,
        )

    async def _ask(
        self,
        tokens: int,
        units: tuple[int, int, int, int],
        *,
        is_first: bool,
        taken_from: str = "",
        moved_to: str = "",
    ) -> Verdict:
        self.touched = True  # before the call: one that is cancelled may have placed its hold
        least = max(self.granted + 1, 0) if not moved_to else max(self.granted, 0)
        if not self._caller.rated:
            least = max(tokens, 0)
        claim = Claim(
            request_id=moved_to or self.request_id,
            prompt_picousd=min(self._prompt_picousd, MOST_PICOUSD),
            price_picousd=self._price.dearest_output,
            tokens=max(tokens, 0),
            least=least,
            units=units,
            is_first=is_first,
            taken_from=taken_from,
        )
        verdict = await self._admit(claim)
        self._verdict = verdict
        if verdict.state == HELD:
            self.request_id = claim.request_id
            self.granted = verdict.tokens
        return verdict

    async def _admit(self, claim: Claim) -> Verdict:
        for _ in range(2):
            verdict = await self._wallets.admit(self._caller.payer, claim)
            if verdict.state != STALE:
                return verdict
            self._caller = await self._keys.renew(self._caller, verdict.epoch)
        raise books_unavailable()

    def _note_shortage(self, verdict: Verdict, tokens: int) -> None:
        if self.granted >= tokens:
            self.limited_by = "" if self.limited_by in SHORTAGES else self.limited_by
            return
        budgets = [state.left_nano for state in verdict.scopes if state.left_nano is not None]
        self.limited_by = (
            "budget" if min(budgets, default=verdict.left_nano + 1) <= verdict.left_nano else "credit"
        )

    def _units(self, tokens: int) -> tuple[int, int, int, int]:
        # An answer may end long before its limit, so no more than a grant counts as made until it is.
        return (1, self._prompt_tokens, self._prompt_tokens, min(max(tokens, 0), GRANT_TOKENS))

    def _corrections(self, made: tuple[int, int, int]) -> tuple[tuple[int, int, int], ...]:
        charged = (self._prompt_tokens, self._prompt_tokens, self._charged)
        found = []
        for limits in (scope.limits for scope in self._caller.limit_scopes):
            each = [
                real - (estimate if limits.rates[bucket] is None else min(estimate, limits.bursts[bucket]))
                for bucket, (real, estimate) in enumerate(zip(made, charged, strict=True), start=1)
            ]
            found.append((each[0], each[1], each[2]))
        return tuple(found)

    def _cap(self, most_picousd: int, name: str) -> None:
        """Want no more tokens than an amount buys."""
        left = most_picousd - self._prompt_picousd
        each = self._price.dearest_output
        affordable = left // each if each else (self.wanted if left >= 0 else -1)
        if affordable >= self.wanted:
            return
        if affordable < 1 and (name == MAX_COST or left < 0):
            message = (
                "The prompt of this request may cost more than its max_cost: a token is counted for each byte."
                if name == MAX_COST
                else "This request is too expensive to be admitted."
            )
            raise GatewayError(402, "max_cost_exceeded", message, param=name if name == MAX_COST else None)
        self.wanted, self.limited_by = affordable, name
