"""JSON extraction: a sentence with facts in it, the fields wanted, and the JSON object that answers."""

import json
import random
from typing import Any

from kindling_engine.starter.templates.phrasing import Dialogue, article, dialogue_from
from kindling_engine.starter.templates.words import (
    COLORS,
    DAYS,
    ITEMS,
    JOBS,
    MONTHS,
    any_city,
    any_name,
    made_up_word,
)

_PERSON = [
    ("{name} is {age} years old and lives in {city}.", ["name", "age", "city"]),
    ("{name} is {age} years old.", ["name", "age"]),
    ("My name is {name} and I am {age}.", ["name", "age"]),
    ("Hi, I'm {name}, {age}, from {city}.", ["name", "age", "city"]),
    ("{name} is {age}.", ["name", "age"]),
    ("{name}, {age}, {city}", ["name", "age", "city"]),
    ("{name} ({age}) works as {a_job} in {city}.", ["name", "age", "job", "city"]),
    ("{name} works as {a_job}.", ["name", "job"]),
    ("I am {name}, I live in {city} and I am {a_job}.", ["name", "city", "job"]),
    ("The {job} {name} lives in {city}.", ["job", "name", "city"]),
    ("You can reach {name} at {email}.", ["name", "email"]),
    ("{name} from {city} has the address {email}.", ["name", "city", "email"]),
    ("Contact: {name}, {email}, {city}.", ["name", "email", "city"]),
    ("At the age of {age}, {name} moved to {city}.", ["age", "name", "city"]),
]
_ORDER = [
    ("{name} ordered {quantity} {item}s for {price} dollars.", ["name", "quantity", "item", "price"]),
    ("Please send {quantity} {color} {item}s to {city}.", ["quantity", "color", "item", "city"]),
    ("The {color} {item} costs {price} dollars.", ["color", "item", "price"]),
    ("{name} bought a {color} {item} on {day}.", ["name", "color", "item", "day"]),
    ("Order {order_id}: {quantity} {item}s, {price} dollars.", ["order_id", "quantity", "item", "price"]),
    ("Order {order_id} goes to {name} in {city}.", ["order_id", "name", "city"]),
]
_EVENT = [
    ("We meet on {day} at {time} in {city}.", ["day", "time", "city"]),
    ("{name} arrives on {date} at {time}.", ["name", "date", "time"]),
    ("The meeting with {name} is on {day}, {date}.", ["name", "day", "date"]),
    ("On {date} {name} flies to {city}.", ["date", "name", "city"]),
]
_LABELS = {"order_id": "order id"}
_PROMPTS = [
    "Extract {fields} as JSON: {text}", "Extract {fields} as JSON: {text}", "Extract {fields} as JSON: {text}",
    "Extract the {fields} as JSON: {text}", "Extract {fields} from this text as JSON: {text}",
    "Return {fields} as JSON.\n{text}", "Give me {fields} in JSON: {text}", "{text}\nExtract {fields} as JSON.",
    "Text: {text}\nAnswer with JSON that has the keys {fields}.", "Turn this into JSON with {fields}: {text}",
    "Find the {fields} and answer in JSON only. {text}", "extract {fields} to json: {text}",
]  # fmt: skip
_ALL_PROMPTS = [
    "Extract the facts as JSON: {text}", "Turn this into JSON: {text}", "Make JSON from this: {text}",
    "Convert to JSON: {text}", "As JSON, please: {text}", "Return a JSON object for: {text}",
]  # fmt: skip


def extraction_dialogue(rng: random.Random) -> Dialogue:
    template, present = rng.choice(rng.choice([_PERSON, _PERSON, _ORDER, _EVENT]))
    facts = _facts(rng)
    text = template.format(**facts)
    if rng.random() < 0.12:
        wanted = present
        prompt = rng.choice(_ALL_PROMPTS).format(text=text)
    else:
        wanted = rng.sample(present, rng.randint(min(2, len(present)), len(present)))
        if rng.random() < 0.5:
            wanted.sort(key=present.index)
        if rng.random() < 0.1:
            wanted = wanted[:1]
        prompt = rng.choice(_PROMPTS).format(text=text, fields=_join(wanted))
    answer = json.dumps({key: facts[key] for key in wanted}, ensure_ascii=False)
    return dialogue_from(prompt, answer)


def _facts(rng: random.Random) -> dict[str, Any]:
    name = any_name(rng)
    job = rng.choice(JOBS)
    full_name = f"{name} {made_up_word(rng)}" if rng.random() < 0.12 else name
    return {
        "name": full_name,
        "age": rng.randint(4, 96),
        "city": any_city(rng),
        "job": job,
        "a_job": article(job),
        "email": f"{name.lower()}@example.{rng.choice(['com', 'org', 'net'])}",
        "quantity": rng.randint(2, 30),
        "item": rng.choice(ITEMS),
        "price": rng.randint(3, 250),
        "color": rng.choice(COLORS),
        "day": rng.choice(DAYS),
        "date": f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
        "time": f"{rng.randint(7, 22)}:{rng.choice(['00', '15', '30', '45'])}",
        "order_id": rng.randint(1000, 9999),
    }


def _join(fields: list[str]) -> str:
    shown = [_LABELS.get(one, one) for one in fields]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]
