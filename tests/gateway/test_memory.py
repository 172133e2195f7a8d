"""What requests leave behind is freed with them: nothing of it waits for the garbage collector to come by."""

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from kindling_gateway import GatewayServer, chat, eventually
from kindling_platform.config.http_cycle import Cycle
from kindling_platform.config.http_limits import BoundedHttp
from kindling_platform.gateway.errors import ClientGoneError
from kindling_platform.gateway.inference import Inference
from kindling_platform.gateway.surface.shaped import ShapedRequest
from kindling_platform.gateway.watch import Watch
from kindling_platform.gateway.wire.line import Line

KINDS = frozenset({BoundedHttp, ClientGoneError, Cycle, Inference, Line, ShapedRequest, Watch})
CALLS = 8


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living() -> Counter[str]:
    """How many of each kind are in memory; those that can be reached by nobody count as well."""
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in KINDS)


def leave(server: GatewayServer, key: str) -> None:
    """Hang up in the middle of a stream."""
    with server.client(key) as client:
        body = chat(stream=True, max_tokens=3000)
        reply = client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True)
        next(reply.iter_raw())
        reply.close()


def ask(server: GatewayServer, key: str) -> None:
    with server.client(key) as client:
        assert client.post("/v1/chat/completions", json=chat(stream=False)).status_code == 200


@pytest.mark.parametrize("call", [leave, ask])
@pytest.mark.usefixtures("uncollected")
def test_a_call_leaves_nothing_behind(server: GatewayServer, scene, call):
    if call is leave:
        scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.01
    call(server, scene.key)
    eventually(lambda: not scene.engine.active and not living()["Inference"])
    gc.collect()
    before = living()
    for _ in range(CALLS):
        call(server, scene.key)
    # A connection that was kept to the engine may be there or not; eight of them may not.
    eventually(lambda: not scene.engine.active and (living() - before).total() < CALLS / 2)
    assert (living() - before).total() < CALLS / 2
