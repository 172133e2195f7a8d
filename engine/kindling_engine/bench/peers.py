"""Which other engines run under the same loads, and where each comes from.

``transformers`` is in the environment of our own engine. llama.cpp's server and OpenVINO GenAI have venvs of their own
below ``$KINDLING_HOME/peers``, which ``--peers`` makes. Each loads the same weights in fp32 and makes exactly as many
tokens, greedily.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kindling_engine.bench import peer_llama_cpp, peer_openvino
from kindling_engine.bench.peer_transformers import CONTINUOUS, GENERATE, transformers_prepare
from kindling_engine.bench.peer_venv import PeerVenv


@dataclass(frozen=True, slots=True)
class Peer:
    """``prepare`` imports what the peer needs and returns what loads it; ``modes`` are its ways to run a load.

    A peer is either ``package`` in this environment or has a ``venv``.
    """

    modes: tuple[str, ...]
    prepare: Callable[[], Callable[[Path, dict[str, Any]], Any]]
    package: str = ""
    venv: PeerVenv | None = None
    devices: tuple[str, ...] = ("cpu",)

    @property
    def installed(self) -> bool:
        return self.venv.installed if self.venv else find_spec(self.package) is not None

    @property
    def python(self) -> str:
        """The interpreter that has it."""
        return str(self.venv.python) if self.venv else sys.executable


def peers_of(device: str) -> dict[str, Peer]:
    """The peers that run there."""
    return {name: peer for name, peer in PEERS.items() if device in peer.devices}


PEERS = {
    "transformers": Peer(
        (GENERATE, CONTINUOUS), transformers_prepare, package="transformers", devices=("cpu", "cuda")
    ),
    "llama_cpp": Peer(
        peer_llama_cpp.MODES, lambda: peer_llama_cpp.LlamaServerSubject, venv=peer_llama_cpp.VENV
    ),
    "openvino": Peer(peer_openvino.MODES, peer_openvino.openvino_prepare, venv=peer_openvino.VENV),
}
