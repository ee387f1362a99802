"""What each published method tells and shows its teachers, and which tokens it supervises with what."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from conftest import distill_config
from PIL import ImageChops
from written_rollouts import BROKEN, RIGHT, WRONG, Written, routed, written

from vigos_cli.config.ignored_keys import ignored_keys
from vigos_cli.config.routing_checks import check_routing
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import LossConfig, TeacherConfig
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.data.columns import picture_column
from vigos_cli.data.degradations import degraded
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.routing import rule_spec
from vigos_cli.supervision.teacher_weights import weight_keys
from vigos_cli.utils.errors import ConfigError

Q = "Trees are usually green. What colour is the tree?"
ASKED = f"{Q} Think, answer in a box."
SOLUTION = "The tree is yellow."
CUE = "tree: checked middle left."
SHOWN = (
    f"tree: yellow checked middle left. fish: white striped middle right. {SOLUTION} The answer is yellow."
)
TURN = r"<think>The tree is yellow. </think> \boxed{yellow}"
TAUGHT = "Understand it, think, answer in a box."

ALONE = {  # method -> teacher -> the whole text that it is told, for a single rollout of the prompt
    "opsd_original": {"privileged": f"{Q} The reference is {SOLUTION}. {TAUGHT}"},
    "op2sd": {"donor": f"What colour is the background?\n\nThe background is tan. {ASKED}"},
    "sdft": {"shown": f"{Q} {SHOWN} {ASKED}"},
    "vicur": {"cued": f"{Q} {CUE} Think, answer in a box."},
    "vision_opd": {"crop": ASKED},
    "s2vopd": {"clean": ASKED},
    "vcsd": {"image": ASKED, "black": ASKED},
    "purified_opsd": {
        "both": f"{Q} The reference is {SOLUTION}. {TAUGHT}",
        "alone": f"The reference is {SOLUTION}. Think, answer in a box.",
        "plain": ASKED,
    },
    "opd_v": {"crop": ASKED, "masked": ASKED},
    "vgs": {"seeing": ASKED, "blind": ASKED, "blind_student": ASKED},
    "opsa": {},
}
OF_A_GROUP = {
    "sdpo": {"hinted": f"{Q} The reference is {TURN}. {TAUGHT}"},
    "u_opsd": {"agreeing": f"{Q} The reference is {TURN}. {TAUGHT}"},
}
WEIGHTS = {
    "opsd_original": {"privileged": "initial"},
    "op2sd": {"donor": "initial"},
    "sdft": {"shown": "ema:0.01"},
    "vicur": {"cued": "initial"},
    "vision_opd": {"crop": "ema:0.05"},
    "s2vopd": {"clean": "ema:0.05"},
    "vcsd": {"image": "ema:0.05", "black": "ema:0.05"},
    "purified_opsd": {"both": "initial", "alone": "initial", "plain": "initial"},
    "opd_v": {"crop": "ema:0.05", "masked": "ema:0.05"},
    "vgs": {"seeing": "initial", "blind": "initial", "blind_student": "live"},
    "opsa": {},
    "sdpo": {"hinted": "ema:0.05"},
    "u_opsd": {"agreeing": "initial"},
}
STUDENT_100 = {"beta": 0.5, "top_k": 100, "top_k_of": "student", "tail": "bucket"}
CAPPED = ("forward_kl", {"clip": "entry", "clip_value": 0.05})
SPECS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "opsd_original": {"privileged": CAPPED},
    "op2sd": {"donor": CAPPED},
    "sdft": {"shown": ("forward_kl", {"clip": "none"})},
    "vicur": {"cued": ("sampled", {"clip": "both", "clip_value": 10})},
    "vision_opd": {"crop": ("jsd", {"clip": "none", **STUDENT_100})},
    "s2vopd": {"clean": ("jsd", {"clip": "none", "beta": 0.5, "top_k": 100, "tail": "renormalise"})},
    "vcsd": {"vcsd": ("forward_kl", {"clip": "none", "temperature": 2})},
    "purified_opsd": {"purified": ("jsd", {"clip": "none", "beta": 0.5})},
    "opd_v": {"crop": ("jsd", {"clip": "none", **STUDENT_100})},
    "vgs": {"seeing": ("reverse_kl", {"clip": "none"}), "visual": ("reverse_kl", {"clip": "none"})},
    "opsa": {"constant": ("advantage", {"advantage": -0.5})},
    "sdpo": {"hinted": ("jsd", {"clip": "none", **STUDENT_100})},
    "u_opsd": {"agreeing": CAPPED},
}


def taught(student: Any, name: str, *overrides: str) -> list[Written]:
    """A right, a wrong and a broken rollout; methods that compare rollouts get one more right one."""
    texts = [RIGHT, WRONG, BROKEN, *([RIGHT] if name in OF_A_GROUP else [])]
    return written(student, name, texts, *overrides)


# ---- texts


@pytest.mark.parametrize("name", ALONE)
def test_each_teacher_is_told_exactly_its_text(tiny, name):
    for one in taught(tiny, name):
        assert one.message(STUDENT) == ASKED, "the student is never told a reference"
        told = {context: one.message(context) for context in one.row.contexts if context != STUDENT}
        assert told == ALONE[name]


@pytest.mark.parametrize("name", OF_A_GROUP)
def test_a_teacher_is_told_a_sibling_and_no_reference_of_the_data(tiny, name):
    rows = taught(tiny, name)
    told = [{c: one.message(c) for c in one.row.contexts if c != STUDENT} for one in rows]
    expected: list[dict[str, str]] = {
        "sdpo": [OF_A_GROUP["sdpo"]] * 4,  # a right rollout is told the other right one
        "u_opsd": [{}, OF_A_GROUP["u_opsd"], {}, {}],  # only the rollout that disagrees
    }[name]
    assert told == expected
    assert all(one.message(STUDENT) == ASKED and SHOWN not in one.message(STUDENT) for one in rows)


def test_the_other_problem_of_op2sd_says_nothing_about_this_one(tiny):
    (one,) = written(tiny, "op2sd", [RIGHT])
    assert one.item.other is not None and one.item.other.solution
    assert one.item.other.question != one.sample.question
    told = one.message("donor").removesuffix(ASKED)
    assert "tree" not in told and "yellow" not in told and one.item.other.solution in told


def test_the_cue_of_vicur_and_the_control_of_purified_leave_out_what_they_must(tiny):
    (cued,) = written(tiny, "vicur", [RIGHT])
    assert "yellow" not in cued.message("cued")
    (purified,) = written(tiny, "purified_opsd", [RIGHT])
    assert Q not in purified.message("alone") and "yellow" not in purified.message("plain")


def test_u_opsd_tells_the_longest_of_the_majority_and_supervises_the_longest_that_disagrees(tiny):
    long = r"The tree is yellow. The tree is yellow. </think> \boxed{yellow}"
    longer = r"The tree is green. The tree is green. </think> \boxed{red}"
    rows = written(tiny, "u_opsd", [RIGHT, long, WRONG, longer])
    assert [bool(one.row.terms) for one in rows] == [False, False, False, True]
    assert long in rows[3].message("agreeing")
    few = written(tiny, "u_opsd", [RIGHT, WRONG, BROKEN])
    assert not any(one.row.terms for one in few), "one of three is no majority of a half"


# ---- pictures


def same(one: Any, other: Any) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def sees_as_sample(name: str) -> dict[str, Any]:
    """How each context of a method sees the sample, as pictures of the data layer."""
    crop = {"column": "crop"}
    return {
        "vision_opd": {STUDENT: {"column": "boxed"}, "crop": crop},
        "vcsd": {STUDENT: "image", "image": "image", "black": "black"},
        "purified_opsd": {STUDENT: "image", "both": "image", "alone": "none", "plain": "image"},
        "opd_v": {STUDENT: {"column": "boxed"}, "crop": crop, "masked": {"mask": crop}},
        "vgs": {STUDENT: "image", "seeing": "image", "blind": "none", "blind_student": "none"},
    }.get(name, dict.fromkeys((STUDENT, *WEIGHTS[name]), "image"))


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name != "s2vopd"])
def test_each_context_sees_its_picture(tiny, name):
    for one in taught(tiny, name):
        for context in one.row.contexts:
            sees = sees_as_sample(name)[context]
            inner = sees.get("mask", sees) if isinstance(sees, dict) else sees
            own = one.sample.images
            if isinstance(inner, dict):
                own = picture_column(one.sample, inner["column"])
            expected = degraded(own, sees, seed=0, sample_id=one.sample.id)
            found = one.pictures(context)
            assert len(found) == len(expected) and all(map(same, found, expected)), (context, sees)


def test_the_black_picture_and_the_masked_crop_are_what_they_are_called(tiny):
    (one,) = written(tiny, "vcsd", [RIGHT])
    (black,) = one.pictures("black")
    assert black.size == one.sample.images[0].size and black.getextrema() == ((0, 0),) * 3
    (one,) = written(tiny, "opd_v", [RIGHT])
    (crop,), (masked,) = one.pictures("crop"), one.pictures("masked")
    hidden = ImageChops.difference(crop, masked).getbbox()
    assert hidden is not None and crop.size == masked.size == (56, 56)
    area = (hidden[2] - hidden[0]) * (hidden[3] - hidden[1]) / (56 * 56)
    assert area == pytest.approx(1 / 3, abs=0.02)
    (box,) = one.pictures(STUDENT)
    reds = [count for count, colour in box.getcolors(84 * 84) or () if colour == (255, 0, 0)]
    assert reds and box.size == (84, 84)


def test_s2vopd_degrades_the_pictures_of_students_only(tiny):
    rows = written(tiny, "s2vopd", [RIGHT], indices=range(24))
    changed = [not same(one.pictures(STUDENT)[0], one.sample.images[0]) for one in rows]
    assert all(same(one.pictures("clean")[0], one.sample.images[0]) for one in rows)
    assert 16 <= sum(changed) <= 24 and not all(changed), "about nine of ten"
    smaller = [one.pictures(STUDENT)[0].size < one.sample.images[0].size for one in rows]
    assert any(smaller) and not all(smaller), "only one of the three degradations changes the size"


# ---- tokens


@pytest.mark.parametrize("name", [name for name in ALONE if name not in ("sdft", "vgs")])
def test_every_sampled_token_is_supervised_once(tiny, name):
    (by,) = SPECS[name]
    for one in taught(tiny, name):
        assert one.tokens(by) == list(range(one.length)), "also of wrong and broken rollouts"
        assert len(one.tokens(by)) == sum(len(term.tokens) for term in one.row.terms)


def test_sdft_leaves_out_the_first_three_tokens(tiny):
    rows = taught(tiny, "sdft")
    assert [one.tokens("shown") for one in rows] == [list(range(3, one.length)) for one in rows]
    assert rows[2].tokens("shown") == [3], "one token is left of the broken rollout"


def test_vgs_has_two_terms_at_every_token(tiny):
    for one in taught(tiny, "vgs"):
        assert one.tokens("seeing") == one.tokens("visual") == list(range(one.length))


def test_sdpo_leaves_out_rollouts_without_a_right_sibling(tiny):
    rows = written(tiny, "sdpo", [RIGHT, WRONG, BROKEN])
    assert [one.tokens("hinted") == list(range(one.length)) for one in rows] == [False, True, True]
    assert not rows[0].row.terms, "the only right rollout is no sibling of itself"
    none = written(tiny, "sdpo", [WRONG, WRONG])
    assert not any(one.row.terms for one in none)


# ---- weights and divergences


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_teacher_has_its_weights_whatever_the_teacher_group_says(name):
    for usual in (TeacherConfig(), TeacherConfig(weights="live"), TeacherConfig(weights="ema")):
        assert weight_keys(routed(name).routing, usual) == WEIGHTS[name]


def in_effect(spec: DivergenceSpec) -> dict[str, Any]:
    """The keys of a divergence that change its value."""
    used: dict[str, Any] = {"divergence": spec.divergence}
    if spec.divergence == "advantage":
        return used | {"advantage": spec.advantage}
    used |= {"clip": spec.clip, "temperature": spec.temperature}
    if spec.clip != "none":
        used["clip_value"] = spec.clip_value
    if spec.divergence == "jsd":
        used["beta"] = spec.beta
    if spec.divergence != "sampled":
        used["top_k"] = spec.top_k
    if spec.divergence != "sampled" and spec.top_k is not None:
        used |= {"top_k_of": spec.top_k_of, "tail": spec.tail}
    return used


@cache
def loss_group(name: str) -> LossConfig:
    return routed("opsd", f"loss={name}").loss


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["vigos", "jsd", "topk_kl", "sampled"])
@pytest.mark.parametrize("name", SPECS)
def test_the_divergence_of_a_method_does_not_depend_on_the_loss_group(name, loss):
    rules = supervision_rules(routed(name).routing)
    found = {rule.by: in_effect(rule_spec(rule, loss_group(loss))) for rule in rules}
    expected = {
        by: in_effect(DivergenceSpec(divergence, **keys)) for by, (divergence, keys) in SPECS[name].items()
    }
    assert found == expected


@pytest.mark.parametrize(
    ("name", "key", "place"),
    [
        ("vcsd", "loss.temperature=1", "temperature"),
        ("opsd_original", "loss.top_k=20", "top_k"),
        ("opsd_original", "loss.tail=renormalise", "top_k"),
        ("opd_v", "loss.beta=0.1", "beta"),
    ],
)
def test_a_stated_key_of_the_loss_is_refused_by_name(name, key, place):
    (line,) = ignored_keys(routed(name), [key])
    assert line.endswith(f"set routing.supervise.all.{place}")


def test_the_factors_of_the_published_losses():
    factors = {"vcsd": {"vcsd": 4}, "vgs": {"seeing": 1, "visual": 2}}
    for name, expected in factors.items():
        assert {rule.by: rule.weight for rule in supervision_rules(routed(name).routing)} == expected
    for name in SPECS:
        rules = supervision_rules(routed(name).routing)
        assert [rule.divide_by for rule in rules] == (
            ["all"] if name == "opd_v" else ["supervised"] * len(rules)
        )


@pytest.mark.parametrize("value", ["most", "0", "none"])
def test_top_k_is_all_or_a_number_of_entries(value):
    with pytest.raises(ConfigError, match=r"routing\.supervise\.all\.top_k=.*must be"):
        check_routing(
            distill_config("routing=sdpo", "rollout.n=2", f"routing.supervise.all.top_k={value}").routing
        )
