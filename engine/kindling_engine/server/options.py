"""Command line of ``python -m kindling_engine serve``."""

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
class ServeOptions:
    """``port`` 0 takes a free one; ``threads`` 0 chooses by measuring; ``kv_tokens`` 0 sizes the cache by the memory at
    hand; ``weights`` is the form that weights take in memory, ``kv_dtype`` what keys and values are kept as; ``tuned``,
    a folder, keeps choices of kernels' configurations.
    """

    model: Path
    model_ref: str
    usage_log: Path
    blobs: Path
    replica: str
    host: str = "127.0.0.1"
    port: int = 0
    device: str = "auto"
    threads: int = 0
    kv_tokens: int = 0
    max_batch: int = 64
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


def serve_options_parse(arguments: Sequence[str]) -> ServeOptions:
    parser = argparse.ArgumentParser(prog="python -m kindling_engine serve")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--model-ref", required=True, help="name of the model, such as kindling/spark")
    parser.add_argument("--usage-log", type=Path, required=True, help="file to append usage records to")
    parser.add_argument("--blobs", type=Path, required=True, help="folder of adapters by content hash")
    parser.add_argument(
        "--blob-source",
        type=Path,
        help="socket of the agent that brings adapters which are not in that folder",
    )
    parser.add_argument("--replica", required=True, help="name of this replica in usage records")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--threads", type=_natural, default=0, help="threads of a step on a CPU; 0, the default, measures"
    )
    parser.add_argument("--kv-tokens", type=int, default=0)
    parser.add_argument("--max-batch", type=_positive, default=64)
    parser.add_argument(
        "--lora-mib", type=_positive, default=LORA_MIB, help="MiB of memory that adapters have to themselves"
    )
    parser.add_argument(
        "--lora-borrow",
        type=_percentage,
        default=LORA_BORROW,
        help="percentage of the KV cache that adapters may borrow while requests leave it idle",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHT_FORMS,
        default=CHECKPOINT,
        help="on a CPU fp16 keeps weights in half the memory and int8wo in a quarter, each faster than fp32",
    )
    parser.add_argument(
        *("--kv-dtype", "--kv-cache-dtype"),
        choices=KV_DTYPES,
        default=KV_AUTO,
        help="fp8 keeps keys and values in a byte each, so that twice as many tokens fit on a GPU and four times as "
        "many on a CPU; auto keeps them in the dtype that the model computes in",
    )
    parser.add_argument(
        "--batch-invariant",
        action="store_true",
        help="an answer does not depend on its neighbours, to the last bit (CPU); as fast, but for prompts beyond some "
        "1,000 tokens and for models whose layers are not compiled",
    )
    parser.add_argument(
        "--speculation",
        choices=SPECULATION_MODES,
        default=AUTO,
        help="auto guesses tokens that stood in the text before, or in the prediction, where that is faster (CPU); "
        "answers stay the same",
    )
    parser.add_argument(
        "--tune",
        choices=TUNE_MODES,
        default=FULL,
        help="how configurations of a GPU's kernels are chosen: the first of each, as kept, or measured if none is",
    )
    parser.add_argument(
        "--tuned", type=Path, help="folder that keeps those choices; the user's cache without"
    )
    parser.add_argument(
        "--tune-limit-s",
        type=_seconds,
        default=TUNE_LIMIT_S,
        help="seconds that measuring may take of a start",
    )
    return ServeOptions(**vars(parser.parse_args(arguments)))


def core_arguments(options: ServeOptions, socket: Path) -> list[str]:
    """What the core is started with."""
    return [
        *("--socket", str(socket), "--model", str(options.model), "--model-ref", options.model_ref),
        *("--blobs", str(options.blobs), "--device", options.device, "--threads", str(options.threads)),
        *("--kv-tokens", str(options.kv_tokens), "--max-batch", str(options.max_batch)),
        *("--lora-mib", str(options.lora_mib), "--lora-borrow", str(options.lora_borrow)),
        *("--weights", options.weights, "--kv-dtype", options.kv_dtype),
        *(("--batch-invariant",) if options.batch_invariant else ()),
        *("--speculation", options.speculation),
        *(("--blob-source", str(options.blob_source)) if options.blob_source else ()),
        *("--tune", options.tune, "--tune-limit-s", str(options.tune_limit_s)),
        *(("--tuned", str(options.tuned)) if options.tuned else ()),
    ]


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return value


def _percentage(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError("must be from 0 to 100")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be from 0 to 3600")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
