"""Pages of batches: what they are at, what they wait for, what came of them, and who may open that."""

from datetime import timedelta

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.audit.models import AuditEvent
from kindling_platform.batches.models import Batch, FilePart
from kindling_platform.common.clock import now
from kindling_stored_batches import stored_batch, stored_file


def page(member: Member, name: str, *args: str, **headers: str) -> str:
    reply = member.client.get(reverse(f"console:{name}", args=args), headers=headers)
    assert reply.status_code == 200
    return reply.content.decode()


def test_without_a_batch_the_page_says_how_to_begin_one(world: World, member: Member):
    text = page(member, "batches")
    assert "No batch yet" in text
    assert "client.batches.create(" in text


def test_batches_are_listed_newest_first_and_looked_at_again_while_one_moves(world: World, member: Member):
    old = stored_batch(member.org, status="completed", completed=3, failed=0)
    text = page(member, "batches")
    assert ("3 of 3" in text, "every 2s" in text) == (True, False)
    new = stored_batch(member.org)
    text = page(member, "batches")
    assert text.index(new.id) < text.index(old.id)
    assert ("2 of 3" in text, "1 failed" in text, "every 2s" in text) == (True, True, True)
    part = page(member, "batches", **{"HX-Request": "true", "HX-Target": "batch-rows"})
    assert "<html" not in part


@pytest.mark.parametrize(
    ("status", "shown"),
    [("completed", "Completed"), ("failed", "Failed"), ("expired", "Expired"), ("cancelled", "Cancelled"),
     ("validating", "Validating"), ("finalizing", "Finalizing"), ("cancelling", "Cancelling")],
)  # fmt: skip
def test_every_state_has_a_word(world: World, member: Member, status: str, shown: str):
    batch = stored_batch(member.org, status=status)
    assert f"</span>{shown}</span>" in page(member, "batch", batch.id)


def test_a_batch_that_waits_says_for_what(world: World, member: Member):
    batch = stored_batch(member.org, waits_for="insufficient_credit")
    text = page(member, "batch", batch.id)
    assert "goes on by itself" in text
    assert "/errors/#insufficient_credit" in text
    assert "Waiting" in text


def test_a_failed_batch_names_its_lines(world: World, member: Member):
    errors = [
        {"line": line, "code": "mismatched_url", "message": "<b>url</b> has to be", "param": "url"}
        for line in (3, 4, 5, 9)
    ]
    errors.append({"line": None, "code": "files_full", "message": "No room.", "param": None})
    text = page(member, "batch", stored_batch(member.org, status="failed", total=0, errors=errors).id)
    assert "<td>3–5, 9</td>" in text
    assert "<td></td>" in text
    assert "mismatched_url" in text
    assert "&lt;b&gt;url" in text


def test_its_files_are_downloaded_whole_and_the_log_says_by_whom(world: World, member: Member):
    answers = stored_file(member.org, b'{"a": 1}\n', b'{"b": 2}\n', purpose="batch_output")
    given = stored_file(member.org, b"{}\n")
    batch = stored_batch(member.org, status="completed", output_file_id=answers.id, input_file_id=given.id)
    text = page(member, "batch", batch.id)
    assert text.index(answers.id) < text.index(given.id)
    reply = member.client.get(reverse("console:batch-file", args=[answers.id]))
    assert b"".join(reply) == b'{"a": 1}\n{"b": 2}\n'
    assert (reply["Cache-Control"], reply["Content-Length"]) == ("no-store", "18")
    event = AuditEvent.objects.get(action="batch_file.open")
    assert (event.actor_id, event.target) == (member.user.id, answers.id)
    FilePart.objects.filter(file=answers, number=1).delete()
    assert b"".join(member.client.get(reverse("console:batch-file", args=[answers.id]))) == b'{"a": 1}\n'
    assert FilePart.objects.filter(file=answers).exists()


def test_who_may_not_open_prompts_sees_figures_and_no_files(world: World, member: Member):
    answers = stored_file(member.org, b"{}\n", purpose="batch_output")
    batch = stored_batch(member.org, output_file_id=answers.id)
    for role in ("viewer", "billing"):
        member.role(role)
        text = page(member, "batch", batch.id)
        assert ("2</span> of 3" in text, "Cancel batch" in text) == (True, False)
        assert reverse("console:batch-file", args=[answers.id]) not in text
        assert member.client.get(reverse("console:batch-file", args=[answers.id])).status_code == 403
        assert member.client.post(reverse("console:batch-cancel", args=[batch.id])).status_code == 403
    assert Batch.objects.get(id=batch.id).status == "in_progress"


def test_a_batch_is_cancelled_after_a_question(world: World, member: Member):
    batch = stored_batch(member.org, waits_for="overloaded", due_at=now() + timedelta(hours=1))
    url = reverse("console:batch-cancel", args=[batch.id])
    assert "Cancel this batch?" in member.client.get(url).content.decode()
    assert member.client.post(url).status_code == 303
    batch.refresh_from_db()
    assert (batch.status, batch.waits_for, batch.cancelling_at is not None) == ("cancelling", "", True)
    assert batch.due_at <= now()
    assert AuditEvent.objects.get(action="batch.cancel").target == batch.id
    # Twice leads back to it and changes nothing.
    assert member.client.post(url)["Location"] == reverse("console:batch", args=[batch.id])
    assert AuditEvent.objects.filter(action="batch.cancel").count() == 1
