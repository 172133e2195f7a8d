"""How often guesses turn out right."""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["forced", "firm", "loose"]
"""Guesses at what a grammar leaves no choice of, those with much in common before them, and others."""

_FIRST = 0.5
_WEIGHT = 2.0
"""Of what is known of all requests, in trials of one's own."""
_KEPT, _KEPT_OF_ALL = 0.9, 0.98
"""What a trial leaves of the weight of those before it."""
_FORGOTTEN, _FORGOTTEN_OF_ALL = 0.99, 0.999
"""The same of a guess that was not tried: some day it is worth a trial again."""
_LEAST, _MOST = 0.02, 0.98


@dataclass(slots=True)
class Tally:
    """Guessed tokens that were right and wrong, the later ones with more weight."""

    right: float = 0.0
    wrong: float = 0.0

    def rate(self, prior: float, weight: float) -> float:
        """The share of right ones, as if ``weight`` trials had been right at the rate ``prior``."""
        found = (self.right + weight * prior) / (self.right + self.wrong + weight)
        return min(_MOST, max(_LEAST, found))

    def add(self, right: int, *, missed: bool, kept: float) -> None:
        """``right`` tokens came as guessed, and then one that did not, if ``missed``."""
        self.right = self.right * kept + right
        self.wrong = self.wrong * kept + missed

    def fade(self, kept: float) -> None:
        self.right *= kept
        self.wrong *= kept


@dataclass(slots=True)
class Tallies:
    """One for each kind of guess: some are right far more often than others."""

    forced: Tally = field(default_factory=Tally)
    firm: Tally = field(default_factory=Tally)
    loose: Tally = field(default_factory=Tally)

    def of(self, kind: Kind) -> Tally:
        return {"forced": self.forced, "firm": self.firm, "loose": self.loose}[kind]


class Rates:
    """The rates of all requests; each has tallies of its own beside."""

    def __init__(self) -> None:
        self._all = Tallies()

    def rate(self, own: Tallies, kind: Kind) -> float:
        """The chance that the next token of a guess is right, if those before it were."""
        prior = self._all.of(kind).rate(_FIRST, _WEIGHT)
        if kind != "loose":
            # Whose guesses have good grounds gets a trial, however badly those of others fared.
            prior = max(prior, _FIRST)
        return own.of(kind).rate(prior, _WEIGHT)

    def learn(self, own: Tallies, kind: Kind, right: int, *, missed: bool) -> None:
        """Of a guess ``right`` tokens came, and then another one if ``missed``."""
        own.of(kind).add(right, missed=missed, kept=_KEPT)
        self._all.of(kind).add(right, missed=missed, kept=_KEPT_OF_ALL)

    def pass_over(self, own: Tallies, kind: Kind) -> None:
        """A guess was not worth a trial."""
        own.of(kind).fade(_FORGOTTEN)
        self._all.of(kind).fade(_FORGOTTEN_OF_ALL)
