"""Word lists shared by several templates."""
# ruff: noqa: E501, SIM905 - tables of sentences and words read best unwrapped

import random

FIRST_NAMES = """Ada Aisha Alan Alice Amara Amir Ana Anna Arthur Astrid Ben Bianca Boris Carla Carlos Chen Clara Daniel
David Diego Dina Elena Elias Ella Emil Emma Erik Eva Fatima Felix Fiona Frank Freya George Grace Greta Hana Hannah Hassan
Helen Henry Hugo Ibrahim Ines Iris Isaac Ivan Jack James Jane Jin Joan Johan John Jonas Jorge Jun Karim Kate Kofi Lara
Laura Lea Leo Lena Liam Lina Linda Lucas Lucy Luis Maria Marco Marie Mark Marta Maya Mei Mia Milan Mina Mira Nadia Nora
Noah Olga Oliver Omar Oscar Paul Paula Pedro Peter Petra Priya Quinn Rafael Ravi Rita Robert Rosa Ruth Sam Samir Sara
Sofia Sven Tara Theo Thomas Tom Uma Vera Victor Wanda Wei Yara Yuki Yusuf Zara Zoe""".split()

CITIES = """Amsterdam Athens Barcelona Berlin Bogota Boston Cairo Chicago Copenhagen Dakar Delhi Denver Dublin Geneva
Hamburg Hanoi Helsinki Istanbul Jakarta Kyoto Lagos Lima Lisbon London Lyon Madrid Manila Mexico Milan Montreal Mumbai
Munich Nairobi Naples Osaka Oslo Paris Porto Prague Quito Rome Santiago Seattle Seoul Sydney Tokyo Toronto Turin Vienna
Warsaw Zurich""".split()

JOBS = """baker carpenter chemist cook dancer dentist designer doctor driver engineer farmer gardener judge lawyer
librarian nurse painter photographer pilot plumber sailor singer teacher translator waiter writer""".split()

ITEMS = """backpack bicycle blanket book bottle camera candle chair clock coat cup desk drum guitar hammer hat headset
jacket kettle keyboard knife lamp laptop mirror monitor notebook pen pencil phone pillow printer radio rug scarf shirt
shoe sofa spoon table teapot tent towel umbrella vase wallet watch""".split()

COLORS = "red blue green yellow black white grey brown orange purple pink silver".split()

MONTHS = "January February March April May June July August September October November December".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

_ONSETS = "B Br C Ch D Dr F G Gr H J K Kl L M N P Pr R S Sh St T Tr V W Y Z".split()
_VOWELS = "a e i o u ai ea ou".split()
_ENDINGS = "l n r s t m d k lin ra na no ric den tor mi la vi go ta x".split()


def any_name(rng: random.Random) -> str:
    """Pick a common first name, or now and then a made-up word, so that the model learns to copy what it reads."""
    if rng.random() < 0.3:
        return made_up_word(rng)
    return rng.choice(FIRST_NAMES)


def any_city(rng: random.Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(CITIES)
    return made_up_word(rng)


def made_up_word(rng: random.Random) -> str:
    middle = rng.choice(_VOWELS) + rng.choice(_ENDINGS) if rng.random() < 0.3 else ""
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_ENDINGS) + middle
