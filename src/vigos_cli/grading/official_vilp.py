"""The official rule of ViLP, to compare with published scores.

>>> official_vilp("glass", "Crystal.").verdict
'right'
>>> official_vilp("glass", "glasses").verdict
'wrong'

The official program looks each answer up as a whole in three tables, one after the other: number words,
synonyms, plurals. Two answers are the same if the results are equal. The tables below have the same content.
They have gaps, which are kept: `glasses` is no plural of `glass`, a plural that is not listed stays as it is,
and `co2` does not become the same as `carbon dioxide`.
"""

from __future__ import annotations

from vigos_cli.types import Verdict

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
SYNONYMS = {  # the answer that stands for all of these
    "AC": ("aircondition", "airconditioner", "air-conditioner"),  # `ac` itself stays in lower case
    "airplane": ("aeroplane", "plane"),
    "bag": ("backpack",),
    "bee": ("beesap",),
    "bicycle": ("bike",),
    "bigben": ("clocktower",),
    "bus": ("schoolbus",),
    "bush": ("bushe",),
    "car": ("automobile",),
    "carbon dioxide": ("co2",),
    "carbondioxide": ("co₂", "carbon dioxide"),
    "cat": ("kitten",),
    "checkerboard": ("checkered",),
    "chicken": ("rooster", "roosters"),
    "computer": ("pc",),
    "crocodile": ("alligator",),
    "crow": ("raven",),
    "cube": ("cubic", "cubical", "cubes", "cuboid", "cuboids", "square", "squares"),
    "cup": ("teacup",),
    "curved": ("zigzag",),
    "cushion": ("pillow",),
    "diamond": ("faceted", "jewelry", "jewelries"),
    "dinosaur": ("t-rex", "trex"),
    "dog": ("dalmatian",),
    "dolphin": ("porpoise",),
    "eraser": ("brush",),
    "eye": ("eyesight",),
    "faucet": ("tap",),
    "flower": ("bud", "blossoms"),
    "fridge": ("refrigerator", "refrigerators"),
    "glass": ("crystal",),
    "glasses": ("goggles", "night-vision", "binoculars"),
    "guitar": ("ukulele",),
    "hexagon": ("hexagonal", "hexagons"),
    "hippo": ("hippopotamus",),
    "kangaroo": ("wallaby",),
    "kettle": ("teapot",),
    "lolipop": ("candy",),
    "los angeles": ("la",),
    "metal": ("steel",),
    "motorcycle": ("motorbike",),
    "new york city": ("nyc", "new york"),
    "nitrogen": ("n2",),
    "octagon": ("octagonal",),
    "octopus": ("squid",),
    "oven": ("stove", "fireplace"),
    "oxygen": ("o2",),
    "person": ("man", "woman", "people", "men", "women"),
    "phone": ("cellphone", "telephone"),
    "pickle": ("cucumber",),
    "pipe": ("pipeline",),
    "pitaya": ("dragonfruit",),
    "rainbow": ("multicolored",),
    "rhino": ("rhinoceros",),
    "round": ("circular", "circle", "circles", "spherical", "sphere", "spheres", "roundpherical", "roundph"),
    "sea": ("underwater", "ocean"),
    "seismometer": ("seismograph",),
    "ship": ("boat", "boats", "sailboat", "airship"),
    "shoe": ("slipper", "slippers"),
    "snake": ("serpent",),
    "space": ("galaxy",),
    "spots": ("polka-dots", "dots"),
    "straw": ("hay", "thatch"),
    "stripes": ("striped",),
    "television": ("tv",),
    "torus": ("donut", "donuts"),
    "triangle": ("triangular", "triangles"),
    "turtle": ("tortoise",),
    "united states": ("usa",),
    "vine": ("vineyard",),
    "violin": ("cello",),
    "water": ("h2o",),
    "wood": ("logs",),
}
REGULAR = (  # singulars whose plural is listed, with an s at its end
    "ant antelope beak bee bicycle bird book brick bubble camel carrot cat chameleon chicken clock "
    "cloud cow crayon diamond dog dolphin drum earthquake elephant eye feather field flower fork "
    "giraffe goat gill horse kangaroo key koala lemon lion lung needle panda pencil petal pipe "
    "porcupine pumpkin rabbit rocket rope scale seahorse seal shark shoe shrub skyscraper spinner "
    "spinneret squirrel stripe tiger tree turbine wasp whale wheel wind wombat"
)
PLURALS = {
    **{f"{singular}s": singular for singular in REGULAR.split()},
    "bushes": "bush", "butterflies": "butterfly", "cacti": "cactus", "children": "child", "feet": "foot",
    "fireflies": "firefly", "flame": "fire", "fungi": "fungus", "geese": "goose", "knives": "knife",
    "leaves": "leaf", "lolipops": "lolipop", "lollipop": "lolipop", "lollipops": "lolipop", "media": "medium",
    "mice": "mouse", "octopi": "octopus", "ostriches": "ostrich", "stimuli": "stimulus", "teeth": "tooth",
    "watches": "watch", "wolves": "wolf",
}  # fmt: skip
NUMBERS = {word: str(number) for number, word in enumerate(NUMBER_WORDS)}
MEANT = {word: meant for meant, words in SYNONYMS.items() for word in words}


def official_vilp(gold: str, answer: str) -> Verdict:
    """ViLP's verdict on an answer that was found in a response: always right or wrong."""
    said, wanted = official_word(answer.replace(".", "")), official_word(gold)
    right = said == wanted and said != "none"
    return Verdict("right" if right else "wrong", answer, "official word", f"{said!r} against {wanted!r}")


def official_word(answer: str) -> str:
    """An answer as the official program compares it."""
    word = answer.lower().strip().removesuffix(".")
    for table in (NUMBERS, MEANT, PLURALS):
        word = table.get(word, word)
    return word
