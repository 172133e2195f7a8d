"""Pytest plugin: the garbage collector looks seldom, and never through what was there before the first test.

Libraries and tests are a million objects that stay; looking through them took a tenth of the tests' time.
"""

import gc

import pytest

gc.set_threshold(20_000, 20, 100)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
