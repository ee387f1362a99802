"""Check that a server samples under the weights that it should.

A server may load an adapter whose names match none of its layers without an error, and then sample from the
base. So the server is asked for the log-probabilities of a prompt's tokens, under the base and under the
adapter, and both are compared with those that the student computes here:

    far from ours under the base                    another model, or other image processing
    the same under both, although the adapter       the adapter has no effect on the server
    is not zero
    the adapter changes them by less than half      the server applies only a part of the adapter; checked
    of what it changes here                         once the change here is larger than the difference under
                                                    the base, which comes from another precision
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vigos_cli.method.fused_loss import token_log_probs
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError

WINDOW = 64  # tokens at the end of the prompt
FAR = 0.5  # nats per token; another precision of the same model differs by a few hundredths


def check_weights(
    student: Student, prompt: Prompt, base: Sequence[float], live: Sequence[float], *, zero: bool
) -> None:
    """Raise UserError if the server's log-probabilities are not those of the student.

    `base` and `live` hold them for every prompt token except the first, without and with the adapter. If the
    adapter is `zero` (not trained yet), only `base` is compared.
    """
    keep = [i for i, token in enumerate(prompt.ids[1:]) if token not in student.banned_ids][-WINDOW:]
    base_N, live_N = (torch.tensor([values[i] for i in keep]) for values in (base, live))
    ours_N = student_logprobs(student, prompt, "initial", keep)
    noise = float((base_N - ours_N).abs().mean())
    if not noise <= FAR:
        raise UserError(
            f"rollout: the server's log-probabilities differ from those of model.path by {noise:.2f} nats "
            "per token: does it serve the same weights?"
        )
    if zero:
        return
    if torch.equal(base_N, live_N):
        raise UserError(
            "rollout: the server loaded the adapter, but its log-probabilities are the same as without it "
            "(vLLM ignores an adapter whose names match none of its layers)"
        )
    change_N = student_logprobs(student, prompt, "live", keep) - ours_N
    if float(change_N.abs().mean()) > 2 * noise:
        share = float((live_N - base_N) @ change_N / (change_N @ change_N))
        if not share >= 0.5:
            raise UserError(
                f"rollout: the adapter has {share:.0%} of its effect on the server: a part of it is missing"
            )


@torch.no_grad()
def student_logprobs(student: Student, prompt: Prompt, weights: str, keep: Sequence[int]) -> torch.Tensor:
    """The student's log-probabilities of the tokens that follow the positions `keep`, on the CPU."""
    with student.weights(weights):
        hidden_NH = student.hidden(student.batch([prompt.ids], [prompt]))[0, list(keep)]
    following_N = torch.tensor([prompt.ids[i + 1] for i in keep])
    return token_log_probs(hidden_NH, student.head_VH, following_N)[0].cpu()
