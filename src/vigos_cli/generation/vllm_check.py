"""Check that a server samples under the weights that it should.

A server may load an adapter whose names match none of its layers without an error, and then sample from the
base. So the server is asked for the log-probabilities of a prompt's tokens, under the base and under the
adapter, and both are compared with those that the student computes here. All figures are means over tokens
of absolute differences, in nats; the *noise* is the server's base against ours, the *effect* is the
adapter's here. An error is

    noise above `FAR`                             another model, or other image processing
    the same values with and without the          the adapter has no effect on the server
    adapter
    live values further from ours than `RATIO`    the server applies only a part of the adapter
    times the noise, or less than half of the
    effect although it is twice the noise

An effect below `SMALL` is not checked: as in the first steps of a warm-up, rounding may hide it wholly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from vigos_cli.method.fused_loss import token_log_probs
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError

Logprobs = Mapping[str, torch.Tensor]  # "initial", "live" -> log-probabilities of the checked tokens
WINDOW = 64  # tokens at the end of the prompt
# On the CPU bfloat16 is 0.02 to 0.04 from float32, for the tiny model and for SmolLM2 135M; two programs that
# both round differ by up to 0.05. A merged model that passed for its base was 0.22 away. Never measured on a
# GPU. 4-bit weights here are 0.25 to 0.57 from the same model in full precision on the server.
FAR, FAR_QUANTISED = 0.1, 1.0
SMALL = 1e-3  # an adapter of 3e-5 nats gave the same bfloat16 values with and without it
RATIO = 4.0  # a real server: at most 2.4 with a whole adapter (at an effect of 3 nats), 5.4 with half of one
# With float32 on both sides the noise is about 1e-6, and four times that is no fault: the adapter's own
# products are rounded too, in float32 (1e-5 in a deep model) or in the server's --lora-dtype (1/256 of the
# effect in bfloat16). Half of an adapter is missed by neither: it leaves half of an effect above SMALL.
LEAST, LEAST_SHARE = 1e-4, 0.02


def check_weights(
    student: Student,
    prompt: Prompt,
    base: Sequence[float],
    live: Sequence[float],
    *,
    zero: bool,
    ours: Logprobs | None = None,
) -> None:
    """Raise UserError if the server's log-probabilities are not those of the student.

    `base` and `live` hold them for every prompt token except the first, without and with the adapter. If the
    adapter is `zero` (not trained yet), only `base` is compared. `ours` are the student's, if already known.
    """
    keep = _checked(student, prompt)
    base_N, live_N = (torch.tensor([values[i] for i in keep]) for values in (base, live))
    ours = ours or own_logprobs(student, prompt, zero=zero)
    ours_N = ours["initial"]
    noise = float((base_N - ours_N).abs().mean())
    far = FAR_QUANTISED if student.quantised_modules else FAR
    if not noise <= far:
        raise UserError(
            f"rollout: the server's log-probabilities differ from those of model.path by {noise:.2f} nats "
            f"per token (at most {far} is expected): does it serve the same weights? A merged model is not "
            "the base. If they are the same, give both the same precision (model.dtype, vllm serve --dtype), "
            "or sample with rollout=hf"
        )
    if zero:
        return
    ours_live_N = ours["live"]
    change_N = ours_live_N - ours_N
    effect = float(change_N.abs().mean())
    if effect < SMALL:
        return
    if torch.equal(base_N, live_N):
        raise UserError(
            "rollout: the server loaded the adapter, but its log-probabilities are the same as without it "
            "(vLLM ignores an adapter whose names match none of its layers)"
        )
    share = float((live_N - base_N) @ change_N / (change_N @ change_N))
    error = float((live_N - ours_live_N).abs().mean())
    limit = max(RATIO * noise, LEAST, LEAST_SHARE * effect)
    if not error <= limit or (effect > 2 * noise and not share >= 0.5):
        raise UserError(
            f"rollout: the adapter has about {share:.0%} of its effect on the server: with it the server's "
            f"log-probabilities differ from ours by {error:.2g} nats per token, without it by {noise:.2g} "
            f"(at most {RATIO:g} times that is expected): a part of the adapter is missing"
        )


def own_logprobs(student: Student, prompt: Prompt | None, *, zero: bool) -> Logprobs:
    """The student's log-probabilities of the checked tokens, without and (unless it is `zero`) with adapter.

    If the model is split among processes, all must call this; those without a prompt make idle passes.
    """
    found = {}
    for weights in ("initial",) if zero else ("initial", "live"):
        if prompt is not None:
            found[weights] = student_logprobs(student, prompt, weights, _checked(student, prompt))
        else:
            with torch.no_grad(), student.weights(weights):
                student.idle_pass()
    return found


def _checked(student: Student, prompt: Prompt) -> list[int]:
    """The positions before the last `WINDOW` tokens of the prompt that are not placeholders of images."""
    return [i for i, token in enumerate(prompt.ids[1:]) if token not in student.banned_ids][-WINDOW:]


@torch.no_grad()
def student_logprobs(student: Student, prompt: Prompt, weights: str, keep: Sequence[int]) -> torch.Tensor:
    """The student's log-probabilities of the tokens that follow the positions `keep`, on the CPU."""
    with student.weights(weights):
        hidden_NH = student.hidden(student.batch([prompt.ids], [prompt]))[0, list(keep)]
    following_N = torch.tensor([prompt.ids[i + 1] for i in keep])
    return token_log_probs(hidden_NH, student.head_VH, following_N)[0].cpu()
