"""Every kernel in every configuration compiles for Hopper, fits into shared memory, and spills no register."""

import pytest

from kindling_engine.kernels.ahead import SHARED_LIMIT, Case, compile_ahead
from kindling_engine.kernels.registry import MODULES

CASES = [case for module in MODULES for case in module.ahead_cases()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiles_without_spilling(case: Case):
    compiled = compile_ahead(case)
    assert compiled.shared_bytes <= SHARED_LIMIT
    assert compiled.spilled_bytes == 0, f"{compiled.registers} registers"
