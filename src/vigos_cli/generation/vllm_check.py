"""Does a server answer under the weights that we think it does?

Servers load an adapter whose names fit no layer without a word, and then answer as the base. So the
log-probabilities of a prompt's tokens are asked for, under the base and under the adapter, and held against
those of the student here:

    far from ours under the base               another model, or other pictures
    the same under both, the adapter not zero  the adapter was left out
    less than half of the way that ours go     a part of it was left out (told once ours go further than the
                                               base's own distance, which another precision brings about)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vigos_cli.method.fused_loss import project
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError

WINDOW = 64  # tokens at the end of the prompt
FAR = 0.5  # nats a token; between precisions of one model it is a few hundredths


def hold(
    student: Student, prompt: Prompt, base: Sequence[float], live: Sequence[float], *, zero: bool
) -> None:
    """Raises UserError where the server's log-probabilities are not the student's.

    `base` and `live` are of every prompt token but the first, without and with the adapter, which may be
    `zero`: then both are the base's.
    """
    keep = [i for i, token in enumerate(prompt.ids[1:]) if token not in student.banned_ids][-WINDOW:]
    base_N, live_N = (torch.tensor([values[i] for i in keep]) for values in (base, live))
    ours_N = logprobs(student, prompt, "base", keep)
    noise = float((base_N - ours_N).abs().mean())
    if not noise <= FAR:
        raise UserError(
            f"rollout: the server's log-probabilities are {noise:.2f} nats a token away from those of "
            "model.path here: does it serve the same weights?"
        )
    if zero:
        return
    if torch.equal(base_N, live_N):
        raise UserError(
            "rollout: the server says the same with the adapter as without: it loaded it and left it out "
            "(vLLM does so where the adapter's names fit none of its layers)"
        )
    way_N = logprobs(student, prompt, "live", keep) - ours_N
    if float(way_N.abs().mean()) > 2 * noise:
        share = float((live_N - base_N) @ way_N / (way_N @ way_N))
        if not share >= 0.5:
            raise UserError(
                f"rollout: the adapter has {share:.0%} of its effect on the server: a part of it was left out"
            )


@torch.no_grad()
def logprobs(student: Student, prompt: Prompt, weights: str, keep: Sequence[int]) -> torch.Tensor:
    """The student's own, of the tokens that follow the positions `keep`, on the CPU."""
    with student.weights(weights):
        hidden_NH = student.hidden(student.batch([prompt.ids], [prompt]))[0, list(keep)]
        logits_NV = project(hidden_NH, student.head_VH)
    following_N1 = torch.tensor([[prompt.ids[i + 1]] for i in keep], device=logits_NV.device)
    return logits_NV.log_softmax(-1).gather(1, following_N1)[:, 0].cpu()
