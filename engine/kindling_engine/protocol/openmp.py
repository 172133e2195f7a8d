"""How the threads of a step wait for each other."""

from collections.abc import Mapping

POLICY = "OMP_WAIT_POLICY"


def patient(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment whose process gives its core away while a thread waits, unless it says otherwise.

    OpenMP reads it when torch is imported. Threads that spin make a step up to four times as long where another process
    wants a core, as databases and gateways on the same machine do. Compiled layers have a meeting point of their own,
    which watches while nobody does.
    """
    return {POLICY: "passive", **environment}
