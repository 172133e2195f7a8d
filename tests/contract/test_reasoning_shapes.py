"""Reasoning as Anthropic's thinking and as items of a response, by a real engine whose model reasons up to a budget."""

import shutil
from collections.abc import Iterator

import anthropic
import openai
import pytest

from kindling_doorway import Doorway
from kindling_engine.starter import SPARK_PATH
from kindling_engine_process import EngineProcess

pytestmark = pytest.mark.stack
# The starter has never seen these marks, so that only the budget closes its reasoning.
TEMPLATE = """
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is not defined or enable_thinking %}{{- '<think>\\n' }}
{%- else %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
"""
STORY = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def thinker(doorway: Doorway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tmp_path_factory.mktemp("model") / "thinker"
    shutil.copytree(SPARK_PATH, model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    with EngineProcess(tmp_path_factory.mktemp("engine"), model=model, ref="customer/thinker") as engine:
        model_id = doorway.world.base(doorway.customer, "thinker", is_public=False)
        doorway.world.replica(doorway.customer, model_id, engine.url)
        yield "customer/thinker"


def test_thinking_keeps_its_budget_and_comes_first(doorway: Doorway, thinker: str):
    client = anthropic.Anthropic(base_url=doorway.url, api_key=doorway.key, max_retries=0)
    asked = {
        "model": thinker,
        "max_tokens": 48,
        "messages": STORY,
        "thinking": {"type": "enabled", "budget_tokens": 4},
        "extra_body": {"temperature": 0},
    }
    whole = client.messages.create(**asked)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    with client.messages.stream(**asked) as stream:
        kinds = [event.delta.type for event in stream if event.type == "content_block_delta"]
        final = stream.get_final_message()
    assert kinds.index("signature_delta") == kinds.index("text_delta") - 1
    assert (final.content[0].thinking, final.content[1].text) == (
        whole.content[0].thinking,
        whole.content[1].text,
    )
    history = [*STORY, {"role": "assistant", "content": whole.content}, {"role": "user", "content": "More!"}]
    assert client.messages.create(**asked | {"messages": history}).content[-1].type == "text"
    off = client.messages.create(**asked | {"thinking": {"type": "disabled"}})
    assert [block.type for block in off.content] == ["text"]


def test_reasoning_is_an_item_that_can_be_sent_back(doorway: Doorway, thinker: str):
    client = openai.OpenAI(base_url=f"{doorway.url}/v1", api_key=doorway.key, max_retries=0)
    asked = {"model": thinker, "max_output_tokens": 40, "temperature": 0}
    free = client.responses.create(**asked, input=STORY)
    assert [item.type for item in free.output] == ["reasoning"]
    assert free.usage.output_tokens_details.reasoning_tokens == free.usage.output_tokens > 0
    events = list(client.responses.create(**asked, input=STORY, stream=True))
    told = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert told == free.output[0].content[0].text
    quiet = client.responses.create(**asked, input=STORY, reasoning={"effort": "none"})
    assert [item.type for item in quiet.output] == ["message"]
    assert quiet.usage.output_tokens_details.reasoning_tokens == 0
    back = [*STORY, *free.output, {"role": "user", "content": "More!"}]
    assert client.responses.create(**asked, input=back, reasoning={"effort": "none"}).output_text
    assert client.responses.create(**asked, input="More!", previous_response_id=free.id).output
