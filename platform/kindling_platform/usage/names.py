"""What people call the things that usage is of: full names of models and adapters, keys, people, outcomes."""

from collections.abc import Mapping

from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.selectors import member_list
from kindling_platform.adapters.models import Adapter
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.keys.selectors import key_maker_map, key_name_map

BASE = "none"
OUTCOMES = {
    "stop": "Complete",
    "length": "Token limit",
    "cancelled": "Cut by the client",
    "grant_refused": "Ran out of credit",
    "error": "Failed, free",
}
GONE = {
    "model": "a model that is gone",
    "adapter": "a deleted adapter",
    "key": "a key that is gone",
    "member": "nobody who is here now",
    "status": "another outcome",
}


def name_map(*, org: Organisation, by: str) -> Mapping[str, str]:
    """Names by the ids that usage has, of a grouping; `GONE` has the words for those that are not in it."""
    if by == "model":
        return model_name_map()
    if by == "adapter":
        rows = Adapter.objects.for_org(org).values_list("id", "organisation__slug", "name")
        return {"": "base model"} | {adapter_id: f"{slug}/{name}" for adapter_id, slug, name in rows}
    if by == "key":
        return key_name_map(org=org)
    if by == "member":
        # Who has left is still told of what they used.
        return key_maker_map(org=org) | {row.user_id: row.user.email for row in member_list(org=org)}
    return OUTCOMES


def ids_of(*, org: Organisation, by: str, texts: list[str]) -> list[str]:
    """The ids that texts stand for: an id stands for itself, a name for everything that is called so."""
    if by == "adapter":
        texts = ["" if text == BASE else text for text in texts]
    if by in {"key", "status"}:
        return texts
    names = name_map(org=org, by=by)
    wanted = set(texts)
    return [*texts, *(one for one, name in names.items() if name in wanted and one not in wanted)]
