"""Command line of the benches: a table for people, or one JSON object as the last line."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kindling_engine.bench.figures import CUDA_PARTS, BenchOptions, DeviceMissingError, Figures
from kindling_engine.bench.report import DEFAULT_FOLDER, report_write
from kindling_engine.starter import SPARK_PATH

# Each bench imports what it needs when it is chosen: not every machine has everything.


def _engine(options: BenchOptions) -> Figures:
    from kindling_engine.bench.engine import engine_measure

    return engine_measure(options)


def _kernels(options: BenchOptions) -> Figures:
    from kindling_engine.bench.kernels import kernels_measure

    return kernels_measure(options)


def _lora(options: BenchOptions) -> Figures:
    from kindling_engine.bench.lora import lora_measure

    return lora_measure(options)


def _serve(options: BenchOptions) -> Figures:
    from kindling_engine.bench.serving import serving_measure

    return serving_measure(options)


def _spec(options: BenchOptions) -> Figures:
    from kindling_engine.bench.spec import spec_measure

    return spec_measure(options)


def _structured(options: BenchOptions) -> Figures:
    from kindling_engine.bench.structured import structured_measure

    return structured_measure(options)


BENCHES: dict[str, Callable[[BenchOptions], Figures]] = {
    "engine": _engine,
    "kernels": _kernels,
    "lora": _lora,
    "serve": _serve,
    "spec": _spec,
    "structured": _structured,
}


def bench(arguments: Sequence[str]) -> int:
    """Run one bench; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="./kindling bench",
        description="Measure the engine. Those of the platform have options of their own: ./kindling bench lists all.",
    )
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument(
        "--model", type=Path, default=SPARK_PATH, help="folder of the model, the starter by default"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, smaller loads")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--peers", action="store_true", help="install peers that are missing, in a venv of their own"
    )
    parser.add_argument("--out", type=Path, help="folder for <name>-<device>.json and .md")
    parser.add_argument(
        "--only", choices=CUDA_PARTS, default="", help="of the engine on a GPU one part, which takes minutes"
    )
    options = parser.parse_args(arguments)
    if options.only and (options.name != "engine" or options.device == "cpu"):
        parser.error("--only is for the bench of the engine on a GPU")
    try:
        figures = BENCHES[options.name](
            BenchOptions(options.model, options.device, options.quick, options.peers, options.only)
        )
    except DeviceMissingError as error:
        print(error, file=sys.stderr)
        return 1
    if not (options.quick or options.only) or options.out:
        device = "cuda" if figures.values.get("device") == "cuda" else "cpu"
        flags = " --quick" * options.quick + " --peers" * options.peers
        report_write(figures, options.name, device, options.out or DEFAULT_FOLDER, flags=flags)
    if options.json:
        print(json.dumps(figures.values))
    else:
        print(figures.table())
    return 0
