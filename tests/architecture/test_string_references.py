"""References by string, which the import linter cannot see, keep the same directions as imports."""

import ast
import re
from pathlib import Path

from django.apps import apps
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [
    "common",
    "audit",
    "accounts",
    "keys",
    "catalog",
    "adapters",
    "requestlog",
    "batches",
    "responses",
    "usage",
    "deployments",
    "hooks",
    "status",
]


def parse_tree(folder: str, *words: str) -> list[tuple[Path, ast.Module]]:
    """The files that have one of the words in them: parsing all of them takes seconds."""
    texts = ((path, path.read_text()) for path in sorted((ROOT / folder).rglob("*.py")))
    return [(path, ast.parse(text)) for path, text in texts if any(word in text for word in words)]


def test_installed_apps_of_ours_are_the_agreed_rooms():
    ours = {name.split(".apps.")[0] for name in settings.INSTALLED_APPS if name.startswith("kindling_")}
    rooms = {f"kindling_platform.{room}" for room in [*LAYERS[1:], "api", "embedded"]}
    assert ours == rooms | {"kindling_billing", "kindling_console"}


def test_foreign_keys_point_downwards_only():
    upward = []
    for model in apps.get_models():
        label = model._meta.app_label
        if not model.__module__.startswith("kindling_"):
            continue
        for field in model._meta.get_fields():
            target = getattr(field, "related_model", None)
            if field.auto_created or target is None or not target.__module__.startswith("kindling_"):
                continue
            other = target._meta.app_label
            if other == label:
                continue
            if label == "billing" or other not in LAYERS or LAYERS.index(other) > LAYERS.index(label):
                upward.append(f"{label}.{model.__name__}.{field.name} -> {other}")
    assert upward == []


def test_only_config_names_the_console_by_string():
    named = []
    for folder in ("platform", "billing", "workers", "engine"):
        for path, tree in parse_tree(folder, "kindling_console"):
            if "config" in path.parts or "migrations" in path.parts:
                continue
            named += [
                f"{path.relative_to(ROOT)}:{node.lineno}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"kindling_console(\.\w+)*", node.value)
            ]
    assert named == []


def enqueued_names() -> set[str]:
    names = set()
    senders = ("enqueue", "send_task")
    for _, tree in parse_tree("platform", *senders) + parse_tree("workers", *senders):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            first = node.args[0]
            if called in senders and isinstance(first, ast.Constant):
                names.add(first.value)
    return names


def test_every_enqueued_task_name_exists_in_the_worker():
    from kindling_workers.app import app

    app.loader.import_default_modules()
    names = enqueued_names() | {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert names
    assert names <= set(app.tasks)
