"""The two halves of a causal model of transformers: the module that holds all its layers, and what stands behind it."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError
from kindling_engine.models.memory import out_of_memory


class Trunk:
    """The module that holds all layers; once attached, the model gives logits of states that it has made before."""

    def __init__(
        self, causal: Any, module: Any, output: Any, logits: Tensor, unseen: frozenset[str] = frozenset()
    ) -> None:
        """``output`` and ``logits`` are those of a pass over text, which goes by the modules at ``unseen``."""
        self.module = module
        self.unseen = unseen
        self.hidden_size: int = output.last_hidden_state.shape[-1]
        self.vocab_size = min(logits.shape[-1], causal.get_input_embeddings().weight.shape[0])
        self._causal = causal
        self._forward: Callable[..., Any] = module.forward
        self._output_type: type[Any] = type(output)
        self._given: Tensor | None = None

    def attach(self) -> None:
        self.module.forward = self._made_or_given

    def detach(self) -> None:
        self.module.forward = self._forward

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``[m, vocab]`` in fp32, by whatever the model does behind its last layer: scale, cap, project."""
        self._given = hidden[None]
        try:
            tokens = torch.zeros((1, hidden.shape[0]), dtype=torch.int64, device=hidden.device)
            logits: Tensor = self._causal(input_ids=tokens, use_cache=False).logits
        finally:
            self._given = None
        return logits[0].float()

    def _made_or_given(self, *arguments: Any, **options: Any) -> Any:
        """The trunk's pass; or, while ``logits`` asks, the states it has made before."""
        if self._given is None:
            return self._forward(*arguments, **options)
        return self._output_type(last_hidden_state=self._given)


def named(module: Any, **options: Any) -> dict[str, Any]:
    """Those of ``options`` that a module's pass has by name: not all know of caches, or of positions."""
    known = inspect.signature(module.forward).parameters
    return {name: value for name, value in options.items() if name in known}


@contextmanager
def faults_named(architecture: str, what: str) -> Iterator[None]:
    """Whatever transformers' modules raise, the model is at fault, and the start names it."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(
            "unsupported_model", f"{architecture} is not served: {what} fails ({said})."
        ) from error


def trunk_watch(causal: Any, architecture: str, tokens: Tensor, options: dict[str, Any]) -> tuple[Trunk, Any]:
    """Run a pass over ``tokens [1, n]``; gives the module that holds all layers, and its output.

    Raises ModelError ``unsupported_model`` where it fails or there is no such module.
    """
    outputs: list[tuple[Any, Any]] = []
    called: set[int] = set()
    handles = [
        module.register_forward_hook(lambda module, _, output: outputs.append((module, output)))
        for module in _candidates(causal)
    ]
    handles += [
        module.register_forward_hook(lambda module, *_: called.add(id(module))) for module in causal.modules()
    ]
    try:
        # Modules that want images, cannot take positions or look into the mask fail here in ways of their own.
        with faults_named(architecture, "a plain pass over text"):
            logits = causal(input_ids=tokens, **options).logits
    finally:
        for handle in handles:
            handle.remove()
    # The outermost ends last.
    whole = [
        (module, output)
        for module, output in outputs
        if getattr(output, "last_hidden_state", None) is not None
    ]
    if not whole:
        raise ModelError("unsupported_model", f"{architecture} is not served: its layers stand in no module.")
    unseen = _uncalled_release(causal, called, text=whole[0][0])
    module, output = whole[-1]
    with faults_named(architecture, "to look for its words"):
        return Trunk(causal, module, output, logits, unseen), output


def _uncalled_release(causal: Any, called: set[int], text: Any) -> frozenset[str]:
    """Let go of the weights of whole models within this one that text does not pass through: what sees or hears.

    Gives the paths of all modules there, and of what leads from there to the model of ``text``. Within that one a
    module that a short pass does not call may be an expert that another text will ask for.
    """

    def passed_by(module: Any) -> bool:
        return not any(id(part) in called for part in module.modules())

    released = [module for module in _candidates(causal) if passed_by(module)]
    for module in released:
        for parameter in module.parameters():
            parameter.data = parameter.data.new_empty(0)
    if not released:
        return frozenset()
    kept = {id(part) for part in (*text.modules(), causal.get_output_embeddings())}
    return frozenset(
        path for path, module in causal.named_modules() if id(module) not in kept and passed_by(module)
    )


def _candidates(causal: Any) -> Iterable[Any]:
    from transformers import PreTrainedModel

    return [
        module for module in causal.modules() if isinstance(module, PreTrainedModel) and module is not causal
    ]
