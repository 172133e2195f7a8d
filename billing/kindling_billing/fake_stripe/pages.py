"""The hosted pages as HTML: plain, without scripts, and marked as a test on every one."""

from html import escape

from kindling_billing.fake_stripe.hosted import ADDRESS
from kindling_billing.fake_stripe.world import Body

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c1a18, #f1eee9); --soft: light-dark(#6a645c, #a9a298);
  --line: light-dark(#e3ded6, #3a3631); --paper: light-dark(#ffffff, #211f1c); --accent: #635bff; }
* { box-sizing: border-box; } body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px 16px;
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: light-dark(#f5f3ef, #161412); }
main { width: min(440px, 100%); padding: 28px; border: 1px solid var(--line); border-radius: 16px; background: var(--paper); }
.test { margin: 0 0 20px; padding: 8px 12px; border-radius: 8px; background: light-dark(#fff3d6, #3d2f0d); font-size: 13.5px; }
h1 { margin: 0; font-size: 30px; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; } .what { margin: 0 0 20px; color: var(--soft); }
label { display: block; margin: 0 0 14px; font-weight: 550; font-size: 13.5px; }
input { display: block; width: 100%; margin-top: 4px; padding: 10px 12px; border: 1px solid var(--line); border-radius: 8px;
  font: inherit; font-weight: 400; color: inherit; background: transparent; } .two { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; }
button { width: 100%; padding: 12px; border: 0; border-radius: 8px; font: inherit; font-weight: 600; color: #fff; background: var(--accent); cursor: pointer; }
button.plain { width: auto; padding: 6px 12px; color: var(--ink); background: transparent; border: 1px solid var(--line); }
:is(input, button, a):focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.error { margin: 0 0 16px; padding: 10px 12px; border-radius: 8px; color: light-dark(#8f1d1d, #ffb4ac); background: light-dark(#fdeaea, #3f1513); }
.back { display: block; margin-top: 16px; text-align: center; color: var(--soft); } h2 { font-size: 16px; margin: 24px 0 8px; }
details { margin: 0 0 16px; color: var(--soft); font-size: 13.5px; } table { border-collapse: collapse; } td { padding: 2px 12px 2px 0; }
ul { list-style: none; margin: 0; padding: 0; } li { display: flex; justify-content: space-between; align-items: center; padding: 8px 0; }
"""  # noqa: E501
NUMBERS = (
    ("4242 4242 4242 4242", "is paid"), ("4000 0000 0000 0002", "is declined"),
    ("4000 0027 6000 3184", "asks you to confirm"), ("4000 0000 0000 0341", "is paid now, declined later"),
)  # fmt: skip


def pay_page(session: Body, *, error: str = "") -> str:
    """A card form for a sum."""
    rows = "".join(f"<tr><td>{number}</td><td>{what}</td></tr>" for number, what in NUMBERS)
    alert = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    tax = session["total_details"]["amount_tax"]
    note = f", {money(tax)} of it tax" if tax else ""
    back = _back(session.get("cancel_url"), "Cancel and go back")
    return _page(
        f"Pay {money(session['amount_total'])}",
        f"""<h1>{money(session["amount_total"])}</h1>
<p class="what">{escape(", ".join(session["x_lines"]))}{note}</p>{alert}
<form method="post"><label>Card number<input name="number" inputmode="numeric" autocomplete="off" required
 value="4242 4242 4242 4242"></label>
<div class="two"><label>Expires<input name="expires" autocomplete="off" required value="12/34"></label>
<label>CVC<input name="cvc" inputmode="numeric" autocomplete="off" required value="123"></label></div>
<details><summary>Test cards</summary><table>{rows}</table></details>
<button type="submit">Pay {money(session["amount_total"])}</button></form>{back}""",
    )


def confirm_page(session: Body, number: str) -> str:
    """What a bank shows that wants to be sure."""
    return _page(
        "Confirm the payment",
        f"""<h1>{money(session["amount_total"])}</h1><p class="what">Your bank asks you to confirm this payment.</p>
<form method="post"><input type="hidden" name="number" value="{escape(number, quote=True)}">
<input type="hidden" name="confirmed" value="1"><button type="submit">Confirm</button></form>
{_back(f"/pay/{session['id']}", "Use another card")}""",
    )


def closed_page(session: Body) -> str:
    """What is left of a session that is paid or too old."""
    said = {"complete": "This payment is complete.", "expired": "This page is too old to pay on."}
    return _page(
        "Nothing to pay here",
        f"<h1>{said.get(session['status'], 'Nothing to pay here')}</h1>"
        + _back(session.get("cancel_url"), "Back to Kindling"),
    )


def portal_page(session: Body, customer: Body, cards: list[Body]) -> str:
    """Cards to remove, and an address to keep."""
    rows = "".join(
        f"""<li>{escape(card["card"]["brand"].capitalize())} ending in {card["card"]["last4"]}
<form method="post"><button class="plain" name="remove" value="{card["id"]}">Remove</button></form></li>"""
        for card in cards
    )
    address = customer.get("address") or {}
    fields = "".join(
        f'<label>{label}<input name="{name}" value="{escape(str(address.get(name, "") or ""), quote=True)}"></label>'
        for name, label in zip(
            ADDRESS, ("Address", "City", "Postal code", "Country, two letters"), strict=True
        )
    )
    name = escape(customer.get("name") or "", quote=True)
    return _page(
        "Payment details",
        f"""<h1>Payment details</h1><h2>Cards</h2><ul>{rows or "<li>No card is kept.</li>"}</ul>
<h2>Billing details</h2><form method="post"><label>Name<input name="name" value="{name}"></label>{fields}
<button type="submit">Save</button></form>{_back(session.get("return_url"), "Back to Kindling")}""",
    )


def trouble_page(message: str) -> str:
    """A refusal."""
    return _page("Not possible", f'<h1>Not possible</h1><p class="error" role="alert">{escape(message)}</p>')


def money(cents: int) -> str:
    """Cents as dollars."""
    return f"${cents / 100:,.2f}"


def _back(url: str | None, label: str) -> str:
    return f'<a class="back" href="{escape(url, quote=True)}">{label}</a>' if url else ""


def _page(title: str, body: str) -> str:
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · test</title>
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>
<p class="test"><strong>Test mode.</strong> This page stands in for Stripe. No card is charged and no money moves.</p>
{body}</main></body></html>"""
