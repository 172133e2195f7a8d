"""Peers made ready for a bench: installed if that is wanted, started, and checked for computing the same thing."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from kindling_engine.bench.contest import say
from kindling_engine.bench.peer_venv import PeerInstallError
from kindling_engine.bench.peers import Peer
from kindling_engine.bench.subjects import Worker, WorkerError
from kindling_engine.bench.workloads import Workload

NOT_INSTALLED = "not installed; --peers installs it"
JUDGE = "transformers"
# fp32 in another order of summation moves these logits by less than 1e-4; heads rotated wrongly cost 0.07 and more.
_DEFICIT = 5e-4
_CHECK = Workload("check", 8, 0, 48, 2)


@dataclass(slots=True)
class Peers:
    """Workers of the peers that take part; ``missing`` says of each other one why it does not."""

    workers: list[Worker] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def reasons(self) -> dict[str, str | None]:
        """Null for each absent peer, with its reason beside it."""
        reasons: dict[str, str | None] = {}
        for name, reason in self.missing.items():
            reasons |= {name: None, f"{name}: why not": reason}
        return reasons

    def versions(self, peers: dict[str, Peer]) -> dict[str, str | None]:
        """``<name>_version`` of those that have a venv; the environment's versions tell those of the others."""
        present = {worker.kind for worker in self.workers}
        return {
            f"{name}_version": peer.venv.version if name in present else None
            for name, peer in peers.items()
            if peer.venv
        }


def peers_install(peers: dict[str, Peer]) -> dict[str, str]:
    """Install what is missing and can be installed; returns why by the name of each that could not be."""
    failed = {}
    for name, peer in peers.items():
        if peer.venv is None or peer.installed:
            continue
        try:
            peer.venv.install(say)
        except PeerInstallError as error:
            failed[name] = str(error)
            say(f"{name}: {error}")
    return failed


def peers_start(
    peers: dict[str, Peer], settings: dict[str, Any], stack: ExitStack, *, threads: int, install: bool
) -> Peers:
    """Start every peer that is there, and go on while it loads."""
    failed = peers_install(peers) if install else {}
    started = Peers(
        missing={n: failed.get(n, NOT_INSTALLED) for n, peer in peers.items() if not peer.installed}
    )
    for name, peer in peers.items():
        if peer.installed:
            worker = Worker(name, settings, threads=threads, python=peer.python)
            started.workers.append(stack.enter_context(worker))
    return started


def peers_ready(
    started: Peers, peers: dict[str, Peer], *, vocab_size: int, modes: int | None = None, threads: int = 1
) -> Peers:
    """Those of the started peers that have loaded and whose tokens, in their first ``modes``, are the reference's."""
    ready, missing = [], dict(started.missing)
    for worker in started.workers:
        try:
            ready.append(worker.ready())
        except WorkerError as error:
            missing[worker.kind] = str(error)
    judge = next((worker for worker in ready if worker.kind == JUDGE), None)
    trusted = []
    for worker in ready:
        peer = peers[worker.kind]
        reason = ""
        if peer.venv:
            reason = _objection(worker, peer.modes[:modes], judge, vocab_size, threads)
        if reason:
            missing[worker.kind] = reason
            say(f"{worker.kind}: {reason}")
        else:
            trusted.append(worker)
    return Peers(trusted, missing)


def _objection(
    worker: Worker, modes: tuple[str, ...], judge: Worker | None, vocab_size: int, threads: int
) -> str:
    """Why its figures would be void: it computes something else, or nobody can tell."""
    if judge is None:
        return f"its tokens cannot be checked without {JUDGE}"
    prompts = _CHECK.prompts(vocab_size=vocab_size, seed=0)
    for mode in modes:
        try:
            asked = {"prompts": prompts, "output": _CHECK.output, "threads": threads, "mode": mode}
            made = worker.ask("tokens", **asked)["tokens"]
            deficit = float(judge.ask("deficit", prompts=prompts, made=made)["deficit"])
        except WorkerError as error:
            return f"{mode}: {error}"
        if deficit > _DEFICIT:
            return f"{mode} chooses tokens whose logits lie up to {deficit:.2g} below the reference's choice"
    return ""
