"""PriorWorld's texts agree with its pictures, and its splits share no pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat
from scipy.stats import binomtest
from tools import priorworld_sheet

from vigos_cli.data.priorworld import PriorWorld, asked_attribute_is_true, dataset, is_caption, question_rows
from vigos_cli.data.priorworld.captions import caption, read_caption
from vigos_cli.data.priorworld.looks import COLOURS, KINDS, PATTERNS, USUAL, withheld
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.questions import OTHER_FAMILIES, PRIOR_FAMILIES
from vigos_cli.data.priorworld.scene import (
    BACKGROUNDS,
    SPLITS,
    Scene,
    Thing,
    draw_scene,
    scene_of_split,
    seeded,
    with_value,
)
from vigos_cli.evaluation.benchmarks.priorworld_scoring import measure_figures
from vigos_cli.types import Response, Sample

Look = tuple[str, str, str, str, str]  # kind, colour, pattern, row, column
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


def things(sample: Sample) -> dict[str, Look]:
    """The true scene, by kind."""
    assert sample.scene is not None
    looks: list[Look] = sample.scene["things"]  # pyright: ignore[reportAssignmentType]
    assert len({kind for kind, *_ in looks}) == len(looks)
    return {look[0]: look for look in looks}


def said(sample: Sample) -> str:
    """All values of a sample except its picture."""
    prior = sample.prior and (sample.prior.usual, sample.prior.agrees, sample.prior.fact_stated)
    parts = (sample.id, sample.group, sample.family, sample.question, sample.answer, sample.solution)
    return json.dumps([*parts, prior, sample.scene], sort_keys=True)


def same(one: Sample, two: Sample) -> bool:
    return said(one) == said(two) and one.images[0].tobytes() == two.images[0].tobytes()


@pytest.fixture
def undrawn(monkeypatch):
    """Samples without their pictures, which take most of the time."""
    blank = Image.new("RGB", (1, 1))
    monkeypatch.setattr(dataset, "picture", lambda scene, rng: blank)


@pytest.fixture(scope="module")
def rows() -> list[Sample]:
    return question_rows("heldout", 24, seed=5)


# ---------------------------------------------------------------- determinism


def test_a_sample_depends_only_on_its_seed_and_index():
    world = PriorWorld("train", 64, seed=3, conflict=0.5)
    forward = [world[i] for i in range(12)]
    again = PriorWorld("train", 20, seed=3, conflict=0.5)  # another size, and read in reverse order
    assert all(same(forward[i], again[i]) for i in reversed(range(12)))
    other = PriorWorld("train", 64, seed=4, conflict=0.5)
    assert not any(same(forward[i], other[i]) for i in range(12))
    assert len({sample.id for sample in forward}) == 12


def test_question_rows_do_not_depend_on_their_number():
    few = {sample.id: sample for sample in question_rows("validation", 2, seed=9)}
    many = {sample.id: sample for sample in question_rows("validation", 4, seed=9)}
    assert len(few) == 8 and all(same(sample, many[name]) for name, sample in few.items())


def test_indices_out_of_range_are_refused():
    world = PriorWorld(size=3)
    assert len(world) == 3 and len(list(world)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError):
            world[index]
    with pytest.raises(ValueError, match="train, validation, heldout"):
        PriorWorld("test")


# ---------------------------------------------------------------- splits


@pytest.mark.slow
def test_no_two_splits_share_a_picture(undrawn, rows):
    seen: dict[str, str] = {}
    sizes = Counter()
    for split in SPLITS:
        samples = [s for seed in (0, 1) for s in PriorWorld(split, 700, seed, conflict=0.5)]
        samples += rows if split == "heldout" else question_rows(split, 3)
        for sample in samples:
            assert sample.scene is not None
            content = json.dumps([sorted(things(sample).values()), sample.scene["background"]])
            assert seen.setdefault(content, split) == split
            sizes[split] += 1
    assert min(sizes.values()) > 1400 and len(seen) > 3000  # otherwise the test compared too few pictures


def test_the_content_decides_the_split_and_each_test_split_gets_a_tenth():
    rng = random.Random(0)
    scenes = [draw_scene(rng, 0.5) for _ in range(4000)]
    shares = Counter(scene.split() for scene in scenes)
    for split in ("validation", "heldout"):
        assert 0.08 < shares[split] / 4000 < 0.125


def test_a_scene_stays_in_its_split_when_a_look_is_changed():
    rng = random.Random(3)
    splits = Counter()
    for _ in range(200):
        scene = draw_scene(rng, 0.5)
        for thing in scene.things:
            for family, values in (("colour", COLOURS), ("pattern", PATTERNS)):
                others = {with_value(scene, thing.kind, family, value).split() for value in values}
                assert others == {scene.split()}
        splits[scene.split()] += 1
        assert scene_of_split(scene.split(), random.Random(0), 0.5).split() == scene.split()
    assert set(splits) == set(SPLITS)


def test_pictures_of_different_splits_differ_in_their_pixels():
    pixels = {split: {s.images[0].tobytes() for s in PriorWorld(split, 60)} for split in SPLITS}
    assert all(not pixels[a] & pixels[b] for a, b in combinations(SPLITS, 2))


# ---------------------------------------------------------------- texts agree with the picture


def truth(sample: Sample) -> tuple[str, str, str]:
    """Compute from question and scene: the answer, the worked solution, and the kind asked about."""
    assert sample.scene is not None
    world, background = things(sample), str(sample.scene["background"])
    question = sample.question
    if found := re.fullmatch(r"(.+) are usually (\w+)\. (.*)", question):
        plural, usual, question = found.groups()
        (kind,) = (k for k in world if plural.lower() in (k, k + "s"))
        assert usual in USUAL[kind] and f"the {kind}?" in question
    if question == "What colour is the background?":
        return background, f"The background is {background}.", ""
    if question == "How many things are there?":
        return str(len(world)), f"I see {', '.join(world)}.", ""
    for asked, column in (("What colour is", 1), ("What pattern has", 2), ("Which row is", 3)):
        if found := re.fullmatch(rf"{asked} the (\w+)( in)?\?", question):
            look = world[found[1]]
            return look[column], f"The {look[0]} is {look[column]}.", look[0]
    found = re.fullmatch(r"Is the (\w+) left of the (\w+)\?", question)
    assert found
    a, b = world[found[1]], world[found[2]]
    order = COLUMNS.index(a[4]), COLUMNS.index(b[4])
    assert order[0] != order[1]
    places = f"The {a[0]} is {a[4]}, the {b[0]} is {b[4]}."
    return "yes" if order[0] < order[1] else "no", places, a[0]


def check(sample: Sample) -> None:
    """Check that the texts of a sample describe its scene correctly."""
    assert sample.scene is not None
    answer, solution, asked = truth(sample)
    world = things(sample)
    assert sample.answer == answer and sample.solution == solution and sample.scene["asked"] == asked
    assert len({(row, column) for *_, row, column in world.values()}) == len(world)
    assert 2 <= len(world) <= 4
    if sample.family not in PRIOR_FAMILIES:
        assert sample.prior is None and sample.family in OTHER_FAMILIES
        return
    assert sample.prior is not None
    assert sample.prior.usual == USUAL[asked][PRIOR_FAMILIES.index(sample.family)]
    assert sample.prior.agrees == (answer == sample.prior.usual)
    assert sample.prior.fact_stated == ("usually" in sample.question)


def test_every_target_is_true_of_its_scene(undrawn):
    families = Counter()
    for split, conflict in (("train", 0.5), ("train", 0.0), ("heldout", 1.0)):
        for sample in PriorWorld(split, 500, 1, conflict):
            check(sample)
            families[sample.family, sample.prior and sample.prior.fact_stated] += 1
    for sample in question_rows("validation", 12):
        check(sample)
        families[sample.family, sample.prior and sample.prior.fact_stated] += 1
    expected = {(f, stated) for f in PRIOR_FAMILIES for stated in (True, False)}
    assert set(families) == expected | {(f, None) for f in OTHER_FAMILIES}
    assert min(families.values()) > 50


def test_the_check_finds_wrong_texts():
    from dataclasses import replace

    lies = 0
    for sample in PriorWorld(size=60, seed=2):
        others = {"yes", "no", "2", "3", *ROWS, *COLOURS, *PATTERNS, *BACKGROUNDS} - {sample.answer}
        for changes in ({"answer": sorted(others)[0]}, {"solution": "The hat is here."}, {"family": "size"}):
            with pytest.raises((AssertionError, ValueError)):
                check(replace(sample, **changes))
            lies += 1
    assert lies == 180


def test_a_caption_describes_every_thing_and_can_be_parsed():
    rng = random.Random(1)
    for _ in range(500):
        scene = draw_scene(rng, 0.4)
        text = caption(scene)
        looks = {t.kind: (t.colour, t.pattern, ROWS[t.row], COLUMNS[t.column]) for t in scene.things}
        assert {kind: tuple(look) for kind, look in read_caption(text).items()} == looks
        assert text == " ".join(f"{kind}: {' '.join(look)}." for kind, look in looks.items())
        assert is_caption(text)
        places = [(t.row, t.column) for t in scene.things]
        assert places == sorted(set(places))  # in reading order
    assert read_caption("") == {} == read_caption("A red banana at the top.")
    assert list(read_caption("junk hat: red plain top left. tail")["hat"]) == ["red", "plain", "top", "left"]


@pytest.mark.slow
def test_only_the_asked_attribute_decides_if_a_description_is_true(rows):
    judged = 0
    for sample in rows:
        if sample.prior is None:
            continue
        asked = things(sample)[truth(sample)[2]]
        own, place = list(asked[1:3]), asked[3:]
        column = PRIOR_FAMILIES.index(sample.family)
        values = (tuple(COLOURS), PATTERNS)
        for i, options in enumerate(values):
            for value in options:
                look = [*own]
                look[i] = value
                text = f"{asked[0]}: {' '.join(look)} {' '.join(place)}."
                right = i != column or value == sample.answer
                assert asked_attribute_is_true(text, sample) == right
                assert asked_attribute_is_true(f"cup: red plain top left. {text}", sample) == right
                judged += 1
        assert not asked_attribute_is_true("", sample)
        assert not asked_attribute_is_true(f"The {asked[0]} is {sample.answer}.", sample)
        other = next(kind for kind in KINDS if kind != asked[0])
        assert not asked_attribute_is_true(f"{other}: {' '.join([*own, *place])}.", sample)
    assert judged > 500


# ---------------------------------------------------------------- the prior, and what contradicts it


def conflicts(sample: Sample) -> bool:
    """Whether anything in the picture has an unusual look."""
    return any((colour, pattern) != USUAL[kind] for kind, colour, pattern, *_ in things(sample).values())


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_the_share_of_conflicting_pictures_is_as_configured(undrawn, share):
    samples = list(PriorWorld("train", 1500, 0, share))
    asked = [sample for sample in samples if sample.prior is not None]
    found = sum(map(conflicts, samples)), len(samples)
    found_asked = sum(not s.prior.agrees for s in asked if s.prior), len(asked)
    for k, n in (found, found_asked):
        if share in (0.0, 1.0):
            assert k == share * n
        else:
            assert binomtest(k, n, share).pvalue > 1e-4
    for sample in asked:  # the picture conflicts exactly if the asked attribute does
        assert sample.prior and sample.prior.agrees != conflicts(sample)


def test_half_of_the_questions_have_a_prior_and_half_of_those_state_it(undrawn):
    samples = list(PriorWorld("train", 2000, 3, 0.5))
    priors = [sample.prior for sample in samples if sample.prior]
    assert 0.45 < len(priors) / 2000 < 0.55
    assert 0.44 < sum(prior.fact_stated for prior in priors) / len(priors) < 0.56
    families = Counter(sample.family for sample in samples)
    assert all(0.2 < families[f] / 2000 < 0.3 for f in PRIOR_FAMILIES)
    assert all(0.09 < families[f] / 2000 < 0.16 for f in OTHER_FAMILIES)


@pytest.mark.slow
def test_withheld_pairs_are_only_in_the_test_rows(undrawn, rows):
    pairs = {(kind, attribute, withheld(kind, attribute)) for kind in KINDS for attribute in PRIOR_FAMILIES}
    assert all(value not in USUAL[kind] for kind, _, value in pairs)

    def shown(samples: Iterator[Sample]) -> Counter:
        return Counter(
            pair
            for sample in samples
            for kind, colour, pattern, *_ in things(sample).values()
            for pair in ((kind, "colour", colour), (kind, "pattern", pattern))
        )

    trained = shown(iter(PriorWorld("train", 2500, 0, 1.0)))
    assert not pairs & set(trained)
    possible = {(kind, "colour", colour) for kind in KINDS for colour in COLOURS}
    possible |= {(kind, "pattern", pattern) for kind in KINDS for pattern in PATTERNS}
    assert set(trained) == possible - pairs  # all other pairs occur

    tested = [sample for sample in rows if sample.prior]
    marked = {s.id for s in tested if s.scene and s.scene["withheld"]}
    for sample in tested:
        pair = (truth(sample)[2], sample.family, sample.answer)
        assert (sample.id in marked) == (pair in pairs)
        if sample.id in marked:
            assert sample.prior and not sample.prior.agrees
    assert len(marked) >= 5


# ---------------------------------------------------------------- the test sets


@pytest.mark.slow
@pytest.mark.parametrize(("split", "n"), [("validation", 4), ("heldout", 24)])
def test_the_three_pictures_of_a_row_differ_only_in_the_answer(undrawn, rows, split, n):
    samples = rows if split == "heldout" else question_rows(split, n, seed=2)
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        check(sample)
        groups[sample.group].append(sample)
        assert scene_of(sample).split() == split
    triples = [group for group in groups.values() if len(group) == 3]
    singles = [group[0] for group in groups.values() if len(group) == 1]
    assert len(triples) == len(singles) == n and len({s.id for s in samples}) == 4 * n
    for number, row in enumerate(triples):
        priors = [sample.prior for sample in row if sample.prior]
        assert [prior.agrees for prior in priors] == [True, False, False]
        assert len({sample.answer for sample in row}) == 3 and len({s.question for s in row}) == 1
        assert {prior.fact_stated for prior in priors} == {number // 2 % 2 == 0}
        column = 1 + PRIOR_FAMILIES.index(row[0].family)
        asked = truth(row[0])[2]
        for other in row[1:]:
            before, after = things(row[0]), things(other)
            assert list(before) == list(after)
            differing = {(k, i) for k in before for i in range(5) if before[k][i] != after[k][i]}
            assert differing == {(asked, column)}
            assert row[0].scene and other.scene
            assert row[0].scene["background"] == other.scene["background"]
    kinds = Counter((row[0].family, "usually" in row[0].question) for row in triples)
    assert set(kinds.values()) == {n // 4} and len(kinds) == 4
    assert Counter(s.family for s in singles) == dict.fromkeys(OTHER_FAMILIES, n // 4)


def scene_of(sample: Sample) -> Scene:
    assert sample.scene is not None
    looks = things(sample).values()
    placed = [Thing(k, c, p, ROWS.index(r), COLUMNS.index(q)) for k, c, p, r, q in looks]
    return Scene(tuple(placed), str(sample.scene["background"]))


def test_the_pictures_of_a_row_differ_at_the_asked_thing(rows):
    for agreeing in (s for s in rows if s.prior and s.prior.agrees):
        for other in (s for s in rows if s.group == agreeing.group and s is not agreeing):
            _, _, _, row, column = things(other)[truth(other)[2]]
            one, two = cell(agreeing, row, column), cell(other, row, column)
            assert ImageStat.Stat(ImageChops.difference(one, two)).mean != [0, 0, 0]


def test_answers_of_a_family_are_balanced(undrawn):
    answers: dict[str, Counter] = defaultdict(Counter)
    for sample in PriorWorld("train", 3000, 6, 0.5):
        answers[sample.family][sample.answer] += 1
    shares = {
        family: {answer: k / sum(found.values()) for answer, k in found.items()}
        for family, found in answers.items()
    }
    assert set(shares["left_of"]) == {"yes", "no"} and 0.4 < shares["left_of"]["yes"] < 0.6
    assert set(shares["count"]) == {"2", "3", "4"} and max(shares["count"].values()) < 0.45
    assert set(shares["place"]) == set(ROWS) and max(shares["place"].values()) < 0.45
    assert set(shares["background"]) == set(BACKGROUNDS) and max(shares["background"].values()) < 0.45
    assert set(shares["colour"]) == set(COLOURS) and max(shares["colour"].values()) < 0.25
    assert set(shares["pattern"]) == set(PATTERNS) and max(shares["pattern"].values()) < 0.45


# ---------------------------------------------------------------- pixels

# The colours of the names, written a second time on purpose.
NAMED = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (250, 215, 40),
    "green": (56, 150, 60),
    "blue": (40, 90, 220),
    "purple": (140, 60, 180),
    "white": (252, 252, 252),
    "black": (28, 28, 28),
}


def cell(sample: Sample, row: str, column: str) -> Image.Image:
    assert sample.images[0].size == (84, 84) and sample.images[0].mode == "RGB"
    x, y = 28 * COLUMNS.index(column), 28 * ROWS.index(row)
    return sample.images[0].crop((x, y, x + 28, y + 28))


def shares(image: Image.Image, shade: int = 0) -> Counter:
    """The share of pixels that are nearest to each colour, background and ink."""
    names = {
        **NAMED,
        **{name: tuple(c + shade for c in rgb) for name, rgb in BACKGROUNDS.items()},
        "ink": (64, 64, 64),
        "pale ink": (145, 145, 145),
    }
    pixels = np.asarray(image.convert("RGB"), float).reshape(-1, 1, 3)
    near = np.square(pixels - np.array(list(names.values()))).sum(-1).argmin(1)
    found = Counter(list(names)[i] for i in near)
    return Counter({name: count / len(near) for name, count in found.items()})


def alone(kind: str, colour: str, pattern: str, background: str, seed: int = 0) -> Image.Image:
    scene = Scene((Thing(kind, colour, pattern, 1, 1),), background)
    return picture(scene, random.Random(seed)).crop((28, 28, 56, 56))


def seen(image: Image.Image) -> str:
    """The colour of the thing in a cell: the most frequent that is neither background nor ink."""
    found = shares(image)
    return max(NAMED, key=lambda name: found[name])


def test_a_thing_has_the_colour_that_its_name_says():
    for i, (kind, colour) in enumerate((k, c) for k in KINDS for c in COLOURS):
        for n, background in enumerate(BACKGROUNDS):
            assert seen(alone(kind, colour, "plain", background, i + n)) == colour, (kind, background)


@pytest.mark.slow
def test_pictures_show_their_scene_cell_by_cell():
    checked = Counter()
    for sample in PriorWorld("train", 150, 8, 0.5):
        world = things(sample)
        assert sample.scene is not None
        occupied = {(row, column): look for look in world.values() for *_, row, column in [look]}
        for row in ROWS:
            for column in COLUMNS:
                part = cell(sample, row, column)
                if (row, column) not in occupied:
                    assert len(part.getcolors() or ()) == 1  # nothing but background
                    assert shares(part).most_common(1)[0][0] == sample.scene["background"]
                    continue
                _, colour, pattern, *_ = occupied[row, column]
                if pattern == "plain":
                    assert seen(part) == colour
                    checked[colour] += 1
    assert set(checked) == set(COLOURS)


def ink(kind: str, colour: str, pattern: str, background: str) -> float:
    """The share of a cell that is drawn in ink, outline included."""
    found = shares(alone(kind, colour, pattern, background))
    if colour == "black":  # black things have pale ink; the outline is not counted
        return found["pale ink"]
    return found["ink"] + found["black"]


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_patterns_differ_in_their_share_of_ink(background):
    for kind in KINDS:
        for colour in COLOURS:
            share = {pattern: ink(kind, colour, pattern, background) for pattern in PATTERNS}
            patterned = min(share["striped"], share["dotted"], share["checked"])
            assert patterned - share["plain"] > 0.015, (kind, colour, share)
            assert min(share["striped"], share["checked"]) - share["dotted"] > 0.01, (kind, colour, share)


def test_stripes_are_horizontal_and_checks_are_not():
    def banded(kind: str, pattern: str) -> float:
        """The variation of brightness between rows of pixels, divided by that within rows."""
        tile = np.asarray(alone(kind, "yellow", pattern, "grey").convert("L"), float)[6:22, 9:19]
        return tile.mean(1).std() / (tile.std(1).mean() + 1e-9)

    for kind in ("heart", "flower", "cloud", "tree"):
        assert banded(kind, "striped") > 2 * banded(kind, "checked"), kind


# ---------------------------------------------------------------- frozen

# The generator must not change: a model was trained on exactly these texts and pictures, and results of
# different dates can be compared only if they stay the same. To change it on purpose: pretrain the model
# again, give the reason in the commit, and copy the output of `python tests/data/test_priorworld.py` here.
TEXTS = "91d5c6fdb806ddf5287d55a48ada33ae223e2dd6d4c76aed5b3774dc3f86d95a"
PICTURES = (
    "uC|zv*x0|vwWiqE*x1<E*x1<E*x1<En3LGpp_!A8*x0eG$jHdZ$jHdZ$jHdZ%*V*c$jH>v$jHdZ$jG0c$jHdZxVgy4"
    "%*@Qp%*@Qp%*@QpoTJRlgNclj%*>#wqMXdkyu7=%%*?>R!or-bwY9>+nyS0I!otGB!otGB!otGByt~4}!ot11!otGB"
    "*4Cq^*4Eb6qNUc>*4Eb6$jH{#*4D(t*4Eb6*4Eb6*4Eb6)z#J2)z#J2)z#J2)zy@uhM3jWr?Q%+)z#J2)z#J2)z#J2"
    "zrTHhzrVk~n4rJEzrVk~v$MayzrVS;o0h-7m6(^3zrT}~;NXgk(9huDzroMR;Nalkug2iu;NYRV;Nalk;Nalk;Nalk"
    "+S=OMrLWrB+S-$u+S=OM+S=OM+S=OM%gfr@+S<g(+S=OMy1K~7hnK*>$jFSCmZHeW$jFtT$jHdZuAj)r$jG3J$jHdZ"
    ";^N}st+?Xi;^MTu;^N}s;^N}s;^N}si;}9G;^MBkpOWI@$jFR|$jHdZu&c<($jHdZm88hX$jFkM$jHdZ$jHdZ$jHdZ"
    "%*@Qpo}tXl%*>XT%*@Qp%*@Qp%*@Qp%goHo%*@f%%*@Qph>_0A%*=s_*VoL<nybvr%*?XA%*@Qp%*@Qp%*@Qp%*@Qp"
    "kbuF!&(FWG!NAYY&(F`#prFss&(F8H&(F`#&(F`#&(F`#)z#J2)z#J2)z#J2ue8<Gy2Glf)z!4N)z#J2)z#J2)z#J2"
    "$jHdZ$jHdZ$jHdZ%*V*c$jH>v$jHdZ$jG0c$jHdZxVgy4;o;%o;o;%o;o;%oxUJ#ggN3W1;o-HnwXEUc(a^}n;o;24"
    "!or-bwY9>+nyS0I!otGB!otGB!otGByt~4}!ot11!otGB*4Cq^*4Eb6qNUc>*4Eb6$jH{#*4D(t*4Eb6*4Eb6*4Eb6"
    ")z#J2)z#J2)z#J2)zy@uhM3jWr?Q%+)z#J2)z#J2)z#J2o2<>vj)}9r&CQaI&CQ~!&CSitg@w({&CRN;&CSito1D$f"
    "*4DD4uBq16s+y*t*4Eb6*4Eb6*4Eb6*4Eb6o}kv&*4BV{#l^+N#l^+N#l^+NnUlrEo|vVf#l^X_#l^+N#l^+N#l^+N"
    "s;R}ruCbS(#l@|&q@2aY#l@hM#l^+NuCT?$#l@zo#l^+N;^N}st+?Xi;^MTu;^N}s;^N}s;^N}si;}9G;^MBkpOWI@"
    "#Kd)j#KgqJp|8Zm#KgqJnx@3W#KeY_#KgqJ#KgqJ#KgqJ;o;%otiIvl;o+pU;o;%o;o;%o;o;%o#meE~;o-Nu;o;%o"
    "h>_0A%*=s_*VoL<nybvr%*?XA%*@Qp%*@Qp%*@Qp%*@Qp&d$!x(9F)x&d%4?t*g$?&d#Wp&d$!x&d$!x&d$!x&d$!x"
    "%F3Ie%F4>hm7L1T%F4>h%F4>h%F4>hrH{(W%F2>>%F4>hzrUrUzrVk~qoKdQzrVk~zrVk~zrVk~kE6f8zrT>5zrVk~"
    "($c!A($dn>wx`n4($dn>rJd5!($c!L($bHR($dn>la$iZt+CnJ+1Z?*+1c6I+1YJ^+1c6Iti9RU+1c6I&CS`_+1c3H"
    "xut}E)6=h(vaQq8)6=c2)6>(_yS>xXt)|n{)6=x5)6>(_rl_mC(b1ovl%CPi(b12Z(b3V-hL6$F(b0>D(b3V-ytmQO"
    "-{0Tg-{0Tg-{0TgjirEt-`|Lvhl$_c#mC>@+S#|W-{0Kd%*@Qp%*@Qp%*@Qp!^F(Y%*@8d%*@Qp%*>*i%*@Qpp`6Uj"
)


@cache
def frozen() -> list[Sample]:
    samples = [s for share in (0.02, 0.5) for s in PriorWorld("train", 150, 0, share)]
    return [*samples, *question_rows("heldout", 12), *question_rows("validation", 8)]


def texts_digest() -> str:
    """A digest of all texts, and of scenes that other modules draw with the generator."""
    digest = hashlib.sha256()
    for sample in frozen():
        digest.update(said(sample).encode())
    rng = seeded("frozen")
    for rate in (0.5, 0.97, 1.0):
        for _ in range(50):
            scene = draw_scene(rng, rate)
            digest.update(f"{caption(scene)} {scene.background} {scene.split()}".encode())
            picture(scene, rng)  # uses the same random numbers
    return digest.hexdigest()


def pictures_reduced() -> np.ndarray:
    """Every tenth picture in 6 x 6 greys: coarse enough for any version of Pillow, within a tolerance."""
    grey = [s.images[0].convert("L").resize((6, 6), Image.Resampling.BOX) for s in frozen()[::10]]
    return np.stack([np.asarray(image) for image in grey])


def test_texts_are_frozen():
    assert texts_digest() == TEXTS, "the generator's texts or random draws have changed"


def test_pictures_are_frozen():
    pinned = np.frombuffer(base64.b85decode(PICTURES), np.uint8).reshape(-1, 6, 6)
    now = pictures_reduced()
    assert now.shape == pinned.shape
    assert np.abs(now.astype(int) - pinned).max() <= 3, "the generator's pictures have changed"


# ---------------------------------------------------------------- the sheet of samples


def test_the_sheet_shows_every_family_with_conflict_and_without():
    for split in ("train", "heldout"):
        chosen = priorworld_sheet.choose_samples(split, 2, 0)
        assert [len(column) for column in chosen] == [2] * 8
        for (family, stated), column in zip(priorworld_sheet.COLUMNS, chosen, strict=True):
            assert {sample.family for sample in column} == {family}
            if family in PRIOR_FAMILIES:
                assert [s.prior.agrees for s in column if s.prior] == [False, True]
                assert {s.prior.fact_stated for s in column if s.prior} == {stated}
            assert all(scene_of(sample).split() == split for sample in column)
    assert [[s.id for s in c] for c in chosen] == [
        [s.id for s in c] for c in priorworld_sheet.choose_samples("heldout", 2, 0)
    ]


def test_no_text_on_the_sheet_is_cut_off(tmp_path, monkeypatch):
    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["priorworld_sheet", "--out", str(out), "--rows", "1", "--seed", "4"])
    priorworld_sheet.main()
    sheet = Image.open(out).convert("L")
    edges = [
        (0, 0, sheet.width, 8),
        (0, 0, 8, sheet.height),
        (0, sheet.height - 8, sheet.width, sheet.height),
    ]
    assert all(sheet.crop(edge).getextrema() == (255, 255) for edge in edges)
    width = priorworld_sheet.WIDTH - 2 * priorworld_sheet.MARGIN
    clauses = [
        f"{k}: {c} {p} {r} {q}."
        for k in KINDS
        for c in COLOURS
        for p in PATTERNS
        for r in ROWS
        for q in COLUMNS
    ]
    assert max(map(priorworld_sheet.BODY.getlength, clauses)) <= width
    assert priorworld_sheet.wrapped("a bb ccc", priorworld_sheet.BODY, 1) == ["a", "bb", "ccc"]


if __name__ == "__main__":
    print(f'TEXTS = "{texts_digest()}"')
    packed = base64.b85encode(pictures_reduced().tobytes()).decode()
    print("PICTURES = (")
    for start in range(0, len(packed), 90):
        print(f'    "{packed[start : start + 90]}"')
    print(")")


def test_wrong_references_have_the_right_type_and_change_nothing_else():
    wrong: dict[float, set[int]] = {}
    truth = PriorWorld(size=200)
    for each in (0.0, 0.3, 1.0):
        world = PriorWorld(size=200, wrong_reference=each)
        wrong[each] = {i for i in range(200) if world[i].answer != truth[i].answer}
        for i in range(0, 200, 10):
            told, own = world[i], truth[i]
            assert (told.id, told.question, told.family, told.prior) == (
                own.id,
                own.question,
                own.family,
                own.prior,
            )
            assert told.images[0].tobytes() == own.images[0].tobytes()
            assert (i in wrong[each]) == (told.solution != own.solution)
    assert wrong[0.0] == set() and len(wrong[1.0]) == 200
    assert 40 < len(wrong[0.3]) < 80 and wrong[0.3] <= wrong[1.0]
    said: dict[str, set[str]] = {}
    for sample in PriorWorld(size=1000):
        said.setdefault(sample.family, set()).add(sample.answer)
    misled = PriorWorld(size=200, wrong_reference=1.0)
    assert all(sample.answer in said[sample.family] for sample in misled)


def test_figures_are_reported_separately_with_and_without_the_stated_fact():
    samples = question_rows("validation", 12)
    told = [sample.prior is not None and sample.prior.fact_stated for sample in samples]
    answers = [sample.answer if fact else "nothing" for sample, fact in zip(samples, told, strict=True)]
    responses = [
        Response(sample.id, 0, "", "", answer, valid=True, described=True, tokens=1)
        for sample, answer in zip(samples, answers, strict=True)
    ]
    facts = measure_figures(samples, responses)["facts"]
    assert isinstance(facts, dict)
    assert {kind: figure["mean"] for kind, figure in facts.items()} == {
        "prior, fact not stated": 0,
        "prior, fact stated": 1,
        "score, fact not stated": 0,
        "score, fact stated": 1,
    }
    assert sum(figure["n"] for figure in facts.values()) == sum(s.prior is not None for s in samples)


def described(texts: list[str]) -> dict[str, object]:
    """The figures of wrong answers with these descriptions, repeated over the contradicting pictures."""
    samples = [s for s in question_rows("validation", 12) if s.prior is not None and not s.prior.agrees]
    return measure_figures(
        samples,
        [
            Response(s.id, 0, "", texts[i % len(texts)], "", valid=True, described=True, tokens=1)
            for i, s in enumerate(samples)
        ],
    )


FREE = ["The banana in the picture is blue.", "Scene: it is a sunny day. hat: it is very big."]


@pytest.mark.parametrize(
    ("texts", "reported"),
    [
        (FREE, False),
        ([*FREE, ""], False),
        (["banana: blue striped top left."], True),
        ([*FREE, "banana: blue striped top left."], True),  # all count, those in free words as untrue
        ([""], True),  # as before: a model that is destroyed describes nothing truly
    ],
)
def test_descriptions_are_judged_only_if_some_have_the_form_of_the_tiny_model(texts, reported):
    figures = described(texts)
    n, interval = figures["n"], figures["interval"]
    assert isinstance(n, dict) and isinstance(interval, dict)
    assert (figures["description"] is not None, interval["description"] is not None) == (reported, reported)
    assert n["description"] == (n["score"] if reported else 0) and n["score"] == 24
    assert figures["capture"] == 0


def test_a_caption_is_known_by_its_words_even_if_it_is_untrue():
    for text in (*FREE, "", "fish: blue.", "fish: blue plain", "sky: blue plain top left."):
        assert not is_caption(text)
    assert is_caption("junk fish: blue plain top left. tail")
