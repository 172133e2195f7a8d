"""The bench's plan: each kind of request over 1, 8 and 64 connections, then many with clients that leave."""

import statistics
from contextlib import ExitStack
from dataclasses import dataclass

from kindling_platform.embedded.bench_gateway.load import Load, LoadError, Target, load_run
from kindling_platform.embedded.bench_gateway.meter import cpu_s, rss_mb
from kindling_platform.embedded.bench_gateway.peers import (
    Peer,
    litellm_python,
    litellm_started,
    portkey_script,
    portkey_started,
)
from kindling_platform.embedded.bench_gateway.subject import Subject, gateway_running, upstream_running
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import hold_port

PLAIN, STREAM50, STREAM500 = Load("plain", 8, False), Load("stream50", 50, True), Load("stream500", 500, True)
LEAVERS = Load("leavers", 20, True)
# What each peer is asked.
RIVALS = {"litellm": (PLAIN, STREAM50), "portkey": (PLAIN,)}
LEAVING = 0.2
CONNECTIONS = (1, 8, 64)
# Where the CPU of a request is read: busy enough that no core idles, and no queue of its own.
USUAL = 8
ROUNDS = 4
# Of our requests a peer gets one in so many: each takes it ten times as long.
PEERS_PART = 8


@dataclass(frozen=True, slots=True)
class Size:
    """How many requests of each kind."""

    counts: dict[str, int]
    leavers: int

    def of(self, load: Load) -> int:
        return self.counts[load.name]


FULL = Size({"plain": 4_000, "stream50": 1_000, "stream500": 160}, 200_000)
QUICK = Size({"plain": 800, "stream50": 200, "stream500": 64}, 2_000)


def gateway_bench(
    home: Home, *, quick: bool, peers: bool, memory_alone: bool = False
) -> dict[str, float | None]:
    """CPU and latency of the gateway in milliseconds for each request, memory in megabytes.

    Errors: EmbeddedError.
    """
    size = QUICK if quick else FULL
    try:
        with ExitStack() as stack:
            hold = hold_port()
            stack.callback(hold.release)
            rivals = {} if memory_alone else _rivals(stack, home, hold.port, install=peers)
            folder, subject = stack.enter_context(gateway_running(hold.port))
            stack.enter_context(upstream_running(folder, hold.port))
            if memory_alone:
                return _memory(subject, size.leavers)
            for rival in rivals.values():
                rival.rest()
            figures = _ours(subject, Target(hold.port, "bench", "none"), size)
            for name, loads in RIVALS.items():
                figures |= {f"{name}_cpu_ms_{load.name}": None for load in loads}
                if name in rivals:
                    with rivals[name].awake() as peer:
                        figures |= _peer(name, peer, size, *loads)
            return figures
    except LoadError as error:
        raise EmbeddedError("bench_failed", f"An answer was wrong: {error}") from error


def _rivals(stack: ExitStack, home: Home, upstream_port: int, *, install: bool) -> dict[str, Peer]:
    """The peers that are installed, or are to be."""
    python, script = litellm_python(home, install=install), portkey_script(home, install=install)
    found = {}
    if python:
        found["litellm"] = stack.enter_context(litellm_started(python, upstream_port))
    if script:
        found["portkey"] = stack.enter_context(portkey_started(script, upstream_port))
    return found


def _ours(subject: Subject, direct: Target, size: Size) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    load_run(subject.target, PLAIN, connections=8, requests=200)
    load_run(subject.target, STREAM50, connections=8, requests=50)
    figures |= _added(subject.target, direct, size)
    for load in (PLAIN, STREAM50, STREAM500):
        for connections in CONNECTIONS:
            per_request = _cpu_ms(subject, load, connections, size.of(load))
            name = f"cpu_ms_{load.name}"
            figures[name if connections == USUAL else f"{name}_c{connections}"] = per_request
    return figures | _memory(subject, size.leavers)


def _added(through: Target, direct: Target, size: Size) -> dict[str, float | None]:
    """By how much the gateway makes a plain answer later, at one connection; both in turn, to share the weather."""
    with_gateway: list[float] = []
    without: list[float] = []
    for _ in range(ROUNDS):
        requests = size.of(PLAIN) // ROUNDS
        with_gateway += load_run(through, PLAIN, connections=1, requests=requests)
        without += load_run(direct, PLAIN, connections=1, requests=requests)
    return {
        f"added_p{percent}_ms": round(
            1000 * (_percentile(with_gateway, percent) - _percentile(without, percent)), 3
        )
        for percent in (50, 99)
    }


def _cpu_ms(subject: Subject, load: Load, connections: int, requests: int) -> float:
    before = cpu_s(subject.pid)
    load_run(subject.target, load, connections=connections, requests=requests)
    return round(1000 * (cpu_s(subject.pid) - before) / requests, 3)


def _memory(subject: Subject, requests: int) -> dict[str, float | None]:
    """After a tenth of the requests everything is warm; what is more in the middle and at the end has grown."""
    start_mb, seen_mb = rss_mb(subject.pid), []
    for share in (requests // 10, requests // 2 - requests // 10, requests - requests // 2):
        load_run(subject.target, LEAVERS, connections=64, requests=share, leaving=LEAVING)
        seen_mb.append(rss_mb(subject.pid))
    warm_mb, middle_mb, end_mb = seen_mb
    return {
        "rss_start_mb": round(start_mb, 1),
        "rss_warm_mb": round(warm_mb, 1),
        "rss_middle_mb": round(middle_mb, 1),
        "rss_mb": round(end_mb, 1),
        "rss_grown_mb": round(end_mb - warm_mb, 1),
        "leavers": float(requests),
    }


def _peer(name: str, peer: Subject, size: Size, *loads: Load) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for load in loads:
        load_run(peer.target, load, connections=USUAL, requests=2 * USUAL)
        figures[f"{name}_cpu_ms_{load.name}"] = _cpu_ms(peer, load, USUAL, size.of(load) // PEERS_PART)
    return figures


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
