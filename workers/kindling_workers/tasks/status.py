"""Wake-ups about the status page."""

from kindling_workers.app import app
from kindling_workers.standing import components_sample
from kindling_workers.ticks import tick


@app.task(name="status.sample")
def sample() -> None:
    with tick("status.sample") as mine:
        if mine:
            components_sample()
