"""Where blocks lie while a model is loaded, and behind that."""

import ctypes
import subprocess
import sys

import pytest
import torch

from kindling_engine.models import heap, registry
from kindling_tiny_models import model_make

# In a process whose heap nobody else has filled: whether blocks come from the system by themselves. None fits into what
# the last one has left.
LOOK = """
import ctypes
from kindling_engine.models.heap import blocks_apart

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena free fast apart apart_bytes most kept used left top".split()]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def apart(size):
    before = library.mallinfo2().apart
    block = library.malloc(size << 20)
    found = library.mallinfo2().apart - before
    library.free(block)
    return found

library.free(library.malloc(16 << 20))
print(apart(8))
with blocks_apart():
    print(apart(10))
print(apart(12))
"""


def test_blocks_lie_apart_while_a_model_is_loaded_and_in_the_heap_before_and_afterwards():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("the C library is not glibc, or an old one")
    looked = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert looked.stdout.split() == ["0", "1", "0"]


def test_a_checkpoint_is_loaded_so_and_what_follows_is_not(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(heap, "_set", lambda parameter, size: seen.append((parameter, size)))
    made = registry.Decoder
    monkeypatch.setattr(
        registry, "Decoder", lambda *given, **named: seen.append("made") or made(*given, **named)
    )
    registry.model_load(model_make("llama", tmp_path), device=torch.device("cpu"), dtype=torch.float32)
    assert seen == [(-3, 256 << 10), "made", (-3, 32 << 20), (-1, 64 << 20)]
