"""What has ended on its way to Valkey: told in company, and owed while nobody listens."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kindling_billing import admission
from kindling_billing.admission import Payer
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.valkey import Valkey, ValkeyUnavailableError

# What a request has cost stays held until it is posted: a rater that is away must not free it to be spent again.
POSTING_MS = 86_400_000
MOST_OWED = 50_000
# What ends waits so long for company, or for an admission to ride with: each write is a system call.
WITHIN_S = 0.002
CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended: its cost in nano-dollars (None: all that it held), tokens beyond the estimate."""

    payer: Payer
    request_id: str
    cost_nano: int | None
    corrections: tuple[tuple[int, int, int], ...]
    admitted_us: int
    put_back: bool


class Settlements:
    """Nobody waits for them, so that they outlive their requests. `may_tell` says whether Valkey is up to date.

    `told_late` hears of those that Valkey learns of when they may be posted already, once it knows them.
    """

    def __init__(
        self,
        valkey: Valkey,
        log: Log,
        *,
        may_tell: Callable[[], bool],
        told_late: Callable[[list[Ended]], object],
    ) -> None:
        self._valkey = valkey
        self._log = log
        self._may_tell = may_tell
        self._told_late = told_late
        self._ended: list[Ended] = []
        self._timer: asyncio.TimerHandle | None = None
        self._owed: dict[str, Ended] = {}
        self._telling = 0
        self._all_told: asyncio.Future[None] | None = None

    @property
    def owes(self) -> bool:
        """Whether there is something that Valkey could not be told."""
        return bool(self._owed)

    def add(self, ended: Ended, *, is_last: bool) -> None:
        """Tell of it soon, or at once where it is the last: then there is no company to wait for."""
        self._ended.append(ended)
        if is_last:
            self.tell()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WITHIN_S, self.tell)

    def tell(self) -> None:
        """Tell of all that has ended, in one write."""
        if not self._ended:
            return
        if self._timer:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        if not self._may_tell():
            self._owe(ended)
            return
        self._telling += 1
        calls = [(one.payer.script_keys, _args(one)) for one in ended]
        self._valkey.tell("finish", calls, lambda count: self._told(ended, count))

    async def pay(self) -> bool:
        """Tell of what is owed; False when Valkey goes away meanwhile."""
        paid: list[Ended] = []
        try:
            for request_id, ended in list(self._owed.items()):
                await self._valkey.run("finish", ended.payer.script_keys, _args(ended))
                self._owed.pop(request_id, None)
                paid.append(ended)
        except ValkeyUnavailableError:
            return False
        finally:
            if paid:
                self._told_late(paid)
        return True

    async def close(self) -> None:
        """Tell of the rest and hear the replies, for at most a second."""
        self.tell()
        if self._telling:
            self._all_told = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._all_told}, timeout=CLOSE_S)

    def _told(self, ended: list[Ended], count: int) -> None:
        self._telling -= 1
        if self._all_told and not self._telling and not self._all_told.done():
            self._all_told.set_result(None)
        if late := [one for one in ended[:count] if one.put_back]:
            self._told_late(late)
        self._owe(ended[count:])

    def _owe(self, untold: list[Ended]) -> None:
        """Told when Valkey is back; failing that the rater removes the hold, or its lease ends."""
        for ended in untold:
            self._log.debug("hold_not_reached", org=ended.payer.owner_id, request_id=ended.request_id)
            self._owed[ended.request_id] = ended
            if len(self._owed) > MOST_OWED:
                del self._owed[next(iter(self._owed))]


def _args(ended: Ended) -> list[str]:
    return admission.finish_args(
        ended.payer,
        request_id=ended.request_id,
        cost_nano=ended.cost_nano,
        corrections=ended.corrections,
        posting_ms=POSTING_MS,
        admitted_us=ended.admitted_us,
        put_back=ended.put_back,
    )
