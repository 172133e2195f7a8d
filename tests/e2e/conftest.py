from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from kindling_browser import Visit, started_browser
from kindling_stack import Stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as running:
        yield running


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
