"""What the gateway reads of a body, as the engine reads it."""

import json
from typing import Any

import pytest

from kindling_platform.gateway.ask import COMPLETION_TOKENS, Ask, parse_ask


def ask(**fields: Any) -> Ask:
    return parse_ask(json.dumps({"model": "m", **fields}).encode())


@pytest.mark.parametrize("given", [100, 100.0])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_whole_number_is_one_however_it_is_written(name: str, given: float):
    found = ask(prompt="Once", **{name: given}).max_tokens
    assert found == 100 and isinstance(found, int)


@pytest.mark.parametrize("given", [None, "100", True, -1, 0.5, [1]])
def test_what_the_engine_takes_for_nothing_or_refuses_counts_as_absent(given: Any):
    assert ask(prompt="Once", max_tokens=given).max_tokens == COMPLETION_TOKENS
    assert ask(messages=[], max_tokens=given).max_tokens is None


def test_null_beside_the_prompts_is_absent():
    asked = ask(input=None, prompt=["Once", "Twice", "Thrice"], n=2)
    assert (asked.texts, asked.answers) == (3, 6)
    assert ask(input=["a", "b"], prompt=None).texts == 2
