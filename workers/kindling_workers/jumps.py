"""A clock that jumped ahead: on one machine the database's jumped with it, and only the ledger's newest row tells.

An installation that was off or idle for a week looks the same. So deadlines wait a while after it was first seen, for
whoever keeps the clock to put it right, and then it is believed: nobody is locked out, and nothing is lost by waiting.
"""

import time
from dataclasses import dataclass
from datetime import timedelta

from kindling_billing.models import LedgerTransaction
from kindling_platform.common.clock import now

MOST_AHEAD = timedelta(days=3)
# A clock that was wrong when the machine started is put right within minutes of the network's coming.
BELIEVED_AFTER_S = 900.0


@dataclass(slots=True)
class Jump:
    """Since when this process sees the clock far ahead of the ledger."""

    seen_at: float | None = None

    def is_doubted(self) -> bool:
        """Whether the clock is far ahead and that was seen a moment ago only."""
        if ledger_age() <= MOST_AHEAD:
            self.seen_at = None
            return False
        moment = time.monotonic()
        if self.seen_at is None:
            self.seen_at = moment
        return moment - self.seen_at < BELIEVED_AFTER_S


def ledger_age() -> timedelta:
    """How long ago, by this clock, the ledger was last written to; nothing when it never was. Ids grow with time."""
    newest = LedgerTransaction.objects.order_by("-id").values_list("posted_at", flat=True).first()
    return now() - newest if newest else timedelta(0)


jump = Jump()
