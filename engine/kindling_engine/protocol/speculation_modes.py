"""Whether an engine guesses tokens ahead, by the names that a command line gives."""

AUTO, OFF = "auto", "off"
SPECULATION_MODES = (AUTO, OFF)
