"""One request's state from admission to its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from kindling_engine.kvcache.manager import BlockTable


class RequestState(Enum):
    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    PARKED = "parked"
    """Reached its grant, or is held; keeps its blocks, unless preempted, and takes no part in steps."""
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Request:
    """A prompt and what has been generated for it.

    ``tokens`` is prompt plus output. KV exists for the first ``computed`` of them, or will when the steps under way
    have ended; those draw ``ahead`` more tokens. ``payload`` belongs to the caller (sampling parameters, where to
    send tokens) and is not looked at here. Times are monotonic seconds. ``weight`` is its tenant's share against
    other tenants that wait.
    """

    id: str
    tokens: list[int]
    max_tokens: int
    grant: int
    adapter: str = ""
    salt: str = ""
    tenant: str = ""
    priority: int = 0
    weight: float = 1.0
    stop_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
    embeds: bool = False
    """Ends when its tokens are computed, and makes none."""
    uncached: bool = False
    """Computes every token of its prompt itself, since more than K and V are wanted of them."""
    waits_for_token: bool = False
    """Its next step needs the last token on the host, so it is never planned ahead of it."""
    arrived_s: float = 0.0
    payload: object = None
    drafting: object = None
    """What its drafts are made from, in the hands of whoever makes them; None where none may be tried."""

    prompt_len: int = field(init=False)
    state: RequestState = field(default=RequestState.NEW, init=False)
    table: BlockTable | None = field(default=None, init=False)
    computed: int = field(default=0, init=False)
    ahead: int = field(default=0, init=False)
    cached_tokens: int = field(default=0, init=False)
    admitted_s: float | None = field(default=None, init=False)
    adapter_wait_s: float | None = field(default=None, init=False)
    """How long its adapter took to be there; 0 where it was in memory, None without one."""
    parked_until_s: float = field(default=0.0, init=False)
    held: bool = field(default=False, init=False)
    """Takes part in no step until it is resumed: it has given its adapter's room to another."""
    risen: bool = field(default=False, init=False)
    """Gives way to no higher class: its turn came ahead of one, since its own had waited for long enough, or it has
    ``lost`` as many tokens as it has.
    """
    lost: int = field(default=0, init=False)
    """Tokens that were computed once more, since it gave its blocks up and they went to others."""
    had: int = field(default=0, init=False)
    """Of how many tokens it had the KV when it gave its blocks up."""
    claims: Sequence[bytes] = field(default=(), init=False)
    """Hashes of what it computes that others may wait to share."""
    drafted: int = field(default=0, init=False)
    """Tokens that were guessed before they were drawn; ``guessed`` of them right."""
    guessed: int = field(default=0, init=False)
    suspect: bool = field(default=False, init=False)
    """Its blocks may hold NaN: an adapter's output that no finite sample has vouched for yet."""

    def __post_init__(self) -> None:
        self.prompt_len = len(self.tokens)

    @property
    def made(self) -> int:
        return len(self.tokens) - self.prompt_len

    @property
    def remaining(self) -> int:
        """Tokens whose KV is still to be computed; 1 for a request in steady decode."""
        return len(self.tokens) + self.ahead - self.computed

    def start(self, cached: int, *, passed: bool) -> None:
        """It runs, with ``cached`` tokens to begin with; ``passed``: a higher class waits meanwhile."""
        self.lost += max(0, self.had - cached)
        self.risen = passed or self.lost >= len(self.tokens)
        self.computed, self.had = cached, 0

    def leave(self) -> None:
        """It has no blocks any more."""
        self.had = self.computed
        self.computed = self.ahead = 0
        self.suspect = False
