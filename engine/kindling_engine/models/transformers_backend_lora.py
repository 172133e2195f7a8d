"""Adapters on transformers' own modules: one site for each linear layer, added by a hook behind it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.sites import LoraLayout, Target
from kindling_engine.models.transformers_backend_trunk import Trunk

_ROWS = 1024


class LinearSites:
    """Linear layers that see every token of a step once and in order, which is what an adapter's rows need."""

    def __init__(self, model: nn.Module) -> None:
        self._linears = _linears(model)
        self._counts: Counter[str] = Counter()
        self._lora: LoraBatch | None = None
        self._hooks: list[Any] = []
        self.layout = LoraLayout({}, 0)

    @contextmanager
    def counting(self, num_tokens: int) -> Iterator[None]:
        """Note which layers a pass of ``num_tokens`` calls, and how often; experts see only some of the tokens."""

        def note(path: str) -> Callable[..., None]:
            def hook(_module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                x = arguments[0] if arguments else None
                whole = (
                    isinstance(x, Tensor)
                    and isinstance(output, Tensor)
                    and x.numel() == num_tokens * x.shape[-1]
                    and x.shape[:-1] == output.shape[:-1]
                )
                self._counts[path] += 1 if whole else 2

            return hook

        handles = [module.register_forward_hook(note(path)) for path, (module, _, _) in self._linears.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def attach(self, trunk: Trunk) -> None:
        """Fix the layout from what was counted, and hang an adapter's share behind each of its layers.

        What stands behind the trunk runs once the adapters of the step are gone.
        """
        inside = set(trunk.module.modules())
        targets: dict[str, Target] = {}
        for path, (module, width_in, width_out) in self._linears.items():
            if self._counts[path] == 1 and module in inside:
                site = len(targets)
                targets[path] = Target(site, width_in, 0, width_out)
                self._hooks.append(module.register_forward_hook(self._adder(site)))
        base = ModuleWeights({path: self._linears[path][0] for path in targets})
        self.layout = LoraLayout(
            targets, len(targets), base=lambda _device: nullcontext(base), unseen=trunk.unseen
        )

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def applied(self, lora: LoraBatch | None) -> Iterator[None]:
        """Adapters of the step that runs inside."""
        self._lora = lora
        try:
            yield
        finally:
            self._lora = None

    def narrowed(self, tokens: Sequence[int]) -> AbstractContextManager[None]:
        """Inside, layers see these tokens of the step alone, in this order."""
        return self._replaced(None if self._lora is None else self._lora.narrowed(tokens))

    def of_one(self, token: int) -> AbstractContextManager[None]:
        """Inside, all that layers see is of one sequence, that of a token of the step: be it this step's or, where a
        model keeps what it has yet to project, what went before.
        """
        return self._replaced(None if self._lora is None else self._lora.of_one(token))

    @contextmanager
    def _replaced(self, lora: LoraBatch | None) -> Iterator[None]:
        whole, self._lora = self._lora, lora
        try:
            yield
        finally:
            self._lora = whole

    def _adder(self, site: int) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            if self._lora is not None:
                x = arguments[0]
                self._lora.add(output.view(-1, output.shape[-1]), x.reshape(-1, x.shape[-1]), site)

        return hook


class ModuleWeights:
    """Weights of linear layers as they lie in memory."""

    def __init__(self, linears: Mapping[str, Any]) -> None:
        self._linears = linears

    def rows(self, path: str) -> Iterator[Tensor]:
        """``[n, in]`` in fp32, some rows at a time."""
        module = self._linears[path]
        weight: Tensor = module.weight if isinstance(module, nn.Linear) else module.weight.t()
        for part in weight.split(_ROWS):
            yield part.to(torch.float32)

    def bias(self, path: str) -> Tensor | None:
        """``[out]`` in fp32 of a layer that has one."""
        bias = self._linears[path].bias
        return None if bias is None else bias.to(torch.float32)


def _linears(model: Any) -> dict[str, tuple[nn.Module, int, int]]:
    """Every linear layer by its path, with its widths; not the head, which stands outside of ``hidden``."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    found: dict[str, tuple[nn.Module, int, int]] = {}
    for path, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, nn.Linear):
            found[path] = (module, module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            found[path] = (module, module.weight.shape[0], module.weight.shape[1])
    return found
