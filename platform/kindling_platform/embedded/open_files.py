"""How many files and connections this process and its children may have open."""

import resource

# Where the machine sets no limit.
ENOUGH = 1 << 16


def open_files_raise() -> None:
    """Take what the machine allows: the usual 1,024 are as many connections, and streams of the gateway need two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
