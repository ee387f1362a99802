"""Targets of several contexts: the published ones by hand on three tokens, and their limits."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vigos_cli.method import targets
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.targets import Contrast, check, contrast
from vigos_cli.utils.errors import ConfigError

VCSD = Contrast("image", "image", "black", support_of="image")
ECTR = Contrast("right", "right", "wrong", scale=0.5, floor=-5.0)
PURIFIED = Contrast("plain", "both", "alone", centre=True, tanh=10.0)
VGS = Contrast("blind", "image", "no_image")
TRUST_REGION = Contrast("initial", "live", "initial", scale=0.05)
PUBLISHED = {"VCSD": VCSD, "ectr": ECTR, "Purified": PURIFIED, "VGS": VGS, "trust region": TRUST_REGION}


def logits_of(*weights: float, shift: float = 0.0) -> Tensor:
    """Logits of probabilities that are in this proportion; a shift of all logits changes nothing."""
    return torch.tensor([weights], dtype=torch.float64).log() + shift


def probabilities(spec: Contrast, temperature: float = 1.0, **contexts: tuple[float, ...]) -> list[float]:
    """The target from unnormalised weights of each context, whose logits have different offsets."""
    logits = {name: logits_of(*w, shift=3.0 * i) for i, (name, w) in enumerate(contexts.items())}
    return contrast(logits, spec, temperature).exp()[0].tolist()


def draw(spec: Contrast, n: int = 5, v: int = 7) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {name: 2 * torch.randn(n, v, generator=g, dtype=torch.float64) for name in spec.contexts}


# ---- by hand


def test_vcsd_by_hand():
    # image (3, 2, 1)/6, black (1, 2, 1)/4. image^2 / black is 9/1, 4/2, 1/1 up to a constant: 9 + 2 + 1 = 12.
    expected = [9 / 12, 2 / 12, 1 / 12]
    black = (1.0, 2.0, 1.0)
    assert probabilities(VCSD, image=(3.0, 2.0, 1.0), black=black) == pytest.approx(expected)
    # Support: at least half of the largest, 1.5 of 3, so the last token is out: 9 + 2 = 11.
    half = replace(VCSD, support_share=0.5)
    expected = [9 / 11, 2 / 11, 0]
    assert probabilities(half, image=(3.0, 2.0, 1.0), black=black) == pytest.approx(expected)
    # The middle token keeps the image's probability, relative to what the normalised contrast is:
    # 1/2 * (1/2)/(1/4) = 1; 1/3; 1/6 * (1/6)/(1/4) = 1/9. The sum is 13/9.
    exempt = replace(VCSD, exempt=(1,))
    expected = [9 / 13, 3 / 13, 1 / 13]
    assert probabilities(exempt, image=(3.0, 2.0, 1.0), black=black) == pytest.approx(expected)


def test_ectr_by_hand():
    # right (50, 25, 25)/100, wrong (98, 1, 1)/100, a floor of 1/10 instead of exp(-5):
    # .5^1.5 / .98^.5 = .353553 / .989949 = .357143, and .25^1.5 / .1^.5 = .125 / .316228 = .395285 twice.
    # The sum is 1.147712. Without a floor the last two would be 1.25 each.
    spec = replace(ECTR, floor=math.log(0.1))
    got = probabilities(spec, right=(50.0, 25.0, 25.0), wrong=(98.0, 1.0, 1.0))
    assert got == pytest.approx([0.311178, 0.344411, 0.344411], abs=1e-6)


def test_purified_by_hand():
    # both / alone is 8, 2, 1 up to a constant: D = log 2 * (3, 1, 0), minus its mean log 2 * 4/3:
    # D = log 2 * (5/3, -1/3, -4/3). With c = log 2: tanh(5/3) = .931110, tanh(-1/3) = -.321513,
    # tanh(-4/3) = -.870062, and 2 to these powers 1.906743, .800230, .547123.
    # Times the base (2, 1, 1)/4: .953372, .200058, .136781. The sum is 1.290210.
    spec = replace(PURIFIED, tanh=math.log(2))
    got = probabilities(spec, plain=(2.0, 1.0, 1.0), both=(8.0, 4.0, 1.0), alone=(1.0, 2.0, 1.0))
    assert got == pytest.approx([0.738928, 0.155058, 0.106014], abs=1e-6)


def test_a_soft_limit_without_centring_acts_on_normalised_contexts():
    # plus (2, 1, 1)/4 over minus (1, 1, 2)/4: D = log (2, 1, 1/2). c = log 2: tanh(1) = .761594, 0, -.761594;
    # 2 to these powers: 1.695363, 1, .589844. Times a uniform base; the sum is 3.285207.
    spec = Contrast("base", "plus", "minus", tanh=math.log(2))
    got = probabilities(spec, base=(1.0, 1.0, 1.0), plus=(2.0, 1.0, 1.0), minus=(1.0, 1.0, 2.0))
    assert got == pytest.approx([0.516060, 0.304395, 0.179546], abs=1e-6)


def test_vgs_by_hand():
    # blind student (1, 2, 1)/4, teacher with the image (1, 1, 4)/6, without it (2, 1, 1)/4:
    # 1 * 1/2, 2 * 1/1, 1 * 4/1, so .5 + 2 + 4 = 6.5.
    got = probabilities(VGS, blind=(1.0, 2.0, 1.0), image=(1.0, 1.0, 4.0), no_image=(2.0, 1.0, 1.0))
    assert got == pytest.approx([1 / 13, 4 / 13, 8 / 13])


def test_trust_region_by_hand_and_as_a_mix_of_logits():
    # initial (1, 1, 2), live (16, 1, 2) with a quarter of the way: 16 to the power 1/4 is 2, so (2, 1, 2).
    quarter = replace(TRUST_REGION, scale=0.25)
    got = probabilities(quarter, initial=(1.0, 1.0, 2.0), live=(16.0, 1.0, 2.0))
    assert got == pytest.approx([0.4, 0.2, 0.4])
    logits = draw(TRUST_REGION)
    mixed = (0.95 * logits["initial"] + 0.05 * logits["live"]).softmax(-1)
    torch.testing.assert_close(contrast(logits, TRUST_REGION).exp(), mixed)


@pytest.mark.parametrize(
    ("when", "share", "expected"),
    [
        # Roots of image (16, 4, 1) and black (1, 4, 1): (4, 2, 1), (1, 2, 1); 16/1, 4/2, 1/1. All three stay:
        # the last has a quarter of the first.
        ("before", 0.1, [16 / 19, 2 / 19, 1 / 19]),
        # With 0.3 of the softened 4 the limit is 1.2, so the last is out.
        ("before", 0.3, [16 / 18, 2 / 18, 0]),
        # 256/1, 16/4, 1/1 and their roots 16, 2, 1; but 1 is below a tenth of 16, so the last is out.
        ("after", 0.1, [16 / 18, 2 / 18, 0]),
        ("after", 0.05, [16 / 19, 2 / 19, 1 / 19]),
    ],
)
def test_temperature_before_and_after(when: str, share: float, expected: list[float]):
    spec = replace(VCSD, support_share=share, temperature=when)
    got = probabilities(spec, 2.0, image=(16.0, 4.0, 1.0), black=(1.0, 4.0, 1.0))
    assert got == pytest.approx(expected)


# ---- limits


@pytest.mark.parametrize("name", PUBLISHED)
def test_scale_zero_is_the_base(name: str):
    spec = replace(PUBLISHED[name], scale=0.0, support_of=None)
    logits = draw(spec)
    assert torch.equal(contrast(logits, spec, 1.3), (logits[spec.base] / 1.3).log_softmax(-1))


@pytest.mark.parametrize("temperature", ["before", "after"])
def test_without_a_difference_the_target_is_the_base(temperature: str):
    every: list[dict[str, Any]] = [{}, {"centre": True}, {"tanh": 2.0}, {"exempt": (0, 3)}, {"scale": 7.0}]
    for options in every:
        spec = Contrast("base", "same", "same", temperature=temperature, **options)
        logits = draw(spec)
        torch.testing.assert_close(contrast(logits, spec, 0.7), (logits["base"] / 0.7).log_softmax(-1))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_target_is_a_distribution_and_an_offset_of_logits_changes_nothing(name: str):
    spec = PUBLISHED[name]
    logits = draw(spec)
    before = {key: x.clone() for key, x in logits.items()}
    logq = contrast(logits, spec, 1.4)
    torch.testing.assert_close(logq.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    assert all(torch.equal(logits[key], x) for key, x in before.items()), "the contexts were changed"
    moved = {key: x + 10 * i - 5 for i, (key, x) in enumerate(logits.items())}
    torch.testing.assert_close(contrast(moved, spec, 1.4), logq)


@pytest.mark.parametrize(
    "options", [{"tanh": 0.5}, {"exempt": (2,)}, {"floor": -2.0}, {"floor": -2.0, "centre": True}]
)
def test_an_offset_of_logits_changes_nothing_whatever_the_options(options: dict):
    spec = Contrast("a", "b", "c", **options)
    logits = draw(spec)
    moved = {"a": logits["a"] - 4, "b": logits["b"] + 3, "c": logits["c"] + 8}
    torch.testing.assert_close(contrast(moved, spec), contrast(logits, spec))


def test_a_wide_soft_limit_does_nothing_and_a_narrow_one_gives_the_base():
    logits = draw(PURIFIED)
    free = contrast(logits, replace(PURIFIED, tanh=None))
    torch.testing.assert_close(contrast(logits, replace(PURIFIED, tanh=1e6)), free)
    base = logits["plain"].log_softmax(-1)
    torch.testing.assert_close(contrast(logits, replace(PURIFIED, tanh=1e-9)), base)
    assert (free - base).abs().max() > 1


def test_the_largest_entry_is_always_in_the_support():
    logits = draw(VCSD)
    logq = contrast(logits, replace(VCSD, support_share=1.0))
    assert logq.argmax(-1).tolist() == logits["image"].argmax(-1).tolist()
    assert (logq.isfinite().sum(-1) == 1).all()
    assert contrast(logits, replace(VCSD, support_share=1e-12)).isfinite().all()


def test_a_target_has_no_gradient_and_keeps_float32():
    logits = {name: x.float().requires_grad_() for name, x in draw(VCSD).items()}
    logq = contrast(logits, VCSD)
    assert not logq.requires_grad and logq.dtype == torch.float32


def test_contexts_are_named_once_and_the_support_may_be_another_context():
    assert VCSD.contexts == ("image", "black")
    assert PURIFIED.contexts == ("plain", "both", "alone")
    other = replace(VGS, support_of="judge")
    assert other.contexts == ("blind", "image", "no_image", "judge")
    contexts = dict.fromkeys(("blind", "image", "no_image"), (1.0, 1.0, 1.0))
    got = probabilities(other, **contexts, judge=(0.05, 1.0, 0.5))
    assert got == pytest.approx([0, 0.5, 0.5])


# ---- mistakes


@pytest.mark.parametrize(
    "options",
    [
        {"scale": math.nan},
        {"tanh": 0.0},
        {"floor": 0.0},
        {"support_share": 0.0},
        {"support_share": 1.1},
        {"exempt": (-1,)},
        {"temperature": "middle"},
    ],
)
def test_options_out_of_range_are_one_line(options: dict):
    with pytest.raises(ConfigError, match=rf"^targets: {next(iter(options))} .*must") as caught:
        Contrast("a", "b", "c", **options)
    assert "\n" not in str(caught.value)


INFINITE = {
    "reverse_kl": DivergenceSpec("reverse_kl"),
    "reverse_kl on k entries": DivergenceSpec("reverse_kl", top_k=2),
    "jsd with beta=1": DivergenceSpec("jsd", beta=1.0),
    "sampled": DivergenceSpec("sampled", clip="both", clip_value=10.0),
    "top_k_of=student": DivergenceSpec("forward_kl", top_k=2, top_k_of="student", tail="renormalise"),
}


@pytest.mark.parametrize("name", INFINITE)
def test_a_support_is_refused_where_zeros_are_infinite(name: str):
    with pytest.raises(ConfigError, match=name.split(" on ")[0]) as caught:
        check(VCSD, INFINITE[name])
    assert "\n" not in str(caught.value)
    check(replace(VCSD, support_of=None), INFINITE[name])


def test_a_support_is_accepted_elsewhere():
    for spec in (
        DivergenceSpec("forward_kl", top_k=2, tail="renormalise"),
        DivergenceSpec("jsd", beta=0.0),
        DivergenceSpec("jsd", top_k=2, top_k_of="student"),
        DivergenceSpec("skew_kl"),
    ):
        check(VCSD, spec)


def test_example_of_the_module():
    result = doctest.testmod(targets)
    assert result.failed == 0 and result.attempted > 0
