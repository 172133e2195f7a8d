"""``python -m kindling_engine verify <folder>``: does a checkpoint say here what it says in transformers?"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kindling_engine.protocol.control_groups import ControlGroups

EXIT_PASSED, EXIT_FAILED, EXIT_NOT_COMPARED = 0, 1, 2


def verify(arguments: Sequence[str]) -> int:
    """Compare and print; 0 when everything is equal, 1 when something differs, 2 when nothing could be compared."""
    options = _parse(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from kindling_engine.models.errors import ModelError
    from kindling_engine.server.model_text import ModelTextError
    from kindling_engine.verify.run import verdict_make

    try:
        verdict = verdict_make(
            options.folder,
            name=options.name,
            verified_by=options.by,
            num_tokens=options.tokens,
            device=options.device,
            threads=options.threads,
            say=_sayer(),
        )
    except ModelError as error:
        return _not_compared(error.code, error.message, as_json=options.json)
    except ModelTextError as error:
        return _not_compared("tokenizer_unusable", str(error), as_json=options.json)
    if options.json:
        print(json.dumps(verdict.as_json(), indent=1))  # noqa: T201 - a command's answer
    else:
        for check in verdict.checks:
            print(f"{'pass' if check.passed else 'FAIL'}  {check.name:<9} {check.said}")  # noqa: T201
        print(f"\n{verdict.row()}")  # noqa: T201
    return EXIT_PASSED if verdict.passed else EXIT_FAILED


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kindling verify",
        description="Compare a checkpoint, as it is served here, with transformers: logits, greedy tokens, "
        "tokenizer and chat template.",
    )
    parser.add_argument("folder", type=Path, help="a model folder with safetensors and a tokenizer")
    parser.add_argument("--name", default="", help="the model's name in the printed row")
    parser.add_argument("--by", default="kindling verify", help="who verified it, in the printed row")
    parser.add_argument("--tokens", type=int, default=24, help="greedy tokens for each prompt")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=ControlGroups().cores())
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(arguments)


def _sayer() -> Callable[[str], None]:
    """Progress on standard error: one line that changes on a terminal, lines elsewhere."""
    end = "\r" if sys.stderr.isatty() else "\n"
    erase = "\x1b[2K" if sys.stderr.isatty() else ""
    return lambda text: print(f"{erase}{text}", end=end, file=sys.stderr, flush=True)  # noqa: T201


def _not_compared(code: str, message: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}))  # noqa: T201
    else:
        print(f"{message}  [{code}]", file=sys.stderr)  # noqa: T201
    return EXIT_NOT_COMPARED
