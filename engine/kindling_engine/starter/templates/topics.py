"""Plain sentences about everyday topics, asked for as a paragraph, a list or a small poem."""
# ruff: noqa: E501 - tables of sentences and words read best unwrapped

import random

from kindling_engine.starter.templates.phrasing import Dialogue, dialogue_from, sentence_case, typed_by_hand

TOPICS: dict[str, tuple[str, ...]] = {
    "rain": ("Rain is water that falls from clouds.", "It fills rivers and lakes.", "Plants need it to grow.", "After the rain you may see a rainbow."),
    "snow": ("Snow is made of small crystals of ice.", "It falls when the air is cold.", "Fresh snow makes the world quiet.", "Children like to build snowmen."),
    "the moon": ("The moon goes around the earth in about four weeks.", "It shines because the sun lights it.", "It pulls on the sea and makes the tides.", "We always see the same side of it."),
    "the sun": ("The sun is a star.", "It gives light and warmth to the earth.", "Plants use its light to grow.", "Never look straight into it."),
    "the sea": ("The sea covers most of the earth.", "Its water is salty.", "Many fish and whales live in it.", "Waves are made by the wind."),
    "trees": ("Trees have roots, a trunk and leaves.", "They give shade and clean air.", "Some trees live for hundreds of years.", "Birds build nests in them."),
    "bread": ("Bread is made of flour, water, salt and yeast.", "The dough must rest before it is baked.", "Fresh bread smells wonderful.", "People have baked it for thousands of years."),
    "tea": ("Tea is made from the leaves of a plant.", "The leaves steep in hot water for a few minutes.", "Some people add milk or lemon.", "It is good on a cold day."),
    "coffee": ("Coffee is made from roasted beans.", "Many people drink it in the morning.", "It keeps you awake.", "It can be served hot or with ice."),
    "cats": ("Cats are quiet and quick.", "They sleep for most of the day.", "They can see well in the dark.", "A happy cat will purr."),
    "dogs": ("Dogs are loyal animals.", "They need a walk every day.", "They have a very good nose.", "A dog wags its tail when it is happy."),
    "birds": ("Birds have feathers and wings.", "Most of them can fly.", "They lay eggs in nests.", "Some fly south when winter comes."),
    "bees": ("Bees collect nectar from flowers.", "They turn it into honey.", "They live together in a hive.", "Many plants need bees to make fruit."),
    "foxes": ("Foxes are wild animals with a thick tail.", "They hunt at night.", "They live in dens under the ground.", "A young fox is called a kit."),
    "fish": ("Fish live in water.", "They breathe with gills.", "Many of them swim in large groups.", "They have scales and fins."),
    "bicycles": ("A bicycle has two wheels.", "You move it with your own legs.", "It is quiet and needs no fuel.", "Wear a helmet when you ride."),
    "trains": ("Trains run on rails.", "They carry many people at once.", "The first trains were pulled by steam engines.", "A window seat is the best seat."),
    "books": ("Books keep stories and knowledge.", "You can borrow them from a library.", "A good book makes time fly.", "Some are read again and again."),
    "music": ("Music is made of sound and silence.", "It can make us happy or sad.", "Every people on earth makes music.", "You can sing it or play it."),
    "gardens": ("A garden needs sun, water and care.", "Flowers, fruit and vegetables grow in it.", "Bees and birds like to visit.", "Working in a garden is good for you."),
    "winter": ("Winter is the coldest season.", "The days are short and the nights are long.", "Many animals sleep until spring.", "A warm soup tastes best in winter."),
    "spring": ("Spring comes after winter.", "The days grow longer.", "Trees get new leaves.", "Birds come back and sing."),
    "summer": ("Summer is the warmest season.", "The days are long.", "Fruit becomes ripe.", "Many people travel to the sea."),
    "autumn": ("In autumn the leaves turn red and yellow.", "The harvest is brought in.", "The days become shorter.", "It is a good time for a walk."),
    "rivers": ("Rivers begin in hills and mountains.", "They flow down to the sea.", "Many cities were built beside them.", "Boats carry goods along them."),
    "mountains": ("Mountains are high and steep.", "Their tops are often white with snow.", "The air is thin up there.", "From the top you can see far."),
    "stars": ("Stars are very far away.", "They are hot balls of gas, like our sun.", "Sailors once used them to find the way.", "On a clear night you can see thousands."),
    "clouds": ("Clouds are made of tiny drops of water.", "The wind moves them.", "Dark clouds bring rain.", "Some look like animals."),
    "apples": ("Apples grow on trees.", "They can be red, green or yellow.", "They are ripe in autumn.", "You can bake them in a cake."),
    "cheese": ("Cheese is made from milk.", "There are many kinds of it.", "Some of it is soft and some is hard.", "It goes well with bread."),
    "clocks": ("Clocks show the time.", "The short hand shows the hours.", "The long hand shows the minutes.", "Old clocks must be wound up."),
    "computers": ("Computers follow instructions.", "They work with ones and zeros.", "They are fast, but they do only what they are told.", "People write programs for them."),
    "friendship": ("A friend listens to you.", "Friends help each other.", "It takes time to make a friend.", "A good friend tells you the truth."),
    "sleep": ("Sleep gives the body rest.", "Children need more of it than adults.", "We dream while we sleep.", "A dark and quiet room helps."),
    "water": ("Water is clear and has no smell.", "All living things need it.", "It freezes at zero degrees.", "Drink enough of it every day."),
    "fire": ("Fire gives light and heat.", "It needs air and something to burn.", "A small spark can start it.", "Never leave it alone."),
    "Python": ("Python is a programming language.", "It is known for being easy to read.", "Blocks are marked by spaces at the start of a line.", "It comes with a large standard library."),
    "lighthouses": ("A lighthouse stands on the coast.", "Its light warns ships at night.", "Most of them work by themselves today.", "Each one blinks in its own way."),
    "bridges": ("Bridges lead over rivers and roads.", "They are built of wood, stone or steel.", "A long bridge often hangs from cables.", "They bring people together."),
    "walking": ("Walking is good for the heart.", "It costs nothing.", "It clears the mind.", "Half an hour a day is enough."),
}  # fmt: skip

_TELL = (
    "Tell me about {t}.", "Tell me something about {t}.", "What do you know about {t}?", "Write a few sentences about {t}.",
    "Write a short text about {t}.", "Explain {t} to a child.", "Write about {t}.", "Say something about {t}.",
    "Describe {t}.", "Write a paragraph about {t}.", "I want to learn about {t}.", "What can you tell me about {t}?",
)  # fmt: skip
_LIST = (
    "List three facts about {t}.", "Give me three facts about {t}.", "Name three things about {t}.", "Three facts about {t}",
    "Write a list about {t}.",
)  # fmt: skip
_POEM = (
    "Write a poem about {t}.",
    "Write a short poem about {t}.",
    "A poem about {t}, please.",
    "Make a rhyme about {t}.",
    "Can you write a poem about {t}?",
)
_HAIKU = (
    "Write a haiku about {t}.",
    "A haiku about {t}",
    "Write a haiku on {t}.",
    "Can you write a haiku about {t}?",
)
_THIRD_LINES = (
    "the old pond is still",
    "a small bird sings once",
    "nobody is here",
    "and the day is done",
    "evening comes softly",
)
_SECOND_LINES = (
    "a light wind goes through the grass",
    "one lamp is lit in the house",
    "the path leads over the hill",
    "a cup of tea grows cold here",
)
_POEMS = (
    "I thought of {t} today,\nand all my cares went far away.\nThe world is wide, the sky is blue,\nand {t}, I sing of you.",
    "Oh {t}, so dear to me,\nby quiet hill and open sea.\nThe day is done, the night is near,\nand still I smile that you are here.",
    "A little song, a little rhyme,\nof {t} in summer time.\nThe wind goes by, the stars are bright,\nand so I wish you all good night.",
    "When morning comes and birds all sing,\nI think of {t} and everything.\nThe sun is up, the grass is green,\nthe finest day I've ever seen.",
)  # fmt: skip


def topic_dialogue(rng: random.Random) -> Dialogue:
    topic = rng.choice(list(TOPICS))
    kind = rng.random()
    if kind < 0.6:
        facts = list(TOPICS[topic])
        if rng.random() < 0.3:
            facts.pop(rng.randint(1, 3))
        return dialogue_from(typed_by_hand(rng, rng.choice(_TELL).format(t=topic)), " ".join(facts))
    if kind > 0.95:
        return dialogue_from(typed_by_hand(rng, rng.choice(_HAIKU).format(t=topic)), _short_lines(rng, topic))
    if kind < 0.8:
        facts = rng.sample(TOPICS[topic], 3)
        answer = "\n".join(f"{number}. {fact}" for number, fact in enumerate(facts, 1))
        return dialogue_from(typed_by_hand(rng, rng.choice(_LIST).format(t=topic)), answer)
    answer = "\n".join(sentence_case(line) for line in rng.choice(_POEMS).format(t=topic).split("\n"))
    return dialogue_from(typed_by_hand(rng, rng.choice(_POEM).format(t=topic)), answer)


def _short_lines(rng: random.Random, topic: str) -> str:
    lines = (f"I think of {topic}", rng.choice(_SECOND_LINES), rng.choice(_THIRD_LINES))
    return ",\n".join(lines[:2]) + ";\n" + lines[2] + "."
