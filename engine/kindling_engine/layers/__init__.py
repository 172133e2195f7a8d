"""Building blocks of a decoder as plain functions and small classes over tensors."""
