"""Whose blocks or seat somebody more urgent gets."""

from collections.abc import Sequence

from kindling_engine.scheduler.request import Request


def for_blocks(request: Request, running: Sequence[Request], parked: Sequence[Request]) -> Request | None:
    """Who gives up blocks that a running request needs: a parked one first, then the least urgent that runs.

    `running` is in the order of urgency. None where the request itself is the last.
    """
    if parked:
        return parked[-1]
    return None if running[-1] is request else running[-1]


def outranked(request: Request, running: Sequence[Request]) -> Request | None:
    """Who gives way to a waiting request: the least urgent that runs, if it is of a lower priority class.

    What it has computed stays in the prefix cache for as long as nobody needs the room, so it loses little. One whose
    turn came because its class had waited for long enough keeps its seat, or its class would never get anywhere.
    """
    lower = (one for one in reversed(running) if one.priority < request.priority)
    return next((one for one in lower if not (one.risen or one.held)), None)
