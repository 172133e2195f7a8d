"""Finds the functions of billing that write, by reading its source."""

import ast
import re
from pathlib import Path

import kindling_billing

ROOT = Path(kindling_billing.__file__).parent
NOT_MONEY = {"fake_stripe", "bench", "documents", "stripe_api", "models", "migrations"}
WRITES = {
    "create", "save", "update", "bulk_create", "bulk_update", "delete", "get_or_create", "update_or_create",
    "postings_post", "wallet_post", "wallets_post",
}  # fmt: skip


def writing_functions() -> set[str]:
    """`module.function` of everything public in billing that writes, by itself or through others there."""
    uses: dict[tuple[str, str], set[str]] = {}
    writers: set[tuple[str, str]] = set()
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if NOT_MONEY & set(parts):
            continue
        body = ast.parse(path.read_text()).body
        texts = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign) and writes_sql(node)]
        statements = {name for node in texts for name in names(node)}
        for node in body:
            if isinstance(node, ast.FunctionDef):
                one = (".".join(parts), node.name)
                uses[one] = names(node)
                if uses[one] & (WRITES | statements) or writes_sql(node):
                    writers.add(one)
    while True:
        public = {name for _, name in writers if not name.startswith("_")}
        # A helper is its module's own; what is public may be called from anywhere.
        own = {one for one, used in uses.items() if {(one[0], name) for name in used} & writers}
        more = {one for one, used in uses.items() if used & public} | own
        if more <= writers:
            # What forgets old events that have had their effect is no action.
            return {
                f"{module}.{name}" for module, name in writers if name[0] != "_" and name != "events_forget"
            }
        writers |= more


def names(node: ast.AST) -> set[str]:
    """Every name and attribute that is mentioned."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def writes_sql(node: ast.AST) -> bool:
    texts = [
        one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]
    return any(re.search(r"INSERT INTO|DELETE FROM|UPDATE billing_", text) for text in texts)
