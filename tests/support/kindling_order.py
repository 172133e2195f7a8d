"""Pytest plugin: what runs where and when, so that a session starts few stacks and ends with all workers busy.

Tests that share a running stack, or a gateway before a real engine, stay together on one worker. Files that take
minutes come first, since whatever is short fills the gaps at the end.
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
SHARE_DOORWAY = ("tests/contract/",)
LONG = (
    *("tests/stack/test_kills.py", "tests/embedded/test_wheel.py", "tests/workers/test_processes.py"),
    *("tests/engine/test_bench_", "tests/engine/test_server_", "tests/engine/test_models_"),
)
ORDER = (SHARE_STACK, LONG, SHARE_DOORWAY)
# Tests that share the stack and are not listed: while there are any, it cannot end before the session does.
strays: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    strays.extend(
        item.nodeid for item in items if shares_stack(item) and not item.nodeid.startswith(SHARE_STACK)
    )
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


def shares_stack(item: pytest.Item) -> bool:
    return "stack" in getattr(item, "fixturenames", ())


def rank(nodeid: str) -> int:
    """The place of a test's group; the order inside of it stays."""
    return next((place for place, paths in enumerate(ORDER) if nodeid.startswith(paths)), len(ORDER))


def scope(nodeid: str) -> str:
    """What a test has to stay together with."""
    for paths in (SHARE_STACK, SHARE_DOORWAY):
        if nodeid.startswith(paths):
            return paths[0]
    return nodeid.split("::", 1)[0]
