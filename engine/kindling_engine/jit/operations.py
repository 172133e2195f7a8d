"""What the code and who calls it number alike."""

LINEAR, NORM, NORM_OF_SUM, GATE, PLACE, ATTEND, ADAPT = range(7)
"""The kinds of a program's operations."""
FP32, BF16, FP16, INT8 = range(4)
"""What the weights of a product are stored as."""
