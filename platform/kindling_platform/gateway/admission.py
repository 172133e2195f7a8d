"""How much a request may spend: a bound for its prompt, then output tokens in small rolling grants."""

from dataclasses import dataclass

from kindling_billing.holds import HELD, hold_nano
from kindling_billing.rating import Price, event_cost_picousd
from kindling_platform.gateway.ask import Ask
from kindling_platform.gateway.errors import insufficient_credit
from kindling_platform.gateway.wallets import Wallets

GRANT_TOKENS = 512
PICO_PER_NANO = 1000


@dataclass(frozen=True, slots=True)
class Usage:
    """The engine's final counts of a request."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Admission:
    """The hold of one request; `granted` is the total of output tokens that it covers."""

    __slots__ = (
        *("_nothing", "_owner_id", "_price", "_prompt_picousd", "_wallets"),
        *("granted", "request_id", "touched", "wanted"),
    )

    def __init__(
        self,
        wallets: Wallets,
        *,
        owner_id: str,
        request_id: str,
        ask: Ask,
        price: Price,
        context_length: int,
        generates: bool = True,
    ) -> None:
        self._wallets = wallets
        self._owner_id = owner_id
        self._price = price
        # A request that makes no output still needs its prompt held: it starts below a grant of zero.
        self._nothing = 0 if generates else -1
        self._prompt_picousd = min(ask.prompt_tokens_bound, context_length * ask.texts) * price.input
        self.request_id = request_id
        each = min(ask.max_tokens or context_length, context_length)
        self.wanted = each * ask.answers if generates else 0
        self.granted = self._nothing
        self.touched = False

    async def admit(self, *, first_tokens: int) -> None:
        """Hold the prompt and up to `first_tokens` of output; raises 402 when not even one is affordable."""
        if not await self._grow(min(first_tokens, self.wanted)):
            raise insufficient_credit()

    async def extend(self) -> bool:
        """Add the next grant, or what is affordable of it; False when nothing is."""
        return await self._grow(min(self.granted + GRANT_TOKENS, self.wanted))

    async def move(self, request_id: str) -> None:
        """Move the hold to another request id, for a second try that the engine logs on its own."""
        tokens = self.granted
        self.release()
        self.request_id, self.granted = request_id, self._nothing
        await self.admit(first_tokens=tokens)

    def settle(self, usage: Usage) -> None:
        """The engine has counted: hold the cost until it is posted."""
        cost = event_cost_picousd(
            self._price,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
        )
        self._wallets.settle(self._owner_id, self.request_id, hold_nano(cost))

    def settle_unknown(self) -> None:
        """The request was cut and the engine's log knows the cost: keep the hold until it is posted."""
        self._wallets.settle(self._owner_id, self.request_id, None)

    def release(self) -> None:
        """The request costs nothing."""
        self._wallets.release(self._owner_id, self.request_id)

    async def _grow(self, tokens: int) -> bool:
        if tokens <= self.granted:
            return False
        self.touched = True  # before the call: one that is cancelled may have placed its hold
        reply = await self._wallets.acquire(self._owner_id, self.request_id, self._total_nano(tokens))
        if reply.state != HELD:
            tokens = min(tokens, self._affordable(reply.available_nano))
            if tokens <= self.granted:
                return False
            reply = await self._wallets.acquire(self._owner_id, self.request_id, self._total_nano(tokens))
        if reply.state == HELD:
            self.granted = tokens
        return reply.state == HELD

    def _total_nano(self, tokens: int) -> int:
        return hold_nano(self._prompt_picousd + tokens * self._price.output)

    def _affordable(self, available_nano: int) -> int:
        left = available_nano * PICO_PER_NANO - self._prompt_picousd
        if not self._price.output:
            return self.wanted if left >= 0 else 0
        return max(left // self._price.output, 0)
