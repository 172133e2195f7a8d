"""The part of the body that chat and plain completions share: limits, sampling, stops, streaming."""

from dataclasses import dataclass

from kindling_engine.protocol.sampling import Sampling
from kindling_engine.server.errors import invalid_value
from kindling_engine.server.fields import Fields, text_check

MAX_TOKENS_LIMIT = 1 << 31
MAX_STOPS = 4
MAX_STOP_CHARS = 1000
MAX_BIASES = 1024
MAX_STOP_TOKENS = 128
MAX_CHOICES = 16
MAX_ISOLATION_CHARS = 256
TIERS = ("auto", "default")
OTHER_TIERS = ("flex", "priority")
# A cache key is a hint about what to keep together; here every known prefix is found without one.
_CACHE_HINTS = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
IGNORED = ("user", "metadata", "store", "safety_identifier", *_CACHE_HINTS)


@dataclass(frozen=True, slots=True)
class CommonFields:
    """What was asked for; ``max_tokens`` None means that the route's default holds.

    ``shorten`` allows fewer tokens than ``max_tokens`` where the context has no room for all; ``truncate_to`` cuts
    the beginning off longer prompts. ``isolation`` keeps cached prefixes from requests with another key.
    """

    model: str
    max_tokens: int | None
    sampling: Sampling
    stops: tuple[str, ...]
    stream: bool
    shorten: bool
    ignored: tuple[str, ...]
    n: int
    include_stop: bool
    return_token_ids: bool
    truncate_to: int | None
    isolation: str
    perf: bool


def common_fields_read(fields: Fields, *, vocab_size: int, least_tokens: int = 1) -> CommonFields:
    """Read and check the shared fields. Errors: `missing_field`, `invalid_value`, `unsupported_field`."""
    model = text_check(fields.need("model"), "model", empty_ok=False)
    max_tokens = fields.integer("max_tokens", low=least_tokens, high=MAX_TOKENS_LIMIT)
    max_completion_tokens = fields.integer("max_completion_tokens", low=1, high=MAX_TOKENS_LIMIT)
    if max_tokens is not None and max_completion_tokens is not None:
        raise invalid_value(
            "max_completion_tokens", "Give either max_tokens or max_completion_tokens, not both."
        )
    stream = fields.boolean("stream")
    unused_options = _stream_options(fields, stream)
    _check_harmless(fields)
    return CommonFields(
        model=model,
        max_tokens=max_tokens if max_completion_tokens is None else max_completion_tokens,
        sampling=_sampling(fields, vocab_size),
        stops=_stops(fields),
        stream=stream,
        shorten=_shorten(fields),
        ignored=(*fields.present(*IGNORED), *_service_tier(fields), *unused_options),
        n=fields.integer("n", low=1, high=MAX_CHOICES) or 1,
        include_stop=fields.boolean("include_stop_str_in_output"),
        return_token_ids=fields.boolean("return_token_ids"),
        truncate_to=fields.integer("prompt_truncate_len", low=1, high=MAX_TOKENS_LIMIT),
        isolation=_isolation(fields),
        perf=fields.boolean("perf_metrics_in_response"),
    )


def _sampling(fields: Fields, vocab_size: int) -> Sampling:
    return Sampling(
        temperature=fields.number("temperature", low=0.0, high=2.0, default=1.0),
        top_p=fields.number("top_p", low=0.0, high=1.0, default=1.0),
        top_k=max(0, fields.integer("top_k", low=-1, high=1 << 31) or 0),
        min_p=fields.number("min_p", low=0.0, high=1.0, default=0.0),
        seed=fields.integer("seed", low=-(1 << 63), high=(1 << 63) - 1),
        repetition_penalty=fields.number("repetition_penalty", low=0.01, high=10.0, default=1.0),
        frequency_penalty=fields.number("frequency_penalty", low=-2.0, high=2.0, default=0.0),
        presence_penalty=fields.number("presence_penalty", low=-2.0, high=2.0, default=0.0),
        logit_bias=_logit_bias(fields, vocab_size),
        ignore_eos=fields.boolean("ignore_eos"),
        min_tokens=fields.integer("min_tokens", low=0, high=MAX_TOKENS_LIMIT) or 0,
        typical_p=fields.number("typical_p", low=0.0, high=1.0, default=1.0),
        stop_token_ids=_stop_token_ids(fields, vocab_size),
    )


def _logit_bias(fields: Fields, vocab_size: int) -> dict[int, float]:
    given = fields.object("logit_bias") or {}
    if len(given) > MAX_BIASES:
        raise invalid_value("logit_bias", f"logit_bias may name at most {MAX_BIASES} tokens.")
    biases = {}
    inner = Fields(given, "logit_bias.")
    for name in given:
        if not (name.isascii() and name.isdigit() and len(name) < 10 and int(name) < vocab_size):
            raise invalid_value(
                "logit_bias", f"logit_bias keys are token ids from 0 to {vocab_size - 1}, not {name[:40]!r}."
            )
        biases[int(name)] = inner.number(name, low=-100.0, high=100.0, default=0.0)
    return biases


def _stops(fields: Fields) -> tuple[str, ...]:
    given = fields.take("stop")
    if given is None:
        return ()
    stops = given if isinstance(given, list) else [given]
    if len(stops) > MAX_STOPS:
        raise invalid_value("stop", f"stop may hold at most {MAX_STOPS} strings.")
    for stop in stops:
        if len(text_check(stop, "stop", empty_ok=False)) > MAX_STOP_CHARS:
            raise invalid_value("stop", f"A stop string may have at most {MAX_STOP_CHARS} characters.")
    return tuple(stops)


def _stop_token_ids(fields: Fields, vocab_size: int) -> list[int]:
    given = fields.take("stop_token_ids")
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > MAX_STOP_TOKENS:
        raise invalid_value(
            "stop_token_ids", f"stop_token_ids must be a list of at most {MAX_STOP_TOKENS} ids."
        )
    if not all(type(one) is int and 0 <= one < vocab_size for one in given):
        raise invalid_value("stop_token_ids", f"stop_token_ids must hold ids from 0 to {vocab_size - 1}.")
    return given


def _shorten(fields: Fields) -> bool:
    behavior = fields.take("context_length_exceeded_behavior")
    if behavior not in (None, "error", "truncate"):
        name = "context_length_exceeded_behavior"
        raise invalid_value(name, f"{name} must be error or truncate.")
    return bool(behavior == "truncate")


def _isolation(fields: Fields) -> str:
    name = "prompt_cache_isolation_key"
    if (given := fields.take(name)) is None:
        return ""
    if len(text_check(given, name)) > MAX_ISOLATION_CHARS:
        raise invalid_value(name, f"{name} may have at most {MAX_ISOLATION_CHARS} characters.")
    return str(given)


def _service_tier(fields: Fields) -> tuple[str, ...]:
    """There is one tier; whoever asks for another one is told."""
    tier = fields.take("service_tier")
    if tier is not None and not (isinstance(tier, str) and tier in (*TIERS, *OTHER_TIERS)):
        raise invalid_value(
            "service_tier", f"service_tier must be one of {', '.join((*TIERS, *OTHER_TIERS))}."
        )
    return ("service_tier",) if tier in OTHER_TIERS else ()


def _stream_options(fields: Fields, stream: bool) -> tuple[str, ...]:
    """Those that were asked for and have no effect."""
    given = fields.object("stream_options")
    if given is None:
        return ()
    if not stream:
        raise invalid_value("stream_options", "stream_options needs stream to be true.")
    inner = Fields(given, "stream_options.")
    # The final usage chunk is always sent; whoever stands between us and the client drops it if unwanted.
    inner.boolean("include_usage")
    padded = inner.boolean("include_obfuscation")
    inner.end()
    return (inner.path("include_obfuscation"),) if padded else ()


def _check_harmless(fields: Fields) -> None:
    """Fields that are accepted only while they ask for what happens anyway."""
    fields.only("raw_output", False)
