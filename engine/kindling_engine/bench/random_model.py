"""A model with random weights made where it will run, so that no file is needed."""

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from kindling_engine.bench.shapes import INIT_STD, LlamaShape
from kindling_engine.models.base import Model
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.registry import FAMILIES, decoder_config
from kindling_engine.models.weight_forms import PLAIN, WeightForm
from kindling_engine.models.weights import Checkpoint


class _RandomCheckpoint(Checkpoint):
    """Stands in for files: every tensor asked for is there but scales, N(0, 0.02), norms at one."""

    def __init__(self, *, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        self._folder = Path()
        self._dtype = dtype
        self._device = device
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def __contains__(self, name: str) -> bool:
        return not name.endswith("_scale")

    def names_left(self) -> list[str]:
        return []

    def table(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.take(name, shape)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        del name
        if len(shape) == 1:
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        empty = torch.empty(shape, dtype=self._dtype, device=self._device)
        return empty.normal_(0, INIT_STD, generator=self._generator)


def random_model(
    shape: LlamaShape, *, dtype: torch.dtype, device: torch.device, seed: int = 0, form: WeightForm = PLAIN
) -> Model:
    """A decoder of a shape, with weights in a form."""
    with tempfile.TemporaryDirectory(prefix="kindling-shape-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(shape.config()))
        config = decoder_config(folder, shape.architecture, FAMILIES[shape.architecture])
    with torch.inference_mode():
        return Decoder(config, _RandomCheckpoint(dtype=dtype, device=device, seed=seed), device, form=form)
