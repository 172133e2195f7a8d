"""Commands that run elsewhere: the embedded start and the engine's benches and checks, as processes of their own.

The command replaces this process, so signals and the exit status are theirs.
"""

import os
import sys

EMBEDDED = {"up", "down", "doctor", "reset-operator", "backup", "restore"}


def forward_argv(arguments: list[str]) -> list[str] | None:
    """The command line to become, or None when the command is one of ours."""
    if not arguments:
        return None
    command, *rest = arguments
    if command in EMBEDDED:
        return [sys.executable, "-m", "kindling_platform.embedded", command, *rest]
    if command == "bench" and rest[:1] == ["upload"]:
        return [sys.executable, "-m", "kindling_platform.embedded", "bench-upload", *rest[1:]]
    if command == "bench" and rest[:1] == ["gateway"]:
        return [sys.executable, "-m", "kindling_platform.embedded", "bench-gateway", *rest[1:]]
    if command == "bench" and rest[:1] == ["reliability"]:
        return [sys.executable, "-m", "kindling_platform.embedded", "bench-reliability", *rest[1:]]
    if command == "bench" and rest[:1] == ["rating"]:
        return [sys.executable, "-m", "kindling_platform.embedded", "bench-rating", *rest[1:]]
    if command == "bench" and rest[:1] == ["usage"]:
        return [sys.executable, "-m", "kindling_platform.embedded", "bench-usage", *rest[1:]]
    if command == "models" and rest[:1] == ["import"]:
        return [sys.executable, "-m", "kindling_platform.embedded", "models-import", *rest[1:]]
    if command == "adapters" and rest[:1] == ["convert"]:
        return [sys.executable, "-m", "kindling_engine", "convert", *rest[1:]]
    if command == "verify":
        return [sys.executable, "-m", "kindling_engine", "verify", *rest]
    if command == "bench":
        return [sys.executable, "-m", "kindling_engine", "bench", *rest]
    return None


def forward(argv: list[str]) -> None:
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606
