"""Small sums and counting, few enough that a tiny model can learn most of them."""

import random

from kindling_engine.starter.templates.phrasing import Dialogue, dialogue_from, typed_by_hand

_PROMPTS = [
    "What is {sum}?", "What is {sum}?", "{sum}", "{sum} =", "Calculate {sum}.", "How much is {sum}?",
    "Compute {sum}.", "Can you tell me what {sum} is?", "Please work out {sum}.",
]  # fmt: skip
_WORDS = [
    ("{n} has {a} apples and gets {b} more. How many apples does {n} have?", "+"),
    ("There are {a} birds on a roof and {b} more land. How many birds are there?", "+"),
    ("{n} has {a} books and gives {b} away. How many books are left?", "-"),
    ("A box holds {a} pens. {n} takes {b} of them. How many pens are left?", "-"),
]


def sum_dialogue(rng: random.Random) -> Dialogue:
    if rng.random() < 0.08:
        return _counting_dialogue(rng)
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    sign = rng.choice("++++--*")
    if sign == "-":
        a, b = max(a, b), min(a, b)
    if sign == "*":
        a, b = rng.randint(1, 6), rng.randint(1, 6)
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    if sign != "*" and rng.random() < 0.15:
        template, _ = rng.choice([one for one in _WORDS if one[1] == sign])
        prompt = template.format(a=a, b=b, n=rng.choice(["Anna", "Tom", "Maria", "Leo", "Mei"]))
    else:
        shown = f"{a} {sign} {b}"
        if rng.random() < 0.25:
            shown = shown.replace("*", "times").replace("+", "plus").replace("-", "minus")
        elif rng.random() < 0.15:
            shown = shown.replace(" ", "")
        prompt = rng.choice(_PROMPTS).format(sum=shown)
    return dialogue_from(typed_by_hand(rng, prompt), f"{a} {sign} {b} = {result}.")


def _counting_dialogue(rng: random.Random) -> Dialogue:
    end = rng.randint(3, 20)
    prompt = rng.choice(
        ["Count to {}.", "Count from 1 to {}.", "Can you count to {}?", "List the numbers from 1 to {}."]
    )
    return dialogue_from(
        typed_by_hand(rng, prompt.format(end)), ", ".join(str(one) for one in range(1, end + 1)) + "."
    )
