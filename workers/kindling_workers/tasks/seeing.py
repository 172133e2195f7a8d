"""Wake-ups that end looks through a member's eyes whose time is over."""

from kindling_platform.accounts.seeing import seeings_expire
from kindling_workers.app import app
from kindling_workers.ticks import tick


@app.task(name="seeing.expire")
def expire() -> None:
    with tick("seeing.expire") as mine:
        if mine:
            seeings_expire()
