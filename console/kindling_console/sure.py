"""Pages for which somebody confirms anew that it is them, with their password or a second factor."""

from typing import TypeVar, cast

from allauth.account.decorators import reauthentication_required

View = TypeVar("View")


def sure(view: View) -> View:
    """Ask before the page is shown, and before its form is taken: what was sent is taken once that is done.

    It stands below `access.page`, which leads whoever is not signed in to signing in first.
    """
    return cast(View, reauthentication_required(view))
