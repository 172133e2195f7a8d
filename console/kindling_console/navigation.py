"""The side bar: which pages there are, for whom, and which one is open."""

from dataclasses import dataclass

from django.urls import reverse

from kindling_console.access import Visitor


@dataclass(frozen=True, slots=True)
class NavItem:
    """A link of the side bar."""

    label: str
    icon: str
    url: str
    current: bool
    # The letter that leads there after `g`; empty where none does.
    key: str = ""


@dataclass(frozen=True, slots=True)
class NavGroup:
    """Links that belong together; the first group needs no title."""

    title: str
    items: list[NavItem]


# (label, icon, url name, action needed)
BUILD = [
    ("Home", "home", "home", ""),
    ("Catalog", "layout-grid", "catalog", "models.read"),
    ("Playground", "message-chatbot", "playground", "playground.use"),
    ("Adapters", "puzzle", "adapters", "adapters.read"),
    ("Deployments", "server", "deployments", "deployments.read"),
    ("Batches", "folder", "batches", "usage.read"),
]
MANAGE = [
    ("API keys", "key", "keys", "keys.read"),
    ("Usage", "chart-bar", "usage", "usage.read"),
    ("Billing", "wallet", "billing", "billing.read"),
    ("Limits", "adjustments", "limits", "billing.read"),
    ("Team", "user", "team", "team.read"),
    ("Settings", "settings", "settings", "usage.read"),
]
OPERATE = [
    ("Organisations", "building", "operator-organisations", "operator"),
    ("Payments", "coin", "operator-payments", "operator"),
    ("Prices", "tag", "operator-prices", "operator"),
    ("Margins", "columns", "operator-margins", "operator"),
    ("Revenue", "chart-bar", "operator-revenue", "operator"),
    ("At risk", "alert-triangle", "operator-risk", "operator"),
    ("Reconciliation", "receipt", "operator-reconciliation", "operator"),
    ("Records", "folder", "operator-records", "operator"),
    ("Audit log", "history", "operator-audit", "operator"),
    ("Fleet", "activity", "operator-fleet", "operator"),
    ("Status page", "circle-check", "operator-status", "operator"),
    ("Mail outbox", "mail", "operator-mail", "operator"),
]
# What leads there after `g`, by the name of the page.
GO_KEYS = {
    "home": "h", "catalog": "c", "playground": "p", "adapters": "a", "deployments": "d", "keys": "k", "usage": "u",
    "billing": "b",
}  # fmt: skip


def nav_groups(visitor: Visitor, path: str) -> list[NavGroup]:
    """The links this visitor may follow, the open one marked."""
    groups = [("Build", BUILD), ("Manage", MANAGE), ("Operate", OPERATE)]
    built = [
        NavGroup(
            title,
            [
                NavItem(label, icon, url, _is_open(path, url), GO_KEYS.get(name, ""))
                for label, icon, name, action in rows
                if not action or visitor.may(action)
                for url in [reverse(f"console:{name}")]
            ],
        )
        for title, rows in groups
    ]
    return [group for group in built if group.items]


def _is_open(path: str, url: str) -> bool:
    return path == url if url == reverse("console:home") else path.startswith(url)
