"""A file of prompts, sent with the console's form to a whole stack: answered by the gateway, charged and shown."""

import json

import openai
import pytest

from kindling_stack import Stack
from kindling_tenant import CSRF, poll

pytestmark = pytest.mark.stack
PAGE = "/console/batches/new/"
PROMPTS = "Tell me a story.\n\nTell me another one.\n"


def test_a_file_of_prompts_is_answered_and_charged(stack: Stack):
    tenant = stack.sign_up("prompts")
    form = tenant.http.get(PAGE).text
    token = CSRF.search(form)
    key = form.split('<option value="key_', 1)[1].split('"', 1)[0]
    assert token
    values = {
        "csrfmiddlewaretoken": token[1],
        "holds": "prompts",
        "model": "kindling/spark",
        "max_tokens": "8",
        "key": f"key_{key}",
    }
    before = tenant.balance_picousd()
    begun = tenant.http.post(
        PAGE, data=values, files={"file": ("in.txt", PROMPTS)}, headers={"Referer": f"{stack.url}{PAGE}"}
    )
    assert begun.url.path.startswith("/console/batches/batch_"), begun.text[:500]
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=tenant.key, max_retries=0)
    batch_id = begun.url.path.rstrip("/").rsplit("/", 1)[1]
    batch = poll(lambda: client.batches.retrieve(batch_id), lambda seen: seen.status == "completed")
    assert batch.output_file_id
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["1", "3"]
    answers = [line["response"]["body"] for line in lines]
    assert all(answer["choices"][0]["message"]["content"] for answer in answers)
    events = [tenant.event(line["response"]["request_id"]) for line in lines]
    assert [event["completion_tokens"] for event in events] == [
        answer["usage"]["completion_tokens"] for answer in answers
    ]
    assert before - tenant.balance_picousd() == sum(int(event["cost_picousd"]) for event in events) > 0
    assert "2</span> of 2 requests done" in tenant.http.get(begun.url.path).text
