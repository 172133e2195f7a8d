"""A front whose model answers in harmony, and pieces of such answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kindling_chat_templates import HARMONY, HARMONY_MARKS
from kindling_fake_core import Bench, fake_bench
from kindling_reasoner import family_text

THOUGHT = "<|channel|>analysis<|message|>Hm, so.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
ARGUMENTS = '{"city": "Bern", "days": [1]}'


@asynccontextmanager
async def harmony_bench(folder: Path) -> AsyncIterator[Bench]:
    async with fake_bench(folder) as made:
        made.front.text = family_text(HARMONY, marks=HARMONY_MARKS, special=True)
        made.say(f"{THOUGHT}{FINAL}Yes, indeed.")
        yield made
