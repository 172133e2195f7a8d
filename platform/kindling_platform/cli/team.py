"""`kindling team list|invite|invitations|withdraw|role|remove|delete-organisation`."""

from typing import Annotated
from urllib.parse import urlencode

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.output import AsJson, print_rows

app = typer.Typer(no_args_is_help=True, help="Members of your organisation, and invitations to it.")
Role = Annotated[str, typer.Option(help="owner, admin, developer, viewer or billing.")]
Member = Annotated[str, typer.Argument(help="The id, as `team list` shows it.")]


@app.command("list")
def list_members(as_json: AsJson = False) -> None:
    """Every member, and what the keys of each have spent."""
    columns = ["id", "email", "role", "since", "spent_month_usd", "spent_total_usd"]
    print_rows(Client().rows("/api/v1/members"), columns, as_json=as_json, empty="There is no member.")


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="The address of whoever is to join.")],
    role: Role = "developer",
) -> None:
    """Invite an address and print the link that accepts it, once; where there is a mail server, it goes there too."""
    print(Client().post("/api/v1/invitations", {"email": email, "role": role})["url"])


@app.command("invitations")
def list_invitations(as_json: AsJson = False) -> None:
    """Invitations that nobody has accepted yet."""
    columns = ["id", "email", "role", "invited_by", "expires_at"]
    rows = Client().rows("/api/v1/invitations")
    print_rows(rows, columns, as_json=as_json, empty="There is no invitation.")


@app.command()
def withdraw(
    invitation: Annotated[str, typer.Argument(help="The id, as `team invitations` shows it.")],
) -> None:
    """Withdraw an invitation; its link is refused from now on."""
    Client().call("DELETE", f"/api/v1/invitations/{invitation}")
    print(f"{invitation} is withdrawn.")


@app.command()
def role(
    member: Member, role: Annotated[str, typer.Argument(help="owner, admin, developer, viewer or billing.")]
) -> None:
    """Change what a member may do."""
    changed = Client().call("PATCH", f"/api/v1/members/{member}", {"role": role})
    print(f"{changed['email']} is {changed['role']} from now on.")


@app.command()
def remove(
    member: Member,
    keep_keys: Annotated[bool, typer.Option(help="Let the keys that the member has made go on.")] = False,
) -> None:
    """Remove a member, and revoke the keys that the member has made."""
    Client().call("DELETE", f"/api/v1/members/{member}?keys={'keep' if keep_keys else 'revoke'}")
    print(f"{member} is removed.")


@app.command("delete-organisation")
def delete_organisation(
    slug: Annotated[str, typer.Argument(help="The organisation's slug, to confirm that it is meant.")],
    give_up_usd: Annotated[
        str, typer.Option(help="How many dollars of money that was paid in are given up, such as 12.34.")
    ] = "0",
) -> None:
    """Delete the whole organisation for good, this key included; its books stay."""
    query = urlencode({"confirm": slug, "give_up_usd": give_up_usd})
    Client().call("DELETE", f"/api/v1/organisation?{query}")
    print(f"{slug} is deleted.")
