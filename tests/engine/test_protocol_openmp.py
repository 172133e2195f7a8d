"""What a core's process is told about waiting."""

from kindling_engine.protocol.openmp import patient


def test_threads_give_their_cores_away_unless_the_environment_says_otherwise():
    assert patient({"A": "1"}) == {"A": "1", "OMP_WAIT_POLICY": "passive"}
    assert patient({"OMP_WAIT_POLICY": "active"}) == {"OMP_WAIT_POLICY": "active"}
