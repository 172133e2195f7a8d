"""The bytes of tensors that an object of ours keeps alive."""

import gc
from functools import partial
from types import MethodType

from torch import Tensor

_CONTAINERS = (list, tuple, dict, partial, MethodType)


def kept_bytes(*owners: object) -> int:
    """Bytes of every tensor reachable from ``owners`` through the engine's objects and containers, each once."""
    seen: set[int] = set()
    queue: list[object] = list(owners)
    total = 0
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            # A packed tensor shows no storage, and no view shares it.
            storage = None if thing.is_mkldnn else thing.untyped_storage()
            if storage is None:
                total += thing.numel() * thing.element_size()
            elif storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
        elif isinstance(thing, _CONTAINERS) or type(thing).__module__.startswith("kindling_engine."):
            queue += gc.get_referents(thing)
    return total
