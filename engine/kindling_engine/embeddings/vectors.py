"""Vectors on their way out: cut to the wanted dimensions, of unit length. Free of torch."""

import numpy as np
from numpy.typing import NDArray


def unit_rows(whole: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Vectors ``[texts, dimensions]`` of length one from ``whole [texts, hidden]``, cut before they are scaled.

    Cutting keeps the leading part, which is how models trained for it (Kusupati et al., "Matryoshka
    Representation Learning", 2022) are used. A vector of zeros stays one.
    """
    cut = whole[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.ascontiguousarray(cut / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
