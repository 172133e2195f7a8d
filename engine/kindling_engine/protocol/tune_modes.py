"""How a start chooses configurations of a GPU's kernels, by the names that a command line gives."""

OFF, CACHED, FULL = "off", "cached", "full"
TUNE_MODES = (OFF, CACHED, FULL)
TUNE_LIMIT_S = 60.0
