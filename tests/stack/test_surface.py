"""Other shapes through a whole stack: billed once, kept in the real tables, judged in the books."""

import anthropic
import openai
import pytest

from kindling_stack import Stack
from kindling_tenant import Tenant, poll

pytestmark = pytest.mark.stack
HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def tenant(stack: Stack) -> Tenant:
    return stack.sign_up("shapes")


def test_other_shapes_are_billed_kept_and_judged(stack: Stack, tenant: Tenant):
    vendor = anthropic.Anthropic(base_url=f"{stack.url}/{tenant.slug}", api_key=tenant.key, max_retries=0)
    message = vendor.messages.create(model="kindling/spark", max_tokens=8, messages=HELLO)
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=tenant.key, max_retries=0)
    made = client.responses.create(model="kindling/spark", input="Hello!", max_output_tokens=8)
    assert client.responses.retrieve(made.id).output_text == made.output_text
    assert tenant.api("GET", "/api/v1/responses") == {"retention_days": 30, "stored": 1}

    event = tenant.event(str(message._request_id))
    assert event["completion_tokens"] == message.usage.output_tokens
    assert event["prompt_tokens"] == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    said = tenant.http.post(
        "/v1/feedback",
        json={"request_id": message.id, "score": 1, "label": "good"},
        headers={"Authorization": f"Bearer {tenant.key}"},
    )
    assert said.json()["status"] == "recorded"
    path = f"/api/v1/usage/requests/{event['request_id']}"
    judged = poll(lambda: tenant.api("GET", path), lambda seen: seen["feedback"] is not None)
    assert judged["feedback"] == {"score": 1.0, "label": "good"}

    tenant.api("DELETE", "/api/v1/responses")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
