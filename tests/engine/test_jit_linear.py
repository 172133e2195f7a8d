"""Products by code compiled for this processor: right, steady, kept, and never in the way where they cannot be."""

import builtins
import ctypes
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kindling_engine.jit import compiling, linear
from kindling_engine.jit.compiler import compile_kernel
from kindling_engine.jit.compiler_pages import compiler_code
from kindling_engine.jit.linear import LinearKernel, PackedLinear, linear_kernel
from kindling_engine.layers.embedding import Embedding
from kindling_engine.layers.linear import Linear

KERNEL = linear_kernel()
needs_kernel = pytest.mark.skipif(KERNEL is None, reason="no code is made for this processor")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kindling" / "code"


@pytest.fixture(params=[(8,), (16, 8), "tiles"], ids=["8", "16", "tiles"])
def widths(request: pytest.FixtureRequest) -> tuple[int, ...] | str:
    """Vectors of every width run on every processor, with more instructions where its own are narrower."""
    if request.param == "tiles" and not (KERNEL is not None and compiling.processor_here().tiles):
        pytest.skip("this processor does not multiply tiles")
    return request.param


@pytest.fixture
def tiles(widths: tuple[int, ...] | str) -> bool:
    return widths == "tiles"


@pytest.fixture
def kernel(widths: tuple[int, ...] | str, monkeypatch: pytest.MonkeyPatch) -> LinearKernel:
    """One for vectors of these widths, and no tiles but where they are asked for."""
    processor = compiling.processor_here()
    if isinstance(widths, tuple):
        processor = replace(processor, widths=widths, tiles=False)
    monkeypatch.setattr(compiling, "processor_here", lambda: processor)
    return LinearKernel()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def wanted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    exact = x.double() @ weight.double().T
    return exact if bias is None else exact + bias.double()


@needs_kernel
@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("outputs", "inputs"), [(16, 2), (40, 30), (80, 30), (144, 576), (64, 9000), (176, 1056)]
)
def test_it_multiplies(kernel: LinearKernel, tiles: bool, outputs: int, inputs: int, narrow: bool):
    weight, bias = random(outputs, inputs), random(outputs, seed=1)
    weight = weight.bfloat16().float() if narrow else weight
    torch.set_num_threads(2)
    for one in (None, bias):
        product = kernel.pack(weight, one)
        # Code that is wrong is passed over when it is loaded: here it has to be in use.
        assert product._product.pairs == (tiles and narrow and not inputs % 32 and not outputs % 16)
        for count in (0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 33, 40, 131):
            x = random(count, inputs, seed=2)
            found = product(x)
            assert found.shape == (count, outputs)
            assert found.is_contiguous()
            close = torch.allclose(found.double(), wanted(x, weight, one), rtol=1e-5, atol=1e-5 * inputs**0.5)
            assert close, count


@needs_kernel
@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "bf16"])
def test_a_row_has_the_same_bits_in_any_company_and_on_any_threads(kernel: LinearKernel, narrow: bool):
    weight, x = random(400, 1088), random(77, 1088, seed=1)
    product = kernel.pack(weight.bfloat16().float() if narrow else weight)
    torch.set_num_threads(1)
    alone = torch.cat([product(row) for row in x.split(1)])
    for count in (1, 2):
        torch.set_num_threads(count)
        for size in (1, 2, 3, 4, 5, 6, 7, 12, 16, 17, 33, 50, 77):
            assert torch.equal(torch.cat([product(rows) for rows in x.split(size)]), alone), (count, size)


@needs_kernel
@pytest.mark.parametrize("widths", [(8,), (16, 8)], indirect=True, ids=["8", "16"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float32])
def test_sums_over_spans_of_long_rows_are_those_of_a_row_alone(kernel: LinearKernel, dtype: torch.dtype):
    weight, x, bias = (20 * random(80, 1700)).to(dtype), random(200, 1700, seed=1), random(80, seed=3)
    scales = random(80, seed=2).abs() if dtype == torch.int8 else None
    product = kernel.pack_as(dtype, weight, bias, scales)
    assert product is not None
    assert product._matrix.span_inputs < 1700 / 2
    assert product._matrix.block_rows < 200
    torch.set_num_threads(1)
    alone = torch.cat([product(row) for row in x.split(1)])
    exact = weight.double() if scales is None else weight.double() * scales.double()[:, None]
    assert torch.allclose(alone.double(), wanted(x, exact, bias), rtol=1e-4, atol=1e-2)
    for size in (9, 85, 131, 200):
        torch.set_num_threads(2)
        assert torch.equal(torch.cat([product(rows) for rows in x.split(size)]), alone), size


@needs_kernel
def test_the_compilers_own_code_is_given_back_once_it_has_loaded_ours(monkeypatch: pytest.MonkeyPatch):
    def resident_kb() -> int:
        begins = [f"{begin:x}-" for begin, _ in compiler_code()]
        maps = Path("/proc/self/smaps").read_text().splitlines()
        return sum(
            int(maps[at + 4].removeprefix("Rss:").split()[0])
            for at, line in enumerate(maps)
            if line.startswith(tuple(begins)) and " r-xp " in line
        )

    with monkeypatch.context() as patch:
        patch.setattr(compiling, "compiler_pages_release", lambda: None)
        LinearKernel()
        kept = resident_kb()
    found = LinearKernel()
    assert 0 < kept > 4 * resident_kb()
    weight, x = random(48, 30), random(5, 30, seed=1)
    assert torch.allclose(found.pack(weight)(x).double(), wanted(x, weight), atol=1e-4)


@needs_kernel
def test_many_threads_share_rows_where_panels_are_few(kernel: LinearKernel):
    weight, x = random(80, 64).bfloat16().float(), random(131, 64, seed=1)
    product = kernel.pack(weight)
    torch.set_num_threads(1)
    alone = product(x)
    assert torch.allclose(alone.double(), wanted(x, weight), atol=1e-4)
    for count in (2, 3, 5, 8, 13):
        torch.set_num_threads(count)
        for rows in (x, x[:33], x[:32], x[:5]):
            assert torch.equal(product(rows), alone[: len(rows)]), count


@needs_kernel
@pytest.mark.parametrize("widths", ["tiles"], indirect=True)
@pytest.mark.parametrize(("dtype", "least"), [(torch.int8, 12), (torch.float16, 48)])
def test_weights_that_are_no_bf16_go_by_tiles_from_some_rows_on(
    kernel: LinearKernel, dtype: torch.dtype, least: int
):
    weight, x = (20 * random(80, 1088)).to(dtype), random(131, 1088, seed=1)
    scales = random(80, seed=2).abs() if dtype == torch.int8 else None
    product = kernel.pack_as(dtype, weight, random(80, seed=3), scales)
    assert product is not None
    torch.set_num_threads(1)
    few, many = product(x[: least - 1]), product(x[:least])
    assert not torch.equal(few, many[:-1]), "sums go in another order"
    assert torch.allclose(few, many[:-1], rtol=1e-4, atol=1e-3)
    for count in (1, 2, 13):
        torch.set_num_threads(count)
        assert torch.equal(product(x)[:least], many), count


@needs_kernel
def test_weights_that_lose_nothing_in_bf16_lie_as_bf16(kernel: LinearKernel, tiles: bool):
    rough, bias = random(1200, 64), random(1200, seed=1)
    exact = rough.bfloat16().float()
    product = kernel.pack(exact, bias)
    assert product.weight_bytes == 2 * exact.numel()
    assert kernel.pack(rough).weight_bytes == 4 * rough.numel()
    # A single weight that would lose digits, at the very end.
    exact[-1, -1] = 1 + 2**-10
    wide = kernel.pack(exact, bias)
    assert wide.weight_bytes == 4 * exact.numel()
    for count in (1, 2, 5, 8, 30):
        x = random(count, 64, seed=2)
        found, same = (one(x)[:, :-1] for one in (product, wide))
        # Tiles sum up in another order.
        assert torch.allclose(found, same, rtol=1e-5, atol=1e-5) if tiles else torch.equal(found, same)
    indices = torch.tensor([0, 7, 1198])
    assert torch.equal(product.rows(indices), exact[indices])


@needs_kernel
def test_rows_that_lie_apart_and_columns_that_do():
    weight, whole = random(32, 24), random(9, 48, seed=1)
    for x in (whole[:, :24], whole[::2, 8:32], whole[:, ::2], whole.T[:24, :7].T):
        assert torch.allclose(Linear(weight)(x).double(), wanted(x, weight), atol=1e-5)


@pytest.mark.parametrize(("outputs", "inputs"), [(15, 24), (32, 23), (1001, 333)])
def test_sizes_that_do_not_divide_are_multiplied_by_torch(outputs: int, inputs: int):
    weight, x = random(outputs, inputs), random(3, inputs, seed=1)
    product = Linear(weight)
    assert not product.steady
    assert torch.allclose(product(x).double(), wanted(x, weight), atol=1e-4)


@needs_kernel
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_a_table_that_is_the_head_as_well_gives_its_rows(stored: torch.dtype):
    weight = random(1040, 48).to(stored)
    table = Embedding(weight, torch.float32)
    head, x = table.head(), random(3, 48, seed=1)
    assert head is table._packed
    assert torch.equal(table(torch.tensor([0, 1039, 7, 7])), weight.float()[[0, 1039, 7, 7]])
    assert torch.allclose(head(x).double(), wanted(x, weight), atol=1e-4)


@needs_kernel
def test_code_is_compiled_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = LinearKernel()
    kept = next(cache.iterdir())
    content = kept.read_bytes()

    def compile_again(*_: Any) -> bytes:
        raise AssertionError("compiled although it was kept")

    x, weight = random(3, 64, seed=1), random(64, 64)
    first.pack(weight)
    monkeypatch.setattr(compiling, "compile_kernel", compile_again)
    assert torch.equal(LinearKernel().pack(weight)(x), first.pack(weight)(x))
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AssertionError, match="although"):
        LinearKernel()


@needs_kernel
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kindling").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert LinearKernel().fits(random(16, 2))


@needs_kernel
def test_what_compiles_leaves_nothing_in_the_process_that_serves(tmp_path: Path):
    code = (
        "import sys; from kindling_engine.jit.linear import LinearKernel; LinearKernel();"
        "print([name for name in sys.modules if name.endswith('_code')])"
    )
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert len(list((tmp_path / "kindling/code").iterdir())) == 1


@needs_kernel
@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/false", "", None])
def test_where_no_other_process_compiles_this_one_does(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, executable: str | None
):
    monkeypatch.setattr(sys, "executable", executable)
    assert fresh_kernel() is not None and len(list(cache.iterdir())) == 1
    assert "linear is compiled here" in caplog.text


@needs_kernel
def test_a_compiler_that_fails_says_what_it_said(cache: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(ModuleNotFoundError, match="nothing_code"):
        compiling.code_load("nothing", compiling.processor_here())
    assert "nothing_code" in caplog.text and not cache.exists()


@needs_kernel
def test_a_compiler_that_dies_or_does_not_end_takes_nobody_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(killed))
        with pytest.raises(RuntimeError, match="ended by signal 9"):
            compile_kernel("rows", "generic", "", (8,))
    monkeypatch.setattr("kindling_engine.jit.compiler._LONGEST_S", 0.001)
    with pytest.raises(RuntimeError, match="not compiled after"):
        compile_kernel("rows", "generic", "", (8,))


@needs_kernel
def test_what_else_a_compiler_prints_is_no_code(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sitecustomize.py").write_text("print('hello'); import sys; print('hello', file=sys.stderr)")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert fresh_kernel() is not None
    (kept,) = cache.iterdir()
    assert kept.read_bytes()[32:36] == b"\x7fELF"
    # What some other version may have kept as code, digest and all.
    content = b"hello" + kept.read_bytes()[32:]
    kept.write_bytes(hashlib.sha256(content).digest() + content)
    assert fresh_kernel() is not None and kept.read_bytes()[32:36] == b"\x7fELF"


@needs_kernel
def test_without_leave_to_use_tiles_there_are_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "tiles_permitted", lambda: False)
    assert not compiling.processor_here().tiles
    weight, x = random(64, 64).bfloat16().float(), random(100, 64, seed=1)
    product = LinearKernel().pack(weight)
    assert torch.allclose(product(x).double(), wanted(x, weight), atol=1e-4)


@needs_kernel
@pytest.mark.parametrize("widths", ["tiles"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tiles_that_multiply_wrongly_are_not_used(
    kernel: LinearKernel, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    right, looked_at = linear._right, []

    def wrong_for_tiles(product: linear.Product, inputs: int) -> bool:
        looked_at.append(inputs)
        return inputs % 32 != 0 and right(product, inputs)

    monkeypatch.setattr(linear, "_right", wrong_for_tiles)
    weight, x = random(64, 64).to(dtype), random(100, 64, seed=1)
    product = kernel.pack_as(dtype, weight)
    assert product is not None
    assert [inputs % 32 == 0 for inputs in looked_at] == [True, False]
    assert product.weight_bytes == weight.nbytes
    assert torch.allclose(product(x).double(), wanted(x, weight), atol=1e-4)


def fresh_kernel() -> LinearKernel | None:
    return linear_kernel.__wrapped__()


def test_without_the_compiler_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "kindling_engine.jit.compiling":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert fresh_kernel() is None


@needs_kernel
def test_on_a_processor_without_vectors_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "processor_find", lambda: None)
    assert fresh_kernel() is None


@needs_kernel
def test_code_that_multiplies_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch):
    real = PackedLinear.__call__
    monkeypatch.setattr(PackedLinear, "__call__", lambda self, x: real(self, x) * (1 + 1e-3))
    assert fresh_kernel() is None


@needs_kernel
def test_what_the_code_reads_is_laid_out_as_it_reads_it():
    matrix = linear._Matrix
    assert ctypes.sizeof(matrix) == 56
    assert [getattr(matrix, name).offset for name, _ in matrix._fields_] == [0, 8, 16, 24, 32, 40, 48]
