"""Wake-ups of the books."""

from kindling_workers import books
from kindling_workers.app import app
from kindling_workers.ticks import tick


@app.task(name="books.expire")
def expire() -> None:
    with tick("books.expire") as mine:
        if mine and books.deadlines_hold():
            books.credit_expire()


@app.task(name="books.invoice")
def invoice() -> None:
    with tick("books.invoice") as mine:
        if mine and books.deadlines_hold():
            books.invoices_make()


@app.task(name="books.chase")
def chase() -> None:
    with tick("books.chase") as mine:
        if mine and books.deadlines_hold():
            books.unpaid_chase()


@app.task(name="books.prove")
def prove() -> None:
    with tick("books.prove") as mine:
        if mine:
            books.books_check()


@app.task(name="books.rerate")
def rerate() -> None:
    with tick("books.rerate") as mine:
        if mine:
            books.rerating_run()
