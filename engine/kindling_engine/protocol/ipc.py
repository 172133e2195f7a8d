"""Messages between the engine's front and its core, and their framing on a Unix socket.

A frame is a little-endian u32 length and a msgpack map, tagged by message type. Nothing is pickled.
"""

import struct
from collections.abc import Iterator

import msgspec

from kindling_engine.protocol.findings import Finding
from kindling_engine.protocol.sampling import Constraint, Sampling, Thinking, TokenLogprobs

MAX_FRAME_BYTES = 64 * 1024 * 1024
LENGTH = struct.Struct("<I")


class Submit(msgspec.Struct, tag=True):
    """Start a request. It may make min(max_tokens, grant) tokens; logprobs −1 means none.

    `prompt_logprobs` asks the same of the prompt's own tokens, all but the first. `prediction_ids` are what the answer
    may become in good part; they change how soon it comes, and nothing else.
    """

    id: str
    prompt_ids: list[int]
    adapter: str = ""
    salt: str = ""
    tenant: str = ""
    priority: int = 0
    weight: float = 1.0
    max_tokens: int = 16
    grant: int = 16
    sampling: Sampling = Sampling()
    logprobs: int = -1
    prompt_logprobs: int = -1
    constraint: Constraint | None = None
    thinking: Thinking | None = None
    prediction_ids: list[int] = []


class SubmitAgain(msgspec.Struct, tag=True):
    """Start a request that is in all else like that of the last Submit on this connection: see protocol.repeats."""

    id: str
    grant: int
    seed: int | None


class Embed(msgspec.Struct, tag=True):
    """Turn a text into one vector."""

    id: str
    prompt_ids: list[int]
    adapter: str = ""
    salt: str = ""
    tenant: str = ""
    priority: int = 0
    weight: float = 1.0


class SetGrant(msgspec.Struct, tag=True):
    """Raise the total of output tokens that a request may make."""

    id: str
    tokens: int


class Cancel(msgspec.Struct, tag=True):
    """End a request within one step."""

    id: str


class LoadAdapter(msgspec.Struct, tag=True):
    """Load an adapter from a folder; with `check` also examine its values and generate a few tokens."""

    id: str
    adapter: str
    path: str
    check: bool = False


class PinAdapter(msgspec.Struct, tag=True):
    """Keep an adapter that is in memory there though nobody uses it, or no longer; answered by AdapterChanged."""

    id: str
    adapter: str
    pinned: bool


class UnloadAdapter(msgspec.Struct, tag=True):
    """Take an adapter out of memory, once the requests on it have ended; answered by AdapterChanged."""

    id: str
    adapter: str


class ListAdapters(msgspec.Struct, tag=True):
    """Ask for the state and tier of every adapter the core knows."""

    id: str


class CoreLoading(msgspec.Struct, tag=True):
    """How far the reading of the weights is; sent now and then before CoreReady."""

    done_bytes: int
    all_bytes: int


class CoreReady(msgspec.Struct, tag=True):
    """The model is loaded and has made a warm-up token, or vector when ``task`` is embed and not generate."""

    context_length: int
    vocab_size: int
    eos_ids: list[int]
    device: str
    dtype: str
    kv_blocks: int
    hidden_size: int = 0
    task: str = "generate"
    speculates: bool = False


class CoreFailed(msgspec.Struct, tag=True):
    """The core cannot start; it exits after this."""

    code: str
    message: str


class StepItem(msgspec.Struct):
    """What one step did for one request; `finish` is empty while it goes on.

    finish: stop | length | cancelled | grant_refused | error. An end-of-sequence token is in token_ids and counts.
    `adapter_ms` is how long of `queue_ms` it waited for its adapter: 0 where that was in memory, −1 without one.
    So far `drafted` of its tokens were guessed before they were drawn, and `guessed` of those right.
    """

    id: str
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] | None = None
    finish: str = ""
    error_code: str = ""
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    queue_ms: float = 0.0
    adapter_ms: float = -1.0
    parked: bool = False
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    drafted: int = 0
    guessed: int = 0


class Embedded(msgspec.Struct, tag=True):
    """The answer to Embed: `values` is the vector as little-endian float32, not normalised; empty on an error."""

    id: str
    values: bytes = b""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    finish: str = "stop"
    error_code: str = ""
    error: str = ""
    queue_ms: float = 0.0


class Step(msgspec.Struct, tag=True):
    """The results of one step."""

    items: list[StepItem]


class AdapterLoaded(msgspec.Struct, tag=True):
    """The answer to LoadAdapter."""

    id: str
    adapter: str
    ok: bool
    code: str = ""
    reason: str = ""
    findings: list[Finding] = []
    smoke_ids: list[int] = []


class AdapterState(msgspec.Struct):
    """Where an adapter is: tier is device, host, disk or store; in_use counts running requests.

    state: ready | arriving | loading | fetching | failed, the last with a reason. A pinned one stays though nobody uses
    it, unless it lies in ``borrowed_blocks`` of the KV cache: those go back to requests that need them.
    """

    adapter: str
    state: str
    tier: str
    rank: int = 0
    size_bytes: int = 0
    in_use: int = 0
    pinned: bool = False
    reason: str = ""
    borrowed_blocks: int = 0


class AdapterChanged(msgspec.Struct, tag=True):
    """The answer to PinAdapter and UnloadAdapter; ``found`` is false for an adapter that is in no memory."""

    id: str
    adapter: str
    found: bool


class AdapterList(msgspec.Struct, tag=True):
    """The answer to ListAdapters."""

    id: str
    items: list[AdapterState]


class Stats(msgspec.Struct, tag=True):
    """Load of the core, sent about once a second while it changes.

    No request holds ``free_blocks``, and adapters lie in ``lent_blocks`` of them. ``states`` of prefixes are kept in
    ``state_slots``, for models whose layers have one. From ``steps`` on, totals since the start: steps, their seconds,
    rows and tokens; prompt tokens of started requests and those of them that came out of the cache; of blocks, those
    that adapters borrowed and that requests called back; of tokens, those that were guessed before they were drawn,
    and those of them that were right; of adapters, those whose files were not on this disk, and which of them did not
    come.
    """

    active: int
    waiting: int
    free_blocks: int
    blocks: int = 0
    lent_blocks: int = 0
    states: int = 0
    state_slots: int = 0
    steps: int = 0
    step_s: float = 0.0
    rows: int = 0
    step_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    adapter_loads: int = 0
    adapter_evictions: int = 0
    adapter_steps_back: int = 0
    blocks_borrowed: int = 0
    blocks_recalled: int = 0
    drafted_tokens: int = 0
    guessed_tokens: int = 0
    adapter_fetches: int = 0
    adapter_fetch_failures: int = 0


ToCore = Submit | Embed | SetGrant | Cancel | LoadAdapter | PinAdapter | UnloadAdapter | ListAdapters
ToFront = (
    CoreLoading
    | CoreReady
    | CoreFailed
    | Step
    | Embedded
    | AdapterLoaded
    | AdapterChanged
    | AdapterList
    | Stats
)

_encoder = msgspec.msgpack.Encoder()
_to_core = msgspec.msgpack.Decoder(ToCore | SubmitAgain)
_to_front = msgspec.msgpack.Decoder(ToFront)


class FrameError(ValueError):
    """A frame is longer than any message may be, or is not a known message."""


def encode(message: ToCore | SubmitAgain | ToFront) -> bytes:
    """One message as a frame."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode_to_core(body: bytes) -> ToCore | SubmitAgain:
    """A frame's body as the core reads it."""
    try:
        message: ToCore | SubmitAgain = _to_core.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error
    return message


def decode_to_front(body: bytes) -> ToFront:
    """A frame's body as the front reads it."""
    try:
        message: ToFront = _to_front.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error
    return message


class FrameBuffer:
    """Cuts a byte stream into frame bodies."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a frame has begun whose end is still to come."""
        return bool(self._pending)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add received bytes; give every frame that is now whole."""
        self._pending += data
        while len(self._pending) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._pending)
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {size} bytes is longer than {MAX_FRAME_BYTES}")
            end = LENGTH.size + size
            if len(self._pending) < end:
                return
            body = bytes(self._pending[LENGTH.size : end])
            del self._pending[:end]
            yield body
