"""Shares one request's grant of output tokens among its choices."""

from collections.abc import Sequence

# How far ahead of its share's end a choice asks for more, and a request for a larger grant.
AHEAD_TOKENS = 64


class Share:
    """One choice's part of the grant: what it may make, what it has made, what it could ever make."""

    __slots__ = ("limit", "made", "open", "tokens")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tokens = 0
        self.made = 0
        self.open = True

    @property
    def is_short(self) -> bool:
        """Near its end although the choice could go on."""
        return self.open and self.tokens < self.limit and self.made >= self.tokens - AHEAD_TOKENS


class GrantShares:
    """Hands a grant out so that the shares never add up to more than it.

    A choice that ends gives back what it did not use; a choice near the end of its share gets an equal part of
    what is left.
    """

    def __init__(self, limits: Sequence[int], total: int) -> None:
        self.total = total
        self.shares = [Share(limit) for limit in limits]
        self._noticed = 0
        count = len(limits)
        for index, share in enumerate(self.shares):
            share.tokens = min(share.limit, total // count + (index < total % count))

    @property
    def left(self) -> int:
        """Tokens that nobody holds."""
        return self.total - sum(share.tokens for share in self.shares)

    def end(self, index: int) -> None:
        """A choice makes no more tokens."""
        share = self.shares[index]
        share.open = False
        share.tokens = min(share.tokens, share.made)

    def extend(self, total: int) -> None:
        """Raise the total, never lower it."""
        self.total = max(self.total, total)

    def top_up(self) -> list[tuple[int, int]]:
        """Give to those that are short; (index, new share) of each that got something.

        Who goes on alone gets everything at once.
        """
        grown: list[tuple[int, int]] = []
        left = self.left
        if left <= 0:
            return grown
        going = [index for index, share in enumerate(self.shares) if share.open]
        short = going if len(going) == 1 else [index for index in going if self.shares[index].is_short]
        for place, index in enumerate(short):
            share = self.shares[index]
            part = min(share.limit - share.tokens, -(-left // (len(short) - place)))
            if part > 0:
                share.tokens += part
                left -= part
                grown.append((index, share.tokens))
        return grown

    def take_notice(self) -> int | None:
        """The tokens made, once per total, when a choice is short and nothing is left to give it.

        Among several choices, tokens handed out count as made: one that waits for its turn must not keep another
        from going on.
        """
        if self._noticed == self.total or self.left > 0 or not any(share.is_short for share in self.shares):
            return None
        self._noticed = self.total
        return self.shares[0].made if len(self.shares) == 1 else self.total
