"""What the code and who calls it number alike."""

LINEAR, NORM, NORM_OF_SUM, GATE, PLACE, ATTEND, ADAPT = range(7)
"""The kinds of a program's operations."""
NORM_CODE, NORM_OF_SUM_CODE, GATE_CODE = "norm", "norm_of_sum", "gate"
TURNED_AT_ONCE = 8
"""Floats of a head that are rotated at once, of either half."""
FP32, BF16, FP16, INT8, BF16_PAIRS = range(5)
"""What the weights of a product are stored as; pairs are for processors that multiply tiles."""
CHUNK = 32
"""Inputs that one instruction on tiles takes."""
TILE_WIDTH = 16
"""Outputs that it gives."""
SPAN_INPUTS = 768
"""Of a product of many rows that are summed up at a time, at the most: of a group of panels, as fp32, a share of the
second-level cache."""
