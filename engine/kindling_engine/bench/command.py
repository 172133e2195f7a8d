"""Command line of the benches: a table for people, or one JSON object as the last line."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from kindling_engine.bench.figures import BenchOptions, Figures
from kindling_engine.bench.serving import serving_measure
from kindling_engine.starter import SPARK_PATH

BENCHES: dict[str, Callable[[BenchOptions], Figures]] = {"serve": serving_measure}


def bench(arguments: Sequence[str]) -> int:
    """Run one bench; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kindling_engine bench")
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument(
        "--model", type=Path, default=SPARK_PATH, help="folder of the model, the starter by default"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    figures = BENCHES[options.name](BenchOptions(options.model, options.device, options.quick))
    if options.json:
        print(json.dumps(figures.values))
    else:
        print(figures.table())
    return 0
