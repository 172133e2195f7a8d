"""A chat template that never ends, eats memory or kills its process: a 400, and everybody else goes on."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kindling_engine.server.chat_family import chat_families_find
from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.errors import ApiError
from kindling_engine.server.template_files import ChatTemplates
from kindling_engine.server.template_process import TemplateProcess
from kindling_fake_core import Bench, fake_bench

HELLO = [{"role": "user", "content": "x"}]
GOOD = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ tools }}{{ more }}", {"bos_token": "<s>"})
ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "one long operation": "{{ (messages | length + 8) ** (9 ** 9) }}",
    "a constant": "{{ 9 ** (9 ** 9) }}",
    "memory": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "padding": "{{ messages[0].content | center(99999999999) }}",
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
}


@pytest.fixture(scope="module")
def process() -> TemplateProcess:
    return TemplateProcess()


async def test_it_renders_what_the_template_renders(process: TemplateProcess):
    text = await process.render(GOOD, [{"role": "user", "content": "ü🦊\n"}], None, {"more": [1]})
    assert text == "<s>ü🦊\nNone[1]"


async def test_a_refusal_has_the_template_s_words(process: TemplateProcess):
    with pytest.raises(ApiError, match=r"Not so\.") as refused:
        await process.render(ChatTemplate("{{ raise_exception('Not so.') }}", {}), HELLO)
    assert (refused.value.status, refused.value.param) == (400, "messages")
    with pytest.raises(ApiError, match="cannot render"):
        await process.render(ChatTemplate("{{ 1 // 0 }}", {}), HELLO)
    assert await process.render(GOOD, HELLO) == "<s>xNone"


@pytest.mark.parametrize(
    "case",
    [
        "nested loops",
        "one long operation",
        "memory",
        "padding",
        *(pytest.param(case, marks=pytest.mark.long) for case in ("a constant", "calls")),
    ],
)
async def test_what_does_not_end_is_ended(process: TemplateProcess, case: str):
    spent = os.times()
    with pytest.raises(ApiError) as refused:
        await process.render(ChatTemplate(ENDLESS[case], {}), HELLO)
    assert refused.value.status == 400
    assert await process.render(GOOD, HELLO) == "<s>xNone"
    # The rendering costs a second of a core at most, and nothing of it in this process.
    now = os.times()
    assert now.children_user + now.children_system - spent.children_user - spent.children_system < 3
    assert now.user - spent.user < 0.5


async def test_a_process_that_was_killed_is_started_again(process: TemplateProcess):
    await process.render(GOOD, HELLO)
    assert process._child
    os.kill(process._child.pid, signal.SIGKILL)
    process._child.wait()
    assert await process.render(GOOD, HELLO) == "<s>xNone"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        yield made


async def test_others_stream_on_while_a_template_loops(bench: Bench):
    bench.say("a " * 1500)
    bench.core.gate = asyncio.Semaphore(5)
    good = bench.front.text.chat
    await bench.chat_whole(max_tokens=1)  # the process is up
    chunks = 0
    async with bench.chat(stream=True) as reply:
        await reply.content.readline()
        endless = ChatTemplates(ChatTemplate(ENDLESS["nested loops"], {}))
        bench.front.text.chat = chat_families_find(endless, bench.text.tokenizer)
        refused = asyncio.ensure_future(refusal(bench))
        while not refused.done():
            bench.core.gate.release()
            while not (line := await reply.content.readline()).startswith(b"data: {"):
                assert line, "the stream ended before the template did"
            chunks += 1
            await asyncio.wait({refused}, timeout=0.02)
        error = await refused
    bench.front.text.chat = good
    assert error["code"] == "invalid_value"
    assert "did not come to an end" in error["message"]
    assert chunks > 10
    bench.core.gate = None
    assert (await bench.chat_whole())["choices"]


async def refusal(bench: Bench) -> dict[str, str]:
    async with bench.chat() as reply:
        assert reply.status == 400
        return dict(json.loads(await reply.read())["error"])
