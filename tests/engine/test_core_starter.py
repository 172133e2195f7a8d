"""The starter model and its adapters, as they lie beside the code."""

from pathlib import Path

import pytest
import torch

import kindling_engine.starter as starter
from kindling_core_rig import rig_make
from kindling_engine.protocol.ipc import AdapterLoaded, LoadAdapter
from kindling_tiny_models import reference_load


@pytest.fixture(scope="module")
def prompt() -> list[int]:
    from tokenizers import Tokenizer

    return (
        Tokenizer.from_file(str(starter.SPARK_PATH / "tokenizer.json")).encode("Tell me a short story.").ids
    )


def test_spark_says_what_transformers_says(prompt, tmp_path):
    rig = rig_make(starter.SPARK_PATH, tmp_path)
    rig.submit("a", prompt, max_tokens=40)
    rig.run_until("a")
    made = rig.tokens("a")
    with torch.inference_mode():
        logits = reference_load(starter.SPARK_PATH)(torch.tensor([prompt + made])).logits[
            0, len(prompt) - 1 : -1
        ]
    chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
    assert (logits.max(dim=-1).values - chosen <= 1e-4 * logits.abs().max()).all()


@pytest.mark.parametrize("name", sorted(starter.ADAPTER_PATHS))
def test_each_adapter_passes_its_check_and_says_what_peft_says(name, prompt, tmp_path):
    import peft

    folder: Path = starter.ADAPTER_PATHS[name]
    rig = rig_make(starter.SPARK_PATH, tmp_path)
    rig.turn(LoadAdapter("c", name, str(folder), check=True))
    rig.wait(lambda: rig.answers(AdapterLoaded))
    answer = rig.answers(AdapterLoaded)[0]
    assert answer.ok and len(answer.smoke_ids) == 8, answer
    rig.submit("a", prompt, adapter=name, max_tokens=30)
    rig.run_until("a")
    made = rig.tokens("a")
    reference = peft.PeftModel.from_pretrained(reference_load(starter.SPARK_PATH), folder).eval()
    with torch.inference_mode():
        logits = reference(torch.tensor([prompt + made])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
    assert (logits.max(dim=-1).values - chosen <= 1e-4 * logits.abs().max()).all()
