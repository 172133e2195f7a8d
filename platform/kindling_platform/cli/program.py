"""What people type to reach the command; hints and usage lines name it so."""

import sys
from pathlib import Path

INSTALLED, LAUNCHER = "kindling", "./kindling"
PROGRAM = INSTALLED if Path(sys.argv[0]).name == INSTALLED else LAUNCHER
"""The script that a wheel puts on the path, else the launcher of a clone."""
