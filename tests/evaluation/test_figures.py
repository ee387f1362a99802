"""Figures are compared with direct computations, with scipy, and with results derived by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

import bench_fixtures as data
import numpy as np
import pytest
from scipy.stats import binomtest

from vigos_cli.evaluation import figures, registry
from vigos_cli.evaluation.benchmarks.cvbench import overall
from vigos_cli.evaluation.benchmarks.hallusion import accuracies
from vigos_cli.evaluation.benchmarks.vlind import stages
from vigos_cli.evaluation.figures import any_right, composite, pass_at_k, ratio, summary
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.types import Prior, Sample, Verdict


def verdict(right: float | None, extracted: str = "x") -> Verdict:
    word = "unparsed" if right is None else "right" if right else "wrong"
    return Verdict(word, None if right is None else extracted, "test", "")


def item(name: str, group: str = "", **known: Any) -> Sample:
    return Sample(id=name, question="", answer="", images=(), group=group, **known)


def graded(*draws: Iterable[float | None], group: str = "") -> list[Graded]:
    """One item for each argument, with a verdict for each draw."""
    return [
        Graded(item(f"{group}{i}", group), k, verdict(right))
        for i, verdicts in enumerate(draws)
        for k, right in enumerate(verdicts)
    ]


# ---------------------------------------------------------------- pass@k


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_draw(n: int):
    for c in range(n + 1):
        samples = [1] * c + [0] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(samples, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_pass_at_n_means_any_right_and_pass_at_1_is_the_mean():
    rng = np.random.default_rng(0)
    many = graded(*rng.integers(0, 2, (30, 5)).tolist())
    found = summary(many, lambda _: None)
    by_item = [[one.right for one in many if one.sample.id == str(i)] for i in range(30)]
    assert found["pass"]["5"]["mean"] == pytest.approx(np.mean([max(draws) for draws in by_item]))
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(by_item))
    assert found["accuracy"]["n"] == 150 and found["items"] == 30 and found["draws"] == 5
    assert sum(one.right for one in any_right(many)) == sum(max(draws) for draws in by_item)


def test_pass_at_k_with_more_than_k_draws():
    ten = graded([1, *[0] * 9], [0] * 10)
    found = summary(ten, lambda _: None)["pass"]
    assert set(found) == {"5", "8", "10"}
    assert found["5"]["mean"] == pytest.approx((0.5 + 0) / 2)  # 1 - C(9, 5) / C(10, 5) = 1/2
    assert found["10"]["mean"] == 0.5


@pytest.mark.parametrize("options, expected", [(2, 0.97), (4, 0.76), (10, 0.41)])
def test_pass_at_5_of_guessing(options: int, expected: float):
    found = summary(graded([0] * 5, [1] * 5), lambda _: 1 / options)
    assert found["chance"] == pytest.approx(1 / options)
    assert found["pass"]["5"]["chance"] == pytest.approx(expected, abs=0.005)


def test_items_without_options_have_no_chance_level():
    chances = {"0": 0.5, "1": None}
    found = summary(graded([1], [0]), lambda sample: chances[sample.id])
    assert found["chance"] == 0.25 and found["guessable"] == 0.5


# ---------------------------------------------------------------- intervals


def test_a_single_answer_has_wilsons_interval():
    found = summary(graded(*[[1]] * 7, *[[0]] * 13), lambda _: None)["accuracy"]
    reference = binomtest(7, 20).proportion_ci(method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((reference.low, reference.high))
    assert (found["mean"], found["n"]) == (0.35, 20)


def test_unparsed_counts_as_wrong_and_is_reported():
    found = summary(graded([1], [None], [0], [None]), lambda _: None)
    assert found["unparsed"] == 0.5 and found["accuracy"]["mean"] == 0.25


def test_draws_of_one_item_are_not_independent():
    """Ten items whose 8 draws agree give as little information as ten answers, not as much as 80."""
    found = summary(graded(*[[1] * 8] * 5, *[[0] * 8] * 5), lambda _: None)["accuracy"]
    ten, eighty = (
        binomtest(5, 10).proportion_ci(method="wilson"),
        binomtest(40, 80).proportion_ci(method="wilson"),
    )
    assert found["high"] - found["low"] > 2 * (eighty.high - eighty.low)
    assert found["high"] - found["low"] == pytest.approx(ten.high - ten.low, rel=0.25)


def test_items_of_a_cluster_are_resampled_together():
    rng = np.random.default_rng(1)
    rights = np.repeat(rng.integers(0, 2, 20), 5).tolist()
    loose = [Graded(item(str(i)), 0, verdict(r)) for i, r in enumerate(rights)]
    tied = [Graded(item(str(i), group=str(i // 5)), 0, verdict(r)) for i, r in enumerate(rights)]
    widths = [f["high"] - f["low"] for f in (figures.accuracy(loose), figures.accuracy(tied)) if f]
    assert widths[1] > 1.5 * widths[0]  # sqrt(5) in expectation


def test_figures_of_an_empty_set_are_none():
    found = summary([], lambda _: None)
    assert found["items"] == 0 and found["accuracy"] is None and found["unparsed"] is None
    assert ratio({}) is None and ratio({"a": (0, 0)}) is None and composite([], lambda t: t[..., 0]) is None


def test_a_ratio_equals_a_bootstrap_written_by_hand():
    rng = np.random.default_rng(2)
    below = rng.integers(0, 4, 40).astype(float)
    above = rng.binomial(below.astype(int), 0.6).astype(float)
    found = ratio({i: (a, b) for i, (a, b) in enumerate(zip(above, below, strict=True))})
    assert found and found["mean"] == pytest.approx(above.sum() / below.sum()) and found["n"] == below.sum()
    weighed = below > 0
    picks = rng.integers(0, weighed.sum(), (4000, weighed.sum()))
    drawn = above[weighed][picks].sum(1) / below[weighed][picks].sum(1)
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)


def test_a_ratio_without_spread_has_wilsons_interval_of_its_clusters():
    found = ratio(dict.fromkeys(range(10), (2.0, 2.0)) | {"unreached": (0.0, 0.0)})
    reference = binomtest(10, 10).proportion_ci(method="wilson")
    assert found and (found["low"], found["high"]) == pytest.approx((reference.low, reference.high))


def test_groups_may_overlap():
    both, one = item("0", fields={"skills": ("a", "b")}), item("1", fields={"skills": ("b",)})
    found = summary(
        [Graded(both, 0, verdict(1)), Graded(one, 0, verdict(None))],
        lambda _: 0.5,
        {"skill": lambda sample: sample.fields["skills"]},
    )["skill"]
    assert {name: (f["mean"], f["n"], f["unparsed"]) for name, f in found.items()} == {
        "a": (1, 1, 0),
        "b": (0.5, 2, 0.5),
    }


# ---------------------------------------------------------------- benchmarks


def test_groups_of_the_benchmarks_on_their_own_rows():
    expected = {
        "mathvista": {"question type", "answer type", "task", "skill"},
        "mmmu": {"subject", "question type"},
        "mathverse": {"version", "subject", "question type"},
        "mmsi": {"type"},
        "mathvision": {"subject", "level"},
    }
    rows = {"mathvista": data.MATHVISTA, "mmmu": data.MMMU, "mathverse": data.MATHVERSE, "mmsi": data.MMSI}
    for name, groups in expected.items():
        bench = registry.get(name)
        items = list(bench.samples(rows.get(name, data.MATHVISION), RowReader()))
        found = bench.summarise([Graded(sample, 0, verdict(1)) for sample in items])
        assert groups <= set(found)
        for group in groups:
            assert sum(f["n"] for f in found[group].values()) >= len(items)
            assert all(f["mean"] == 1 for f in found[group].values())


def test_mathverse_versions_of_a_problem_are_one_cluster():
    bench = registry.get("mathverse")
    items = list(bench.samples(data.MATHVERSE, RowReader()))
    found = bench.summarise([Graded(s, 0, verdict(s.group == "2")) for s in items])
    # problem 2 has 5 of the 8 rows, all right; problems 3, 4 and 5 have one each, wrong
    assert found["accuracy"]["mean"] == 5 / 8
    assert found["accuracy"]["low"] == 0  # (3/4)^4 = 32 % of the resamples of four problems lack problem 2
    assert set(found["version"]) == {
        "Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only",
    }  # fmt: skip
    assert found["version"]["Text Lite"]["mean"] == pytest.approx(1 / 3)


def cv_item(name: str, source: str) -> Sample:
    return item(name, fields={"source": source, "type": "2D"}, options=("a", "b"), family="Count")


def test_cvbench_weights_its_sources():
    # ADE20K 3 of 4, COCO 1 of 2, Omni3D 1 of 4: ((3/4 + 1/2) / 2 + 1/4) / 2 = (5/8 + 2/8) / 2 = 7/16
    rights = (
        [("ADE20K", 1)] * 3 + [("ADE20K", 0), ("COCO", 1), ("COCO", 0), ("Omni3D", 1)] + [("Omni3D", 0)] * 3
    )
    one = [Graded(cv_item(str(i), source), 0, verdict(r)) for i, (source, r) in enumerate(rights)]
    found = registry.get("cvbench").summarise(one)
    assert found["score"]["mean"] == pytest.approx(7 / 16) and found["score"]["n"] == 10
    assert found["score"]["low"] < 7 / 16 < found["score"]["high"]
    assert found["accuracy"]["mean"] == 0.5  # 5 of 10, the unweighted mean
    assert found["chance"] == 0.5
    assert overall(one[:6]) is None  # no score without Omni3D
    again = [Graded(g.sample, 1, verdict(1)) for g in one]
    drawn = registry.get("cvbench").summarise([*one, *again])
    assert drawn["score"]["mean"] == pytest.approx((7 / 16 + 1) / 2)  # linear: equal numbers of draws
    assert drawn["score of any right"]["mean"] == 1


def vilp_graded(*rows: tuple[tuple[float, str], ...], draw: int = 0) -> list[Graded]:
    """One row for each argument: for each image, if the answer was right, and the answer."""
    usual = "water"
    return [
        Graded(
            Sample(
                id=f"{i}:{place}",
                question="",
                answer=usual if place == 1 else f"other{place}",
                images=(),
                prior=Prior(usual, place == 1, True),
                group=str(i),
                fields={"place": place},
            ),
            draw,
            verdict(right, said),
        )
        for i, row in enumerate(rows)
        for place, (right, said) in enumerate(row, 1)
    ]


def test_vilp_score_prior_gap_and_capture():
    # image1: right in rows 0, 1, 2          -> prior 3/4
    # image2: right in row 0                 -> 1/4
    # image3: right in rows 0 and 3          -> 2/4     score (1/4 + 2/4) / 2 = 3/8, gap 3/4 - 3/8 = 3/8
    # "water" was the answer for image2 in row 1, for image3 in rows 1 and 2: capture 3 of 8
    rows = vilp_graded(
        ((1, "water"), (1, "other2"), (1, "other3")),
        ((1, "water"), (0, "Water."), (0, "water")),
        ((1, "water"), (0, "sand"), (0, "the water")),
        ((0, "sand"), (0, "sand"), (1, "other3")),
    )
    found = registry.get("vilp_f").summarise(rows)
    assert found["prior"]["mean"] == 0.75
    assert found["score"]["mean"] == 0.375
    assert found["gap"]["mean"] == 0.375
    assert found["capture"]["mean"] == 0.375 and found["capture"]["n"] == 8
    assert found["image"]["2"]["mean"] == 0.25
    assert found["gap"]["low"] < 0.375 < found["gap"]["high"] and found["gap"]["n"] == 4


def test_vilp_a_second_picture_with_the_usual_answer_is_not_in_capture():
    rows = vilp_graded(((1, "water"), (1, "water"), (0, "sand")))
    same = replace(rows[1].sample, answer="Water")
    found = registry.get("vilp_f").summarise([rows[0], Graded(same, 0, rows[1].verdict), rows[2]])
    assert found["capture"]["mean"] == 0 and found["capture"]["n"] == 1


def test_vilp_a_gap_without_spread_has_no_interval():
    rows = vilp_graded(*[((1, "water"), (0, "water"), (0, "water"))] * 3)
    gap = registry.get("vilp_f").summarise(rows)["gap"]
    assert gap["mean"] == 1 and gap["low"] is None


def vlind_graded(instance: int, passes: dict[str, Any], draw: int = 0) -> list[Graded]:
    """A complete instance. `passes`: both verdicts for a, b and c; for d those of each good picture."""
    good = [str(i) for i in range(len(passes["d"]))]
    pairs = [(stage, "0", passes[stage]) for stage in "abc"] + list(
        zip("d" * 9, good, passes["d"], strict=False)
    )
    return [
        Graded(
            item(
                f"{instance}:{stage}{i}:{image}",
                group=str(instance),
                family="habitat",
                fields={"stage": stage, "image": image, "good": good},
            ),
            draw,
            verdict(right),
        )
        for stage, image, pair in pairs
        for i, right in enumerate(pair, 1)
    ]


YES, HALF, NO = (1, 1), (1, 0), (0, 0)
VLIND = [
    *vlind_graded(0, {"a": YES, "b": YES, "c": YES, "d": [YES, YES, HALF, NO]}),  # reaches d: 2 of 4 pictures
    *vlind_graded(1, {"a": YES, "b": YES, "c": YES, "d": [YES]}),  # reaches d: 1 of 1
    *vlind_graded(2, {"a": YES, "b": HALF, "c": YES, "d": [YES, YES]}),  # stopped by b
    *vlind_graded(3, {"a": YES, "b": YES, "c": HALF, "d": [YES]}),  # stopped by c
    *vlind_graded(4, {"a": HALF, "b": NO, "c": YES, "d": [NO]}),  # stopped by a: its c does not count
    *vlind_graded(5, {"a": HALF, "b": YES, "c": YES, "d": [YES]}),  # stopped only by a
]


def test_vlind_conditional_figures():
    found = stages(VLIND)
    # a: 0, 1, 2, 3 of 6. b: 0, 1, 3, 5 of 6. c given a: 0, 1, 2 of the four that pass a.
    # d given a, b, c: instances 0 and 1 reach it, with 2/4 and 1/1 of their pictures: (0.5 + 1) / 2
    # d by picture: 3 of their 5 pictures. Unconditional: c in 0, 1, 2, 4, 5; d (0.5 + 1 + 1 + 1 + 0 + 1) / 6.
    expected = {
        "a": (4 / 6, 6), "b": (4 / 6, 6), "c": (3 / 4, 4), "d": (0.75, 2), "d by picture": (3 / 5, 5),
        "c of all": (5 / 6, 6), "d of all": (0.75, 6),
    }  # fmt: skip
    assert {name: (found[name]["mean"], found[name]["n"]) for name in expected} == {
        name: (pytest.approx(mean), n) for name, (mean, n) in expected.items()
    }
    assert found["incomplete"] == 0


def test_vlind_single_statements_are_not_pairs():
    everything_affirmed = [Graded(g.sample, 0, verdict(g.sample.id.split(":")[1][1] == "1")) for g in VLIND]
    found = stages(everything_affirmed)
    assert found["a"]["mean"] == found["b"]["mean"] == 0
    assert found["c"] is None and found["d"] is None  # no instance passes a, so none reaches the later stages
    whole = registry.get("vlind").summarise(everything_affirmed)
    assert whole["accuracy"]["mean"] == 0.5


def test_vlind_an_instance_that_lacks_a_response_is_left_out_and_counted():
    found = stages([g for g in VLIND if g.sample.id != "0:d2:3"])
    assert found["incomplete"] == 1
    assert found["a"]["n"] == 5 and found["d"]["mean"] == 1.0 and found["d"]["n"] == 1


def test_vlind_draws_are_paired_within_themselves():
    first = vlind_graded(0, {"a": (1, 0), "b": YES, "c": YES, "d": [YES]})
    second = vlind_graded(0, {"a": (0, 1), "b": YES, "c": YES, "d": [YES]}, draw=1)
    assert stages([*first, *second])["a"]["mean"] == 0  # no draw has both right
    found = registry.get("vlind").summarise([*first, *second])
    assert found["of any right"]["a"]["mean"] == 1  # each was right once, which counts for Pass@n


def test_hallusion_three_accuracies():
    items = list(registry.get("hallusion").samples(data.HALLUSION, RowReader()))
    wrong = {"VD_figure_0_1_1", "VS_chart_0_0_0"}
    found = accuracies([Graded(s, 0, verdict(s.id not in wrong)) for s in items])
    # aAcc: 5 of 7.
    # qAcc: VD question 0 (figures 0, 1) right, question 1 not; VS question 0 (its blind row wrong) not,
    #       VS question 1 right: 2 of 4.
    # fAcc: VD figures 0 right and 1 not; VS figure 1 right; VS figure 0 is no figure: 2 of 3.
    assert (found["aAcc"]["mean"], found["aAcc"]["n"]) == (pytest.approx(5 / 7), 7)
    assert (found["qAcc"]["mean"], found["qAcc"]["n"]) == (0.5, 4)
    assert (found["fAcc"]["mean"], found["fAcc"]["n"]) == (pytest.approx(2 / 3), 3)


def test_hallusion_question_numbers_are_separate_in_each_subcategory():
    rows = [data.hallusion("VD", kind, "0", "0", "0", "1") for kind in ("figure", "map", "chart")]
    items = list(registry.get("hallusion").samples(rows, RowReader()))
    found = accuracies([Graded(s, 0, verdict(i > 0)) for i, s in enumerate(items)])
    assert found["qAcc"]["n"] == found["fAcc"]["n"] == 3
    assert found["qAcc"]["mean"] == pytest.approx(2 / 3)


def test_hallusion_draws_are_counted_separately():
    items = list(registry.get("hallusion").samples(data.HALLUSION[:4], RowReader()))
    draws = [Graded(s, k, verdict(k == 0 or s.id.endswith("_0"))) for k in (0, 1) for s in items]
    found = registry.get("hallusion").summarise(draws)
    # draw 0 all right: 2 of 2 questions, 2 of 2 figures; draw 1 only question 0: 1 of 2 and 0 of 2
    assert found["qAcc"]["mean"] == 0.75 and found["fAcc"]["mean"] == 0.5
    assert found["of any right"]["qAcc"]["mean"] == 1
