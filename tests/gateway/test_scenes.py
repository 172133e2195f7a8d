"""Each test sees its own requests: what the one before left behind may still be on its way."""

import httpx

from kindling_fake_engine import FakeEngine

HELLO = {"role": "user", "content": "Hello!"}
ASK = {"model": "kindling/words", "messages": [HELLO], "max_completion_tokens": 2}


def ask(engine: FakeEngine, tenant: str) -> int:
    headers = {"x-kindling-request": f"req_{tenant}", "x-kindling-tenant": tenant, "x-kindling-grant": "512"}
    return httpx.post(f"{engine.url}/v1/chat/completions", json=ASK, headers=headers).status_code


def test_a_late_request_is_not_the_next_tests():
    with FakeEngine() as engine:
        assert ask(engine, "org_a") == 200
        engine.reset(over="org_a")
        assert ask(engine, "org_a") == 400
        assert engine.received == []
        assert ask(engine, "org_b") == 200
        assert [one.id for one in engine.received] == ["req_org_b"]
