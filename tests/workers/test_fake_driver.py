"""The fake which other tests injure keeps the same promises as the driver it stands for."""

import pytest

from kindling_driver_conformance import SPEC, Bench, DriverConformance
from kindling_fake_driver import FakeDriver
from kindling_workers.drivers.base import DriverError, DriverUnreachable


class TestFakeDriver(DriverConformance):
    @pytest.fixture
    def bench(self) -> Bench:
        fake = FakeDriver()
        return Bench(
            fake,
            fake,
            kill=lambda status: fake.crash(status.name),
            write=lambda status, record: fake.write(status.name, record),
        )


def test_faults_are_injected():
    fake = FakeDriver()
    fake.broken.add(SPEC.name)
    with pytest.raises(DriverError):
        fake.ensure(SPEC)
    fake.down = True
    with pytest.raises(DriverUnreachable):
        fake.replica_list()
