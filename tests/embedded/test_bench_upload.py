"""The model that large adapters are uploaded to is one that the engine serves."""

from pathlib import Path

import torch

from kindling_engine.models.registry import model_load
from kindling_platform.embedded.wide_model import HIDDEN, wide_model_write


def test_the_engine_takes_the_wide_model(tmp_path: Path) -> None:
    wide_model_write(tmp_path, layers=1)
    model = model_load(tmp_path, device=torch.device("cpu"), dtype=torch.float32)
    assert model.config.hidden_size == HIDDEN
    assert (tmp_path / "tokenizer.json").is_file() and (tmp_path / "chat_template.jinja").is_file()
