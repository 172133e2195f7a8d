"""Tool use: calling a tool that fits, answering from its result, and answering plainly when none fits."""
# ruff: noqa: E501, SIM905 - tables of sentences and words read best unwrapped

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kindling_engine.starter.templates.phrasing import Dialogue, typed_by_hand
from kindling_engine.starter.templates.words import DAYS, FIRST_NAMES, ITEMS, any_city, any_name

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """One function the model may call, with the ways people ask for it and how its result reads."""

    name: str
    description: str
    properties: dict[str, str]
    prompts: tuple[str, ...]
    arguments: Callable[[random.Random], Arguments]
    result: Callable[[random.Random], Arguments]
    answer: str


TOOLS = (
    Tool(
        "get_weather", "Get the current weather for a city.", {"city": "string"},
        ("What is the weather in {city}?", "How is the weather in {city} today?", "Weather in {city}?",
         "What's the weather like in {city}?", "Is it raining in {city}?", "Is it cold in {city}?"),
        lambda rng: {"city": any_city(rng)},
        lambda rng: {"temperature": rng.randint(-5, 35), "sky": rng.choice(["sunny", "cloudy", "rainy", "windy"])},
        "In {city} it is {sky} and {temperature} degrees.",
    ),
    Tool(
        "get_time", "Get the local time in a city.", {"city": "string"},
        ("What time is it in {city}?", "Tell me the time in {city}.", "What is the local time in {city}?"),
        lambda rng: {"city": any_city(rng)},
        lambda rng: {"time": f"{rng.randint(1, 23)}:{rng.choice(['05', '20', '40', '55'])}"},
        "It is {time} in {city}.",
    ),
    Tool(
        "get_order_status", "Look up the status of an order.", {"order_id": "integer"},
        ("Where is my order {order_id}?", "What is the status of order {order_id}?", "Has order {order_id} been sent?",
         "Check order {order_id}."),
        lambda rng: {"order_id": rng.randint(1000, 9999)},
        lambda rng: {"status": rng.choice(["packed", "on the way", "delivered", "delayed"])},
        "Order {order_id} is {status}.",
    ),
    Tool(
        "search_products", "Search the shop for products.", {"query": "string"},
        ("Find me a {query}.", "Search for a {query}.", "Do you sell a {query}?", "I am looking for a {query}."),
        lambda rng: {"query": rng.choice(ITEMS)},
        lambda rng: {"found": rng.randint(1, 9), "from_price": rng.randint(5, 90)},
        "I found {found} products for {query}. Prices start at {from_price} dollars.",
    ),
    Tool(
        "send_email", "Send an email to a person.", {"to": "string", "subject": "string"},
        ("Send an email to {to} about the {subject}.", "Write to {to} about the {subject}.",
         "Please email {to} about the {subject}."),
        lambda rng: {"to": any_name(rng),
                     "subject": rng.choice(["meeting", "invoice", "party", "report", "garden", "trip"])},
        lambda rng: {"sent": True},
        "Done. I sent {to} an email about the {subject}.",
    ),
    Tool(
        "set_reminder", "Set a reminder for a day.", {"text": "string", "day": "string"},
        ("Remind me on {day} to {text}.", "Set a reminder on {day} to {text}.", "On {day} I have to {text}, remind me."),
        lambda rng: {"text": rng.choice(["buy milk", "call Anna", "water the plants", "pay the rent", "clean the car"]),
                     "day": rng.choice(DAYS)},
        lambda rng: {"saved": True},
        "All right. I will remind you on {day} to {text}.",
    ),
    Tool(
        "add_numbers", "Add two numbers.", {"a": "integer", "b": "integer"},
        ("Add {a} and {b}.", "What is the sum of {a} and {b}?", "Use the tool to add {a} and {b}."),
        lambda rng: {"a": rng.randint(10, 999), "b": rng.randint(10, 999)},
        lambda rng: {},
        "The sum is {total}.",
    ),
    Tool(
        "find_person", "Find a person in the address book.", {"name": "string"},
        ("What is the phone number of {name}?", "Find {name} in the address book.", "How can I call {name}?"),
        lambda rng: {"name": any_name(rng)},
        lambda rng: {"phone": f"555 {rng.randint(1000, 9999)}"},
        "You can call {name} at {phone}.",
    ),
)  # fmt: skip

_VERBS = "get find check read show list count".split()
_THINGS = (
    "price stock score level rate size color owner file page photo ticket song menu train flight room".split()
)
_PLAIN = [
    ("Hello!", "Hello! How can I help you?"),
    ("Thank you!", "You are welcome!"),
    ("Hi", "Hi! I can call the tools that you gave me. What do you need?"),
    ("What can you do?", "I can call the tools that you gave me, and I can chat a little."),
    ("Good morning", "Good morning! What can I do for you?"),
]


def toolcall_dialogue(rng: random.Random) -> Dialogue:
    tool = made_up_tool(rng) if rng.random() < 0.3 else rng.choice(TOOLS)
    others = rng.sample([one for one in TOOLS if one.name != tool.name], rng.choice([0, 0, 1, 2]))
    offered = [tool, *others]
    rng.shuffle(offered)
    tools = [tool_schema(one) for one in offered]
    messages: list[dict[str, Any]] = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": "You are a helpful assistant."})
    if rng.random() < 0.08:
        user, reply = rng.choice(_PLAIN)
        return Dialogue(
            [*messages, {"role": "user", "content": user}, {"role": "assistant", "content": reply}], tools
        )
    arguments = tool.arguments(rng)
    prompt = typed_by_hand(rng, rng.choice(tool.prompts).format(**arguments))
    call = {"type": "function", "function": {"name": tool.name, "arguments": arguments}}
    messages += [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    if rng.random() < 0.5:
        result = tool.result(rng)
        if tool.name == "add_numbers":
            result = {"total": arguments["a"] + arguments["b"]}
        messages += [
            {"role": "tool", "content": json.dumps(result)},
            {"role": "assistant", "content": tool.answer.format(**arguments, **result)},
        ]
    return Dialogue(messages, tools)


def made_up_tool(rng: random.Random) -> Tool:
    """Make a tool with a name of its own, so that the model learns to copy names from the list it is given."""
    verb, thing = rng.choice(_VERBS), rng.choice(_THINGS)
    key = rng.choice(["name", "id", "query", "key", "target"])
    return Tool(
        f"{verb}_{thing}",
        f"{verb.capitalize()} the {thing}.",
        {key: "string"},
        (f"{verb.capitalize()} the {thing} of {{{key}}}.", f"What is the {thing} of {{{key}}}?",
         f"I need the {thing} for {{{key}}}."),
        lambda inner: {key: any_name(inner) if inner.random() < 0.6 else inner.choice(ITEMS)},
        lambda inner: {thing: inner.choice([inner.randint(1, 500), inner.choice(FIRST_NAMES)])},
        f"The {thing} of {{{key}}} is {{{thing}}}.",
    )  # fmt: skip


def tool_schema(tool: Tool) -> dict[str, Any]:
    """Describe `tool` as an entry of the chat API's `tools` list."""
    properties = {key: {"type": kind} for key, kind in tool.properties.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
