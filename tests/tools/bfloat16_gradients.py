"""Print how far bfloat16 differs from float32: loss and gradient of a step, and log-probabilities of tokens.

    python tests/tools/bfloat16_gradients.py [SEEDS]

Its output is in the section "bfloat16" of docs/method.md: steps of the tiny model with its own rollouts and
every routing that trains, steps of the small random models of `twins.py`, and the log-probabilities of the
sampler and of batches of another shape.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import distill_config
from twins import FAMILIES, save_twin
from two_dtypes import (
    DTYPES,
    ROUTINGS,
    Difference,
    a_batch,
    both_dtypes,
    compare,
    one_step,
    own_turns,
    written_turns,
)

from vigos_cli.analysis.token_scores import score_tokens
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.generation import sampler
from vigos_cli.method.fused_loss import token_log_probs
from vigos_cli.models.student import Student
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.hidden_states import hidden_states
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.supervision.teacher_weights import TeacherWeights


def of_routings(seeds: range) -> Iterator[tuple[str, list[Difference]]]:
    """The tiny model's steps of each routing, one for each seed."""
    found: dict[str, list[Difference]] = {routing: [] for routing in ROUTINGS}
    for seed in seeds:
        students, turns = both_dtypes(f"seed={seed}", seed=seed), {}
        for routing in ROUTINGS:
            words = (f"seed={seed}", f"routing={routing}")
            prompt = distill_config(*words).routing.student.format
            if prompt not in turns:
                turns[prompt] = own_turns(students["float32"], *words)
            found[routing].append(compare(*(one_step(s, turns[prompt], *words) for s in students.values())))
    yield from ((f"`{routing}`", values) for routing, values in found.items())


def of_families(seeds: range) -> Iterator[tuple[str, list[Difference]]]:
    """Steps of `routing=vigos` with a small random model of each family."""
    for family in FAMILIES:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            words = (f"model.path={save_twin(family, Path(folder))}",)
            for seed in seeds:
                pair = both_dtypes(*words, f"seed={seed}", seed=seed)
                turns = written_turns(pair["float32"], *words)
                found.append(compare(*(one_step(s, turns, *words, f"seed={seed}") for s in pair.values())))
        yield family, found


def row_of(name: str, found: list[Difference]) -> list[str]:
    """One line of a table of steps."""
    mean = sum(d.gradient for d in found) / len(found)
    largest = max(d.gradient for d in found)
    loss, cosine = max(d.loss for d in found), min(d.cosine for d in found)
    values = [d.exact for d in found]
    span = f"{min(values):.1g} to {max(values):.2g}"
    return [name, span, f"{mean:.3f}", f"{largest:.3f}", f"{cosine:.4f}", f"{loss:.1e}"]


def of_tokens(model: str, seeds: range, *words: str) -> Iterator[list[str]]:
    """Differences at the same tokens, in nats, between two computations that ought to be equal."""
    found: dict[tuple[str, str], list[Tensor]] = {}
    for seed in seeds:
        for name, student in both_dtypes(*words, f"seed={seed}", size=0.0).items():
            rows, sampled_N = sampled_rows(student, *words, f"seed={seed}")
            config = distill_config(*words, f"seed={seed}")
            weights = TeacherWeights.at_start(config.routing)
            scores = score_tokens(student, rows, weights, config)
            scored_N = torch.tensor([score.student for row in scores for score in row])
            gap_N = (scored_N - sampled_N).abs()
            found.setdefault((name, "log p of the sampler and of the loss"), []).append(gap_N)
            kl_N = shape_divergence(student, rows)
            found.setdefault((name, "KL of a row alone and in a batch of 6"), []).append(kl_N)
    for (name, what), parts in sorted(found.items(), key=lambda item: item[0][1]):
        yield [model, what, name, *figures(torch.cat(parts))]


@torch.no_grad()
def shape_divergence(student: Student, rows: list[Supervised]) -> Tensor:
    """KL between the distributions of each token if its row is read alone and if it is read in a batch."""
    batch_BTH, found = hidden_states(student, STUDENT, rows), []
    for b, row in enumerate(rows):
        places = slice(len(row.rollout.prompt.ids) - 1, len(row.contexts[STUDENT].ids) - 1)
        alone_NH = hidden_states(student, STUDENT, [row])[0, places]
        ids_N = torch.tensor(row.rollout.ids)
        found.append(token_log_probs(alone_NH, student.head_VH, ids_N, batch_BTH[b, places])[1])
    return torch.cat(found)


@torch.no_grad()
def sampled_rows(student: Student, *words: str) -> tuple[list[Supervised], Tensor]:
    """Rollouts of the first batch, and the log-probability with which the sampler saw each token."""
    prompter, batches, config = a_batch(student, *words)
    seen: list[Tensor] = []
    choose = sampler.KeyedChoice.__call__

    def noting(self: Any, input_ids: Tensor, scores: Tensor) -> Tensor:
        log_p_BV = scores.float().log_softmax(-1)
        chosen = choose(self, input_ids, scores)
        seen.append(log_p_BV.gather(1, chosen.argmax(-1)[:, None])[:, 0])
        return chosen

    with mock.patch.object(sampler.KeyedChoice, "__call__", noting):
        prepared = batches.at(0)[0]
        order = sorted(range(len(prepared)), key=lambda i: len(prepared[i].prompt.ids))
        rollouts = sample_rollouts(student, prepared, prompter, config, 0)
    log_p_TB = torch.stack(seen)
    of_row = {i: log_p_TB[: len(rollouts[i][1].ids), place] for place, i in enumerate(order)}
    return supervise_all(rollouts, prompter, config), torch.cat([of_row[i] for i in range(len(rollouts))])


def figures(values_N: Tensor) -> list[str]:
    """Number, mean and largest."""
    return [str(len(values_N)), f"{float(values_N.mean()):.1e}", f"{float(values_N.max()):.1e}"]


def main() -> None:
    """Print the tables."""
    seeds = range(1, int(sys.argv[1] if len(sys.argv) > 1 else 3) + 1)
    steps = ["loss in float32", "gradient, mean", "gradient, largest", "cosine, smallest", "loss, largest"]
    print(f"seeds {seeds.start} to {seeds.stop - 1}; {DTYPES[1]} against {DTYPES[0]}\n", flush=True)
    for kind, made in (("routing", of_routings(seeds)), ("family", of_families(seeds))):
        print(markdown_table([kind, *steps], [row_of(*found) for found in made]), "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        twin = f"model.path={save_twin('qwen2vl', Path(folder))}"
        rows = [*of_tokens("tiny", seeds), *of_tokens("random Qwen2-VL", seeds, twin)]
    print(markdown_table(["model", "difference", "dtype", "tokens", "mean, nats", "largest, nats"], rows))


if __name__ == "__main__":
    main()
