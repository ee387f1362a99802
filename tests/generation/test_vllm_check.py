"""The check of a vLLM server's weights, and the slots of images in a prompt; no server is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_student
from loopback import priorworld_requests, save_adapter

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.generation import vllm_check, vllm_protocol
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A student with an adapter, a prompt, and the log-probabilities of base and adapter, (N,) each."""
    folder = save_adapter(tmp_path_factory.mktemp("adapter"))
    student = make_student(f"adapter.path={folder}")
    (request,) = priorworld_requests(student, 1)
    everywhere = range(len(request.prompt.ids) - 1)
    base_N, live_N = (
        vllm_check.student_logprobs(student, request.prompt, weights, everywhere)
        for weights in ("initial", "live")
    )
    return student, request.prompt, base_N, live_N


def check(checked, base_N: torch.Tensor, live_N: torch.Tensor, *, zero: bool = False) -> None:
    student, prompt, *_ = checked
    vllm_check.check_weights(student, prompt, base_N.tolist(), live_N.tolist(), zero=zero)


def rounding(like_N: torch.Tensor, mean: float, seed: int) -> torch.Tensor:
    """Differences with this mean size."""
    noise_N = torch.randn(len(like_N), generator=torch.Generator().manual_seed(seed))
    return noise_N * mean / noise_N.abs().mean()


def scaled(checked, factor: float) -> torch.Tensor:
    """Make the adapter's effect about `factor` of what it is; return the new values with it."""
    student, prompt, base_N, _ = checked
    for name, p in student.adapter.items():
        if "lora_B" in name:
            p.data.mul_(factor)
    return vllm_check.student_logprobs(student, prompt, "live", range(len(base_N)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-6, 0.01, 0.05])
def test_the_check_tolerates_rounding_but_no_part_of_an_adapter(checked, size):
    _, _, base_N, live_N = checked
    base, live = base_N + rounding(base_N, size, 1), live_N + rounding(base_N, 1.8 * size, 2)
    check(checked, base, live)
    check(checked, base, base, zero=True)
    for share in (0.0, 0.3, 0.5, 0.8):
        with pytest.raises(UserError, match=r"of its effect|the same as without"):
            check(checked, base, live - (1 - share) * (live_N - base_N))


@pytest.mark.slow
def test_an_adapter_in_bfloat16_on_an_exact_base_is_no_fault(checked):
    _, _, base_N, live_N = checked
    check(checked, base_N, live_N + rounding(base_N, float((live_N - base_N).abs().mean()) / 256, 1))


@pytest.mark.slow
def test_float32_rounding_of_a_deep_model_is_no_fault(checked):
    _, _, base_N, live_N = checked
    factor = 2.5 * vllm_check.SMALL / float((live_N - base_N).abs().mean())
    try:
        weak_N = scaled(checked, factor)
        effect = float((weak_N - base_N).abs().mean())
        assert vllm_check.SMALL < effect < 4 * vllm_check.SMALL
        check(checked, base_N + rounding(base_N, 1e-6, 1), weak_N + rounding(base_N, 8e-5, 2))
        with pytest.raises(UserError, match="of its effect"):
            check(checked, base_N + rounding(base_N, 1e-6, 1), base_N + 0.5 * (weak_N - base_N))
    finally:
        scaled(checked, 1 / factor)


def test_an_effect_that_rounding_may_hide_is_not_checked(checked):
    _, _, base_N, live_N = checked
    whole = float((live_N - base_N).abs().mean())
    noise_N = rounding(base_N, 0.02, 1)
    try:
        weak_N = scaled(checked, 1e-4)
        assert 0 < float((weak_N - base_N).abs().mean()) < vllm_check.SMALL
        check(checked, base_N + noise_N, base_N + noise_N)
    finally:
        scaled(checked, 1e4)
    assert whole > 100 * vllm_check.SMALL
    with pytest.raises(UserError, match="the same as without it"):
        check(checked, base_N + noise_N, base_N + noise_N)


def test_another_model_is_noticed_by_its_distance(checked):
    student, _, base_N, live_N = checked
    for size in (0.22, 1.0):
        with pytest.raises(UserError, match=r"by \d\.\d\d nats .* A merged model is not the base") as caught:
            check(checked, base_N + rounding(base_N, size, 1), live_N)
        assert "vllm serve --dtype" in str(caught.value)
    with pytest.raises(UserError, match="same weights"):
        check(checked, base_N * float("nan"), live_N)
    quantised = replace(student, quantised_modules=14)  # 4-bit weights here differ more from the server's
    check((quantised, *checked[1:]), base_N + rounding(base_N, 0.6, 1), live_N, zero=True)
    with pytest.raises(UserError, match=r"at most 1\.0"):
        check((quantised, *checked[1:]), base_N + rounding(base_N, 1.5, 1), live_N)


@pytest.mark.parametrize(
    ("ours", "theirs", "places"),
    [
        ([1, 5, 5, 2, 9], [1, 5, 5, 2, 7, 8], [(1, 2)]),
        ([0, 0, 1, 5, 5, 2, 5, 2], [1, 5, 5, 2, 5, 2], [(3, 2), (6, 1)]),
        ([1, 5, 5, 5, 2], [1, 5, 5, 2], None),  # one slot more than the server's
        ([1, 5, 2], [1, 5, 5, 2], None),
        ([1, 5, 5, 2, 5], [1, 5, 5, 2], None),  # a slot without a picture
    ],
)
def test_image_slots_are_found_at_their_positions_in_our_ids(ours, theirs, places):
    runs, start = [], None
    for i, token in enumerate([*theirs, 0]):
        if token == 5 and start is None:
            start = i
        elif token != 5 and start is not None:
            runs.append({"offset": start, "length": i - start, "is_embed": None})
            start = None
    if places is None:
        with pytest.raises(UserError, match="other slots"):
            vllm_protocol._places(runs, theirs, ours, frozenset({5, 3}))
    else:
        found = vllm_protocol._places(runs, theirs, ours, frozenset({5, 3}))
        assert [(place["offset"], place["length"]) for place in found] == places
        assert all("is_embed" in place for place in found)


@pytest.mark.parametrize(
    ("ids", "images", "collapsed"),
    [
        ([1, 3, 5, 5, 5, 4, 2], 1, [1, 3, 5, 4, 2]),
        ([3, 5, 5, 4, 3, 5, 4, 1], 2, [3, 5, 4, 3, 5, 4, 1]),
        ([3, 5, 4], 1, [3, 5, 4]),
        ([1, 1, 5, 5], 1, [1, 1, 5]),  # a repeated token that is no slot stays
        ([1, 5, 5, 5, 2], 2, None),  # two pictures without a token between them
        ([5, 1, 5], 1, None),  # one picture in two parts
        ([1, 2], 1, None),
    ],
)
def test_the_slots_of_each_picture_become_one(ids, images, collapsed):
    prompt = Prompt(STUDENT, tuple(ids), (), images=(None,) * images)  # type: ignore[arg-type]
    assert vllm_protocol.one_slot_each(prompt, frozenset({3, 5})) == collapsed
