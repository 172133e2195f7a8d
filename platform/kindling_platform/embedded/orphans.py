"""Processes that ended after their parents: who is process 1 of a container is asked to bury them."""

import os
from collections.abc import Iterable


def orphans_reap(ours: Iterable[int]) -> None:
    """Bury the dead that are not among ours, whose ends their own keepers ask for."""
    if os.getpid() != 1:
        return
    kept = set(ours)
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # The kernel names the first: behind one of ours, which is buried in this round, others wait for the next.
        if ended is None or ended.si_pid in kept:
            return
        os.waitpid(ended.si_pid, 0)
