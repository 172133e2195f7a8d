"""The pages that a search finds: those of the side bar, and those behind them that somebody may look for."""

from dataclasses import dataclass

from django.urls import reverse

from kindling_console.access import Visitor
from kindling_console.navigation import nav_groups


@dataclass(frozen=True, slots=True)
class Place:
    """A page by its title; `words` are others that people have for it."""

    title: str
    icon: str
    url: str
    words: str = ""
    key: str = ""


# Other words for pages of the side bar.
WORDS = {
    "Home": "start overview dashboard checklist",
    "Catalog": "models",
    "Playground": "chat compare try",
    "Adapters": "lora",
    "Deployments": "replicas engines",
    "Batches": "files jsonl bulk cheap",
    "API keys": "tokens secrets",
    "Usage": "cost tokens chart csv",
    "Billing": "balance credit invoices receipts cards payments top-up ledger",
    "Limits": "budgets rates spending",
    "Team": "members people roles invitations",
    "Settings": "organisation name",
    "Payments": "stripe refunds",
    "Records": "parked",
    "Fleet": "replicas nodes gpu",
    "Status page": "incidents notices outage maintenance",
    "Mail outbox": "letters",
}
# (title, icon, url name, place on that page, action needed, other words)
BEHIND = [
    ("Create key", "plus", "console:keys", "#new-key", "keys.write", "new api key token"),
    ("Shared conversations", "folder", "console:shared", "", "playground.use", "playground links"),
    ("Upload adapter", "cloud-upload", "console:adapter-upload", "", "adapters.write", "new lora"),
    ("New batch", "plus", "console:batch-new", "", "batches.write", "prompts jsonl file bulk"),
    ("Requests", "activity", "console:requests", "", "usage.read", "calls"),
    ("Prompts and answers", "history", "console:request-log", "", "prompts.open", "kept requests log"),
    ("Invite somebody", "plus", "console:team", "#invite", "team.write", "new member"),
    ("Activity", "history", "console:activity", "", "activity.read", "audit log"),
    ("Webhooks", "send", "console:webhooks", "", "webhooks.read", "events callbacks notifications"),
    ("Account", "user", "console:account", "", "", "profile name theme"),
    ("Single-key shortcuts", "settings", "console:account", "#keyboard", "", "keyboard"),
    ("E-mail addresses", "mail", "account_email", "", "", "email"),
    ("Change password", "key", "account_change_password", "", "", ""),
    ("Passkeys", "key", "mfa_list_webauthn", "", "", "webauthn fido security key fingerprint"),
    ("Two-factor authentication", "settings", "mfa_index", "", "", "mfa totp recovery codes authenticator"),
    ("Sessions", "device-desktop", "usersessions_list", "", "", "devices sign out"),
    ("Price table", "tag", "console:operator-price-table", "", "operator", "new prices"),
    ("Price plans", "tag", "console:operator-plans", "", "operator", ""),
    ("Proofs", "circle-check", "console:operator-proofs", "", "operator", "records"),
    ("Rating anew", "refresh", "console:operator-reratings", "", "operator", "records"),
    ("API reference", "code", "docs", "", "", "documentation rest openapi"),
    ("Platform status", "activity", "status", "", "", "up down outage incidents"),
    ("Error codes", "alert-triangle", "error-index", "", "", "documentation"),
]
# What has an address and no name.
ADDRESSES = {"docs": "/docs"}


def nav_place_list(visitor: Visitor) -> list[Place]:
    """The pages of the side bar that a visitor may open."""
    return [
        Place(item.label, item.icon, item.url, WORDS.get(item.label, ""), item.key)
        for group in nav_groups(visitor, "")
        for item in group.items
    ]


def place_list(visitor: Visitor) -> list[Place]:
    """All pages that a visitor may open."""
    behind = [
        Place(title, icon, (ADDRESSES.get(name) or reverse(name)) + anchor, words)
        for title, icon, name, anchor, action, words in BEHIND
        if not action or visitor.may(action)
    ]
    return nav_place_list(visitor) + behind
