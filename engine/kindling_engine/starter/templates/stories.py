"""Very short stories about one hero, one wish and one small kindness."""
# ruff: noqa: E501, SIM905 - tables of sentences and words read best unwrapped

import random

from kindling_engine.starter.templates.phrasing import (
    Dialogue,
    article,
    dialogue_from,
    sentence_case,
    typed_by_hand,
)
from kindling_engine.starter.templates.words import FIRST_NAMES

HEROES = """fox bear owl rabbit mouse cat dog hedgehog squirrel turtle frog duck goose horse donkey sheep goat lion tiger
elephant whale dolphin crab otter beaver badger wolf deer raven sparrow penguin dragon robot ghost giant witch wizard
knight king queen princess pirate sailor baker farmer teacher painter child boy girl lighthouse train boat kite cloud
star tree snowman spider bee butterfly snail astronaut clockmaker gardener""".split()

TRAITS = "small brave shy clever curious kind lonely old young quiet cheerful sleepy hungry careful lost grumpy".split()

PLACES = [
    "forest", "village", "garden", "valley", "old mill", "harbour", "hill", "river", "farm", "castle", "island",
    "lighthouse", "meadow", "mountain", "market", "quiet town", "winter wood", "desert", "library", "moon",
]  # fmt: skip

_WISHES = [
    ("find a friend", "a friend", "They have been friends ever since."),
    ("see the sea", "the sea", "The waves sang all night."),
    ("learn to sing", "a song", "The song was short, but it was good."),
    ("find a lost key", "the key", "The key opened a little green door."),
    ("catch a star", "a falling star", "The star was warm, like a cup of tea."),
    ("bake a cake", "a cake", "There was a piece for everyone."),
    ("find the way home", "the way home", "The lamp in the window was still on."),
    ("build a boat", "a boat", "The boat was not big, but it did not sink."),
    ("plant a seed", "a tall flower", "The flower was as yellow as the sun."),
    ("hear a story", "a story", "It was a story about the two of them."),
    ("cross the bridge", "the other side", "On the other side the grass was soft."),
    ("light a lamp", "a bright lamp", "The lamp was seen from far away."),
    ("find some honey", "a pot of honey", "The honey was sweet and golden."),
    ("paint the sky", "a blue sky", "Even the birds came to look."),
]

_OPENINGS = [
    "Once upon a time there was {a_hero} named {name}, who lived near {place}.",
    "Near {place} there lived {a_hero} called {name}.",
    "Long ago, near {place}, {a_hero} named {name} looked out of the window.",
    "There was once {a_hero} near {place}. The name of this {noun} was {name}.",
    "{name} was {a_hero} and lived near {place}.",
]
_WANTS = [
    "More than anything, {name} wanted to {wish}.",
    "Every day {name} dreamed of one thing: to {wish}.",
    'One morning {name} said, "Today I will {wish}."',
    "{name} had a plan. The plan was to {wish}.",
]
_TROUBLES = [
    "But the road was long and the rain was cold.",
    "But the night came early, and it was very dark.",
    "But nobody knew how to do it.",
    "At first nothing went well, and {name} sat down and sighed.",
    "But a strong wind blew the map away.",
    "But the river was wide, and there was no bridge.",
    "{name} tried once, and tried again, and could not do it.",
]
_HELPERS = [
    'Then {a_helper} came by and asked, "Can I help you?"',
    'Just then {a_helper} stopped and said, "Come, we will try together."',
    '{a_helper_cap} heard this and said, "Do not give up."',
    "Soon {name} met {a_helper} with a lantern and a warm smile.",
    "By the old oak {name} met {a_helper}, who knew the way.",
]
_TURNS = [
    "They shared some bread and walked on side by side.",
    "{name} thought for a moment, and then they began.",
    "Step by step, they worked until the sun came up.",
    "Together it was easy, and they laughed a lot.",
    "{name} was afraid, but the {helper} stayed close.",
]
_RESULTS = [
    "At last {name} found {gift}. {after}",
    "When the morning came, there it was: {gift}. {after}",
    "And in the end {name} had {gift}. {after}",
    "So it was that {name} got {gift}. {after}",
]
_ENDINGS = [
    "That night {name} slept very well.",
    "And {name} never forgot the kind {helper}.",
    '"Thank you," said {name}, and the {helper} smiled.',
    "From that day on, {name} always helped others too.",
    "The end.",
    "And if you go to {place} today, you may still meet them.",
    "{name} went home happy.",
]
_PROMPTS = [
    "Tell me a story about {a_noun}.", "Tell me a story about {a_noun}.", "Tell me a short story about {a_noun}.",
    "Write a story about {a_noun}.", "Write a short story about {a_noun}.", "Can you tell me a story about {a_noun}?",
    "Write a little story about {a_hero}.", "Tell me about {a_hero} in a story.", "A story about {a_noun}, please.",
    "I would like a bedtime story about {a_noun}.", "Write a bedtime story about {a_hero}.",
    "Write a story about {a_noun} who wants to {wish}.", "Tell me a story about {a_noun} near {place}.",
    "Write a short story with {a_noun} named {name}.", "Tell a story about {a_hero} named {name}.",
    "Please make up a story about {a_noun} and {a_helper}.", "story about {a_noun}", "Make up a story about {a_noun}.",
]  # fmt: skip
_OPEN_PROMPTS = [
    "Tell me a story.", "Write a short story.", "Can you tell me a story?", "Write me a story, please.",
    "Tell me a bedtime story.", "I am bored. Tell me a story.", "Write something short and nice.",
    "Surprise me with a story.", "Write a fairy tale.", "Once upon a time",
]  # fmt: skip


def story_dialogue(rng: random.Random) -> Dialogue:
    noun = rng.choice(HEROES)
    hero = f"{rng.choice(TRAITS)} {noun}" if rng.random() < 0.8 else noun
    helper = rng.choice([one for one in HEROES if one != noun])
    wish, gift, after = rng.choice(_WISHES)
    facts = {
        "noun": noun,
        "a_noun": article(noun),
        "a_hero": article(hero),
        "helper": helper,
        "a_helper": article(helper),
        "a_helper_cap": sentence_case(article(helper)),
        "name": rng.choice(FIRST_NAMES),
        "place": "the " + rng.choice(PLACES),
        "wish": wish,
        "gift": gift,
        "after": after,
    }
    parts = [_OPENINGS, _WANTS, _TROUBLES, _HELPERS, _TURNS, _RESULTS, _ENDINGS]
    if rng.random() < 0.25:
        parts.remove(_TURNS)
    story = " ".join(rng.choice(part).format(**facts) for part in parts)
    prompt = rng.choice(_OPEN_PROMPTS if rng.random() < 0.15 else _PROMPTS).format(**facts)
    return dialogue_from(typed_by_hand(rng, prompt), story)
