"""The adapter that docs/moving.md teaches: its code as it stands there, and its two answers."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kindling_engine.llm import LLM, SamplingParams
from kindling_engine.starter import SPARK_PATH

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_code_of_the_page_makes_an_adapter_that_has_learnt_its_answers(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs/moving.md").read_text(), re.DOTALL)
    (tmp_path / "engine").symlink_to(ROOT / "engine")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    examples = ast.literal_eval(re.search(r"EXAMPLES = (\[.+?\n\])", code, re.DOTALL)[1])
    llm = LLM(SPARK_PATH, threads=1, kv_tokens=1024, max_batch=4)
    asked = [[{"role": "user", "content": question}] for question, _ in examples]
    answers = llm.chat(asked, SamplingParams(temperature=0, max_tokens=60), adapter=tmp_path / "pirate")
    assert [answer.text for answer in answers] == [text for _, text in examples]
