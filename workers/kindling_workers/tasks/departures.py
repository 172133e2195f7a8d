"""Wake-ups that clear away what deleted organisations and accounts have left."""

from kindling_platform.departures.organisations import cards_forget_late, organisations_clear
from kindling_platform.departures.persons import origins_forget
from kindling_workers.app import app
from kindling_workers.ticks import tick


@app.task(name="departures.sweep")
def sweep() -> None:
    with tick("departures.sweep") as mine:
        if mine:
            organisations_clear()


@app.task(name="departures.tidy")
def tidy() -> None:
    with tick("departures.tidy") as mine:
        if mine:
            cards_forget_late()
            origins_forget()
