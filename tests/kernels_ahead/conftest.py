"""Compiling ahead puts a stand-in in the place of the GPU's driver, so these tests have a process of their own."""

import os

if os.environ.get("KERNELS_AHEAD") != "1":
    collect_ignore_glob = ["test_*.py"]
