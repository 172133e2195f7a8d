"""Tokens that a step tries before they are drawn, and what comes of them.

A request in steady decode may have a draft: guesses at its next tokens, which the step computes behind its last one, a
row each. Whatever is drawn at each place is what would have been drawn there one by one, so a guess that was drawn
stands, and so does the first token that was not guessed. What was computed behind it is void.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.scheduler.plan import ScheduledRow
from kindling_engine.scheduler.request import Request, RequestState
from kindling_engine.scheduler.rows import StepRows

logger = logging.getLogger(__name__)


class Drafter(Protocol):
    """Who makes drafts."""

    def draft(
        self, requests: Sequence[Request], room: Mapping[str, int], spare: int
    ) -> dict[str, tuple[int, ...]]:
        """Drafts by request, for a step of one token each of ``requests``: at most ``room`` tokens of each, and
        ``spare`` of all.
        """

    def learn(self, request: Request, draft: Sequence[int], right: int) -> None:
        """Of a draft the first ``right`` tokens were drawn."""

    def timed(self, rows: int, seconds: float) -> None:
        """A step of ``rows`` tokens, none of them a prompt's, took so long."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Tokens that stand, of which ``right`` had been guessed; ``spoilt``: something behind them was not finite."""

    tokens: list[int]
    right: int
    spoilt: bool


def drafts_add(drafter: Drafter, rows: StepRows, kv: KvManager, *, max_length: int, spare: int) -> None:
    """Add drafts of up to ``spare`` tokens to a step of nothing but decodes, where blocks are free for them."""
    if any(row.count > 1 or not row.samples or row.request.ahead for row in rows.by_id.values()):
        return
    requests = [row.request for row in rows.by_id.values()]
    if all(request.drafting is None for request in requests):
        return
    room = {request.id: _room(request, max_length) for request in requests}
    try:
        drafts = drafter.draft(requests, room, spare)
    except Exception:
        # No answer depends on a guess: whatever was wrong with one, these requests end without.
        logger.exception("%d requests are not guessed for any longer", len(requests))
        for request in requests:
            request.drafting = None
        return
    for request_id, draft in drafts.items():
        row = rows.by_id[request_id]
        table = row.request.table
        if table is None:
            continue
        fitting = draft[: (len(table.blocks) + kv.pool.free_count) * PAGE_SIZE - row.start - 1]
        if fitting and kv.grow(table, row.start + 1 + len(fitting)):
            rows.put(replace(row, count=1 + len(fitting), draft=fitting))


def verify(draft: Sequence[int], drawn: Sequence[int | None]) -> Verified:
    """``drawn`` are the token behind the request's last one, and those behind each of ``draft``."""
    right = 0
    while right < len(draft) and drawn[right] == draft[right]:
        right += 1
    tokens = [token for token in drawn[: right + 1] if token is not None]
    return Verified(tokens, right, None in drawn)


def draft_count(drafter: Drafter, row: ScheduledRow, right: int, stood: int) -> None:
    """Remember how a row's draft fared, of whose tokens ``stood`` were taken in: what was tried behind a request's end
    was neither right nor wrong.
    """
    request, right = row.request, min(right, stood)
    draft = row.draft[:stood] if request.state is RequestState.ENDED else row.draft
    request.drafted += len(draft)
    request.guessed += right
    drafter.learn(request, draft, right)


def _room(request: Request, max_length: int) -> int:
    """Tokens that may come before the last one that the request may make."""
    left = min(request.max_tokens, request.grant) - request.made
    return max(0, min(left, max_length - len(request.tokens)) - 1)
