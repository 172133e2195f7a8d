"""The bytes of tensors that an object keeps alive."""

import gc
from types import FunctionType, ModuleType

from torch import Tensor

# What these refer to belongs to everybody.
_SHARED = (type, ModuleType, FunctionType)


def kept_bytes(*owners: object) -> int:
    """Bytes of every tensor reachable from ``owners`` through objects and containers, each counted once."""
    seen: set[int] = set()
    queue: list[object] = list(owners)
    total = 0
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, _SHARED):
            continue
        seen.add(id(thing))
        if not isinstance(thing, Tensor):
            queue += gc.get_referents(thing)
        # A packed tensor shows no storage, and no view shares it.
        elif thing.is_mkldnn:
            total += thing.numel() * thing.element_size()
        elif (storage := thing.untyped_storage()).data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
    return total
