"""Kernels run here in Triton's interpreter, or on a GPU where the tests are started on one.

Without TRITON_INTERPRET=1 and without a GPU there is nothing to run them on: .ci/check starts these tests in a
process of their own, since the interpreter is chosen before triton is imported.
"""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if INTERPRETED:
    from kindling_interpreter import interpreter_remember

    interpreter_remember()
elif not torch.cuda.is_available():
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu" if INTERPRETED else "cuda")


def dtypes() -> list[torch.dtype]:
    """Those whose arithmetic is right where the tests run: the interpreter's bf16 is not."""
    return [torch.float32, torch.float16] if INTERPRETED else [torch.float32, torch.float16, torch.bfloat16]


# Last: what -k has left is what has ends.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With KERNELS_ENDS=1 only the first and the last case of each test: every kernel runs, not every configuration."""
    if os.environ.get("KERNELS_ENDS") != "1":
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    kept = {id(end) for all_cases in cases.values() for end in (all_cases[0], all_cases[-1])}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", dtypes(), ids=lambda dtype: str(dtype).removeprefix("torch."))
