"""The engine core: a process that takes requests from the front over a Unix socket and runs them in steps."""
