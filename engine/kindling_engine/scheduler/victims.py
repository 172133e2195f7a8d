"""Whose blocks or seat somebody more urgent gets."""

from collections import Counter
from collections.abc import Sequence

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.pool import BlockPool
from kindling_engine.scheduler.request import Request

_LITTLE = 2 * PAGE_SIZE


def for_blocks(request: Request, running: Sequence[Request], parked: Sequence[Request]) -> Request | None:
    """Who gives up blocks that a running request needs: a parked one first, then the least urgent that runs.

    `running` is in the order of urgency. Of those behind the request, the ones that are to keep their seats come
    last. None where the request itself is the last.
    """
    if parked:
        return parked[-1]
    behind = running[running.index(request) + 1 :]
    candidates = [one for one in behind if not one.risen] or behind
    return candidates[-1] if candidates else None


def giving_way(
    request: Request, running: Sequence[Request], pool: BlockPool, lacking: int = 0
) -> list[Request]:
    """Who gives way to a waiting request that lacks a seat or blocks: none at all if ``lacking`` would not come free.

    They are of lower priority classes, the least urgent first, but in this order: who finds nearly all of its work in
    the prefix cache again; then who has made a token, though its work is lost. A first prompt whose work would be lost
    is spared, as it frees its seat or can be found again soon. So is who has risen (see ``Request.risen``), which
    bounds what anybody loses by this: at most twice its length, as it has lost less than that before the last time.
    Of blocks only those count that nobody else shares.
    """
    lower = [
        one
        for one in reversed(running)
        if one.priority < request.priority and not (one.risen or one.held) and one.table is not None
    ]
    little = [one for one in lower if _loses_little(one)]
    chosen: list[Request] = []
    owners: Counter[int] = Counter()
    freed = 0
    for one in little + [one for one in lower if one.made and one not in little]:
        chosen.append(one)
        for block in one.table.blocks if one.table is not None else ():
            owners[block] += 1
            freed += owners[block] == pool.refs(block)
        if freed >= lacking:
            return chosen
    return []


def _loses_little(request: Request) -> bool:
    """Whether what it has computed can be found again but for a few tokens, as long as nobody needs the room."""
    if request.table is None or request.suspect or request.uncached:
        return request.computed <= _LITTLE
    return request.computed - request.table.published * PAGE_SIZE <= _LITTLE
