"""A step in bfloat16 has the loss and the gradient of a step in float32, up to the rounding of 8 bits.

Loss and adapter are float32 in both; only the passes through the frozen model round to 8 bits. No useful
bound follows from the rounding of a single operation: its effect depends on the weights, and relative to the
gradient it is the larger, the closer student and teacher are (docs/method.md, "bfloat16"). So the bounds here
are about three times what was measured with the same seed.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass

import pytest
import torch
from conftest import distill_config
from runs import RUN, adapter, same
from twins import FAMILIES, save_twin
from two_dtypes import ROUTINGS, both_dtypes, compare, one_step, own_turns, written_turns

from vigos_cli.training.distill import distill


@dataclass(frozen=True)
class Bound:
    """The largest relative difference of gradient and loss."""

    gradient: float
    loss: float


TINY = Bound(0.06, 6e-3)  # measured: 0.020 and 0.0019
CLOSE = Bound(0.17, 1.5e-2)  # where the loss is 0.002: 0.058 and 0.0049
CODE = Bound(0.06, 4e-2)  # routing=vigos_code: 0.021 and 0.013
BOUNDS = {"no_reasoning": CLOSE, "other_answer": CLOSE, "vigos_code": CODE}  # all others: TINY
RANDOM = Bound(0.11, 1.2e-2)  # the small random models: 0.035 and 0.0042


@pytest.fixture(scope="module")
def students():
    return both_dtypes("seed=1", seed=1, size=0.03)


@pytest.fixture(scope="module")
def turns(students):
    """The tokens that the tiny model samples with each of the two prompts."""
    return {
        distill_config(routing).routing.student.format: own_turns(students["float32"], "seed=1", routing)
        for routing in ("routing=vigos", "routing=opsd")
    }


def both_steps(students, turns, *overrides):
    """The two steps, after the checks that hold in every case."""
    exact, rounded = (one_step(student, turns, *overrides) for student in students.values())
    for found, dtype in ((exact, torch.float32), (rounded, torch.bfloat16)):
        assert {states.dtype for states in found.hidden} == {dtype}
        assert math.isfinite(found.loss) and found.loss > 0 and found.line["grad_norm"] > 0
        assert "counts/step_not_finite" not in found.line
        for value in found.gradient.values():
            assert value.dtype == torch.float32 and bool(value.isfinite().all())
    assert exact.gradient.keys() == rounded.gradient.keys() == students["bfloat16"].adapter.keys()
    assert {value.dtype for value in students["bfloat16"].adapter.values()} == {torch.float32}
    return exact, rounded


def check(exact, rounded, bound):
    found = compare(exact, rounded)
    assert found.gradient < bound.gradient and found.loss < bound.loss
    assert found.cosine > 1 - bound.gradient**2 / 2  # of vectors of one length that differ by the bound


def check_routing(students, turns, routing):
    overrides = (f"routing={routing}", "seed=1")
    steps = both_steps(students, turns[distill_config(*overrides).routing.student.format], *overrides)
    check(*steps, BOUNDS.get(routing, TINY))


@pytest.mark.slow
def test_a_step_has_the_gradient_of_float32(students, turns):
    check_routing(students, turns, "vigos")


@pytest.mark.slow
@pytest.mark.parametrize("routing", [name for name in ROUTINGS if name != "vigos"])
def test_a_step_of_every_routing_has_the_gradient_of_float32(students, turns, routing):
    check_routing(students, turns, routing)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_every_family_has_the_gradient_of_float32(family, tmp_path):
    where = ("seed=1", f"model.path={save_twin(family, tmp_path)}")
    pair = both_dtypes(*where, seed=1)
    for routing in ("routing=vigos", "routing=opsd_structured"):
        turns = written_turns(pair["float32"], *where, routing)
        check(*both_steps(pair, turns, *where, routing), RANDOM)


@pytest.mark.slow
def test_a_new_adapter_and_the_same_prompt_have_no_loss():
    """Student and teacher then read the same batch with the same weights, so their states are equal."""
    overrides = ("routing=opsd_structured", "routing.teachers.privileged.told=[question]", "seed=1")
    for student in both_dtypes("seed=1", size=0.0).values():
        found = one_step(student, written_turns(student, *overrides), *overrides)
        assert found.loss < 1e-9 and found.line["grad_norm"] < 1e-5
        assert found.line["supervised_tokens"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [(), ("adapter=qlora",)], ids=["bfloat16", "nf4"])
def test_a_resumed_run_equals_an_uninterrupted_one_exactly(tmp_path, kind):
    """The folder is that of a run that was killed after its checkpoint in the middle."""
    few = (*kind, "model.dtype=bfloat16", *RUN[1:], "trainer.steps=4", "bench.samples=0", "resume=auto")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary = distill(distill_config(*few, f"out={whole}"))
    assert summary and bool(summary["quantised_modules"]) == bool(kind)
    shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("step-000004", "summary.json", "adapter"))
    distill(distill_config(*few, f"out={cut}"))
    assert same(adapter(cut), adapter(whole))
    assert {value.dtype for value in adapter(whole).values()} == {torch.float32}
    assert any(value.any() for name, value in adapter(whole).items() if "lora_B" in name)
    losses = [
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (cut, whole)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4 and all(map(math.isfinite, losses[0]))
