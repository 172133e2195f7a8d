"""Command line of the core process."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kindling_engine.protocol.adapter_memory import LORA_BORROW, LORA_MIB
from kindling_engine.protocol.kv_dtypes import AUTO as KV_AUTO
from kindling_engine.protocol.kv_dtypes import KV_DTYPES
from kindling_engine.protocol.speculation_modes import AUTO, SPECULATION_MODES
from kindling_engine.protocol.tune_modes import FULL, TUNE_LIMIT_S, TUNE_MODES
from kindling_engine.protocol.weight_forms import CHECKPOINT, WEIGHT_FORMS


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """``threads`` 0 chooses by measuring; ``kv_tokens`` 0 sizes the cache by the memory at hand; ``lora_mib`` is
    the adapters' own memory, ``lora_borrow`` the percentage of the KV cache's blocks that they may borrow while those
    are idle; ``weights`` is the form that weights take in memory, ``kv_dtype`` what keys and values are kept as.

    ``batch_invariant``: a request's bits do not depend on what else runs. ``speculation`` auto tries guessed tokens
    where a CPU steps and it makes answers faster. ``tune``, ``tuned`` and ``tune_limit_s``: how, where and how
    long configurations of a GPU's kernels are chosen (``runner.tuning``). ``blob_source``: a socket on which adapters
    are asked for that are not in ``blobs``.
    """

    socket: Path
    model: Path
    model_ref: str
    blobs: Path
    device: str = "auto"
    threads: int = 0
    kv_tokens: int = 0
    max_batch: int = 64
    step_tokens: int = 2048
    lora_mib: int = LORA_MIB
    lora_borrow: int = LORA_BORROW
    weights: str = CHECKPOINT
    kv_dtype: str = KV_AUTO
    batch_invariant: bool = False
    speculation: str = AUTO
    tune: str = FULL
    tuned: Path | None = None
    tune_limit_s: float = TUNE_LIMIT_S
    blob_source: Path | None = None


def options_parse(arguments: Sequence[str]) -> CoreOptions:
    parser = argparse.ArgumentParser(prog="python -m kindling_engine.core")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--model-ref", required=True)
    parser.add_argument("--blobs", type=Path, required=True)
    parser.add_argument("--blob-source", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--kv-tokens", type=int, default=0)
    parser.add_argument("--max-batch", type=_positive, default=64)
    parser.add_argument("--step-tokens", type=_positive, default=2048)
    parser.add_argument("--lora-mib", type=_positive, default=LORA_MIB)
    parser.add_argument("--lora-borrow", type=_percentage, default=LORA_BORROW)
    parser.add_argument("--weights", choices=WEIGHT_FORMS, default=CHECKPOINT)
    parser.add_argument("--kv-dtype", choices=KV_DTYPES, default=KV_AUTO)
    parser.add_argument("--batch-invariant", action="store_true")
    parser.add_argument("--speculation", choices=SPECULATION_MODES, default=AUTO)
    parser.add_argument("--tune", choices=TUNE_MODES, default=FULL)
    parser.add_argument("--tuned", type=Path)
    parser.add_argument("--tune-limit-s", type=float, default=TUNE_LIMIT_S)
    return CoreOptions(**vars(parser.parse_args(arguments)))


def _percentage(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError("must be from 0 to 100")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
