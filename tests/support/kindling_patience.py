"""Time for servers to answer on a busy machine; a conftest that imports the fixture gives it to each of its tests."""

import pytest

from kindling_platform.gateway import caches, upstream, valkey


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy for a moment is no outage: only tests of outages keep to the times of the product."""
    monkeypatch.setattr(valkey, "TIMEOUT_S", 20.0)
    # Also after a test that took the server away from a gateway which others use.
    monkeypatch.setattr(valkey, "BLIP_S", 20.0)
    monkeypatch.setattr(caches, "LOAD_TIMEOUT_S", 20.0)
    monkeypatch.setattr(upstream, "GRANT_TIMEOUT_S", 20.0)
