"""A model with which a first start did not work is left stopped, at the web server and at the agent."""

from typing import Any

import pytest

from kindling_platform.embedded import stand_down as room
from kindling_platform.embedded.rest import Reply


@pytest.mark.parametrize("status", [200, 0])
def test_the_deployment_is_stopped_and_its_replicas_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, status: int
):
    asked: list[tuple[str, str, str]] = []
    replicas = {"replicas": [{"name": "dep_1-g1-r0"}, {"name": "dep_2-g1-r0"}]}

    def call(url: str, *, token: str, method: str = "GET", body: Any = None) -> Reply:
        asked.append((method, url, token))
        return Reply(status, replicas if method == "GET" else "", {})

    monkeypatch.setattr(room, "call", call)
    room.deployment_stand_down(
        web_url="http://web", key="k", agent_url="http://agent", agent_token="t", deployment_id="dep_1"
    )
    found = [("POST", "http://web/api/v1/deployments/dep_1/stop", "k"), ("GET", "http://agent/replicas", "t")]
    if status == 200:
        found.append(("DELETE", "http://agent/replicas/dep_1-g1-r0", "t"))
    assert asked == found
