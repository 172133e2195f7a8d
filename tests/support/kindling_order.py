"""Pytest plugin: what runs where and when, so that a session starts few stacks and ends with all workers busy.

Tests that share a running stack, or a gateway before a real engine, stay together on one worker; those that end the
stack come last among them. Files that take minutes come first, since whatever is short fills the gaps at the end.
"""

from typing import Any

import pytest

# By the beginning of their path; what is not listed is alone with its file.
SHARE_STACK = (
    *("tests/stack/test_bad_input.py", "tests/stack/test_cut_streams.py", "tests/stack/test_invariants.py"),
    *("tests/stack/test_neighbours.py", "tests/stack/test_surface.py"),
    *("tests/e2e/", "tests/embedded/test_cli.py", "tests/embedded/test_supervisor.py"),
    "tests/contract/test_openai_client.py",
)
END_STACK = ("tests/stack/test_kills.py",)
SHARE_DOORWAY = ("tests/contract/",)
LONG = (
    *("tests/embedded/test_wheel.py", "tests/embedded/test_backups.py", "tests/workers/test_processes.py"),
    *("tests/engine/test_bench_", "tests/engine/test_server_", "tests/engine/test_models_"),
)
ORDER = (SHARE_STACK, END_STACK, LONG, SHARE_DOORWAY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    strays = {item.nodeid.split("::")[0] for item in items if "stack" in getattr(item, "fixturenames", ())}
    strays -= {path for path in strays if holds_stack(path)}
    if strays:
        raise pytest.UsageError(f"these share the stack, so list them in kindling_order.py: {sorted(strays)}")
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    # The order is ours: by the number of tests, the longest files would come last.
    config.option.loadscopereorder = False
    return Together(config, log)


def holds_stack(nodeid: str) -> bool:
    """Whether the shared stack is still of use to a test."""
    return nodeid.startswith((*SHARE_STACK, *END_STACK))


def rank(nodeid: str) -> int:
    """The place of a test's group; the order inside of it stays."""
    return next((place for place, paths in enumerate(ORDER) if nodeid.startswith(paths)), len(ORDER))


def scope(nodeid: str) -> str:
    """What a test has to stay together with."""
    if holds_stack(nodeid):
        return SHARE_STACK[0]
    if nodeid.startswith(SHARE_DOORWAY):
        return SHARE_DOORWAY[0]
    return nodeid.split("::", 1)[0]
