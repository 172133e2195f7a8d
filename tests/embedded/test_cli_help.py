"""What the command line says of itself: every command, named as it is typed."""

import os
import subprocess
import sys

import pytest

from kindling_engine.bench.command import BENCHES as ENGINES
from kindling_platform.cli.bench import BENCHES
from kindling_platform.cli.forward import ENGINE_BENCHES, PLATFORM_BENCHES, forward_argv
from kindling_platform.embedded.__main__ import bench


def helped(*arguments: str) -> str:
    argv = [sys.executable, "-m", "kindling_platform.cli", *arguments]
    done = subprocess.run(
        argv, env={**os.environ, "COLUMNS": "160"}, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def test_the_list_of_benches_is_whole():
    assert set(ENGINES) == ENGINE_BENCHES
    assert {command.name for command in bench.registered_commands} == PLATFORM_BENCHES
    assert set(BENCHES) == ENGINE_BENCHES | PLATFORM_BENCHES
    said = helped("bench", "--help")
    assert all(f" {name} " in said for name in BENCHES)


def test_a_bench_runs_where_it_belongs_and_one_that_is_none_is_refused():
    modules = {name: (forward_argv(["bench", name, "--json"]) or [])[2] for name in BENCHES}
    assert {name for name, module in modules.items() if module == "kindling_engine"} == ENGINE_BENCHES
    assert forward_argv(["bench", "upload", "--quick"]) == [
        sys.executable, "-m", "kindling_platform.embedded", "bench", "upload", "--quick",
    ]  # fmt: skip
    assert forward_argv(["bench"]) is None and forward_argv(["bench", "--help"]) is None
    assert "No such command 'speed'" in helped("bench", "speed")


def test_pickles_are_converted_by_the_engine():
    argv = forward_argv(["adapters", "convert", "one", "two"])
    assert argv == [sys.executable, "-m", "kindling_engine", "convert", "one", "two"]
    assert forward_argv(["adapters", "list"]) is None and forward_argv([]) is None
    assert " convert " in helped("adapters", "--help")


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "create"),
        ("up",),
        ("models", "import"),
        ("bench", "upload"),
        ("bench", "engine"),
    ],
)
def test_usage_names_what_is_typed(command: tuple[str, ...]):
    said = helped(*command, "--help").lower()
    assert f"usage: ./kindling {command[0]}" in said
    assert command[-1] in said and "python -m" not in said
