"""``python -m kindling_engine.bench <name>``, for machines where the project is not installed."""

import sys

from kindling_engine.bench.command import bench

if __name__ == "__main__":
    sys.exit(bench(sys.argv[1:]))
