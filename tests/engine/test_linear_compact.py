"""Projections and tables in fp16 and int8: what is computed, with code for this processor and without, and how near."""

from collections.abc import Iterator

import pytest
import torch

from kindling_engine.jit.linear import PackedLinear, linear_kernel
from kindling_engine.layers import linear_compact
from kindling_engine.layers.linear import Linear
from kindling_engine.layers.linear_compact import CompactLinear, CompactRows, CompactTable

FORMS = {"fp16": CompactRows.half, "int8": CompactRows.int8}
SHAPES = [(96, 64), (112, 1056), (600, 576), (33, 40), (5, 7)]
ROWS = [1, 2, 3, 8, 9, 40, 70, 131]
KERNEL = linear_kernel()


@pytest.fixture(params=[False, True], ids=["compiled", "torch"])
def without_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways on one machine: with code for its processor, where there is any, and as on others."""
    if request.param:
        monkeypatch.setattr(linear_compact, "linear_kernel", lambda: None)
    elif KERNEL is None:
        pytest.skip("no code is made for this processor")
    return request.param


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weight_make(outputs: int, inputs: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) * 0.02


def rows_make(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def kept(rows: CompactRows) -> torch.Tensor:
    """The weights that are multiplied with, by the definition."""
    values = rows.values.double()
    return values if rows.scales is None else values * rows.scales.double()[:, None]


def test_a_scale_covers_its_row_and_a_row_of_zeros_stays_zero():
    weight = torch.tensor([[0.5, -1.27, 0.0], [0.0, 0.0, 0.0], [3.0, 3.0, -3.0]])
    rows = CompactRows.int8(weight)
    assert rows.values.tolist() == [[50, -127, 0], [0, 0, 0], [127, 127, -127]]
    assert torch.allclose(kept(rows).float(), weight, atol=0.005)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", ROWS)
def test_a_projection_is_that_of_the_weights_that_it_keeps(form, shape, count, without_code):
    weight, bias, x = weight_make(*shape), weight_make(1, shape[0], 2)[0], rows_make(count, shape[1])
    rows = FORMS[form](weight)
    torch.set_num_threads(2)
    for one in (None, bias):
        linear = CompactLinear(rows, one)
        assert isinstance(linear.compiled, PackedLinear) != (without_code or shape in SHAPES[3:])
        found = linear(x)
        assert (found.shape, found.dtype) == ((count, shape[0]), torch.float32)
        wanted = x.double() @ kept(rows).T + (0 if one is None else one.double())
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("count", ROWS)
def test_a_projection_in_int8_is_near_that_of_the_weights_themselves(count, without_code):
    weight, x = weight_make(96, 576), rows_make(count, 576)
    # Rounding to a grid of step s adds s/√12 per weight, which sums to s·|x|/√12 at one standard deviation.
    step = weight.abs().amax(dim=1) / 127
    sigma = step * x.norm(dim=1, keepdim=True) / 12**0.5
    found = CompactLinear(CompactRows.int8(weight))(x)
    assert ((found - Linear(weight)(x)).abs() <= 5 * sigma).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_table_looks_up_the_rows_that_its_head_multiplies_with(form, without_code):
    rows = FORMS[form](weight_make(320, 64))
    table, tokens, x = CompactTable(rows), torch.tensor([0, 319, 7, 7]), rows_make(3, 64)
    expected = kept(rows)[tokens].float()
    assert table.dtype == torch.float32
    for _ in range(2):
        # Before the head is made, and after.
        assert torch.equal(table(tokens), expected)
        assert torch.allclose(table.head()(x), (x.double() @ kept(rows).T).float(), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_does_not_feel_its_neighbours(form, without_code):
    """The largest activation of a batch would set the scale of all, if activations had one."""
    linear = CompactLinear(FORMS[form](weight_make(96, 576)))
    x = rows_make(8, 576)
    crowd = torch.cat([x[:1], 1e4 * x[1:]])
    assert torch.allclose(linear(crowd)[:1], linear(x[:1]), atol=0 if not without_code else 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_code_that_cannot_be_made_leaves_the_product_to_torch(form, monkeypatch):
    if KERNEL is None:
        pytest.skip("no code is made for this processor")
    monkeypatch.setattr(KERNEL, "_products", {})
    monkeypatch.setattr("kindling_engine.jit.linear._right", lambda *_: False)
    rows, x = FORMS[form](weight_make(96, 64)), rows_make(3, 64)
    linear = CompactLinear(rows)
    assert linear.compiled is None
    assert torch.allclose(linear(x).double(), x.double() @ kept(rows).T, atol=1e-6)
