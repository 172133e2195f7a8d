"""Wake-ups about models and their deployments."""

import time

from kindling_platform.deployments.paces import paces_measure
from kindling_platform.deployments.speeds import speeds_measure
from kindling_workers.app import app
from kindling_workers.ticks import tick

# So many times as long as it took the database does something else, however many requests there are.
REST = 60


class _Rest:
    until_s = 0.0


@app.task(name="catalog.measure")
def measure() -> None:
    began = time.monotonic()
    if began < _Rest.until_s:
        return
    with tick("catalog.measure") as mine:
        if mine:
            try:
                speeds_measure()
                paces_measure()
            finally:
                # Also behind what was given up, which took longest.
                took_s = time.monotonic() - began
                _Rest.until_s = began + took_s * REST if took_s > 1 else 0.0
