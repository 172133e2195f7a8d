from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from kindling_browser import Visit, started_browser
from kindling_stack import Stack

shared = ExitStack()
running: list[Browser] = []


@pytest.fixture
def browser() -> Browser:
    """One for all tests in a row that want it; each has windows of its own, which share nothing."""
    if not running:
        shared.callback(running.clear)
        running.append(shared.enter_context(started_browser()))
    return running[0]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Before other tests, which may have an event loop of their own, Playwright's ends."""
    if nextitem is None or "browser" not in getattr(nextitem, "fixturenames", ()):
        shared.close()


@pytest.fixture
def visit(browser: Browser, stack: Stack) -> Iterator[Callable[..., Visit]]:
    """Opens windows; at the end none of them may have complained of a script or a policy."""
    opened: list[Visit] = []

    def open_window(**options: Any) -> Visit:
        opened.append(Visit.open(browser, stack.url, **options))
        return opened[-1]

    yield open_window
    complaints = [complaint for window in opened for complaint in window.complaints]
    for window in opened:
        window.context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def intent() -> Path:
    """The example adapter that turns a sentence into JSON."""
    return Path(__file__).parents[2] / "engine/kindling_engine/starter/weights/adapters/intent"
