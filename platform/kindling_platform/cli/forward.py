"""Commands that run elsewhere: the embedded start and the engine's benches and checks, as processes of their own.

The command replaces this process, so signals and the exit status are theirs.
"""

import os
import sys

EMBEDDED = {"up", "down", "doctor", "reset-operator", "backup", "restore"}
PLATFORM_BENCHES = {"gateway", "rating", "reliability", "upload", "usage"}
ENGINE_BENCHES = {"engine", "kernels", "lora", "serve", "spec", "structured"}
ENGINE, PLATFORM = "kindling_engine", "kindling_platform.embedded"


def forward_argv(arguments: list[str]) -> list[str] | None:
    """The command line to become, or None when the command is one of ours."""
    module = _module(arguments[0], arguments[1:2]) if arguments else None
    if module is None:
        return None
    rest = arguments[1:] if arguments[0] == "adapters" else arguments
    return [sys.executable, "-m", module, *rest]


def _module(command: str, verb: list[str]) -> str | None:
    """Where a command runs; `verb` is the word behind it, if there is one."""
    if command in EMBEDDED or (command, verb) == ("models", ["import"]):
        return PLATFORM
    if command == "verify" or (command, verb) == ("adapters", ["convert"]):
        return ENGINE
    if command == "bench" and PLATFORM_BENCHES.intersection(verb):
        return PLATFORM
    if command == "bench" and ENGINE_BENCHES.intersection(verb):
        return ENGINE
    return None


def forward(argv: list[str]) -> None:
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606
