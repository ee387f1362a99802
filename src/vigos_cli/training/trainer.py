"""On-policy self-distillation: the loop, and one step of it, to be read from top to bottom.

    sample a batch -> roll out -> parse and route -> score teachers -> score student -> backward -> step

Normalisation is over the optimizer batch of all processes, so neither the micro-batch nor the number of
processes changes the gradient. Every draw depends on the step alone, so a resumed run repeats it exactly.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vigos_cli.config.schema import DistillRun, TrainerConfig
from vigos_cli.evaluation.rollout_grading import is_right
from vigos_cli.generation.engine import Engine
from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DivergenceSpec, TokenStats, term_counts, token_weights
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_loading import copy_saved_tensors
from vigos_cli.models.out_of_memory import in_phase
from vigos_cli.models.peak_memory import PhasePeaks, peak_gib
from vigos_cli.models.student import Student
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.supervise import sample_rollouts, supervise_all
from vigos_cli.supervision.teachers import Supervised, gather, kinds_of, read, score_teacher
from vigos_cli.training import checkpoint
from vigos_cli.types import Role, Sample
from vigos_cli.utils import group, rng
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import read_tensors

PATIENCE = 3  # steps in a row without a finite gradient before a run gives up


@dataclass
class Learner:
    """What changes while learning."""

    student: Student
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor] | None
    engine: Engine | None = None  # what samples; None: the student in process
    step: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # rules applied to samples, rollouts and steps
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # time by phase
    peaks: PhasePeaks | None = None  # memory by phase, where it is asked for

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to a phase; where memory runs out inside, the phase is named."""
        start = self._clock()
        try:
            with in_phase(phase), self.peaks.of(phase) if self.peaks else nullcontext():
                yield
        finally:
            self.seconds[phase] += self._clock() - start

    def _clock(self) -> float:
        """Seconds on a clock, read when the GPU has done all that it was given so far."""
        if self.student.device.type == "cuda":
            torch.cuda.synchronize(self.student.device)
        return time.perf_counter()


def make_learner(student: Student, config: DistillRun) -> Learner:
    """A learner at step 0."""
    parameters = list(student.adapter.values())
    options: dict[str, Any] = {"lr": config.trainer.lr, "weight_decay": config.trainer.weight_decay}
    if config.trainer.optimizer == "paged_adamw_8bit":
        from bitsandbytes.optim.adamw import PagedAdamW8bit

        optimizer: torch.optim.Optimizer = PagedAdamW8bit(parameters, **options)
    else:
        optimizer = torch.optim.AdamW(parameters, **options)
    if config.trainer.gradient_checkpointing:
        student.recompute_activations()
    ema = student.adapter_state() if config.teacher.weights == "ema" else None
    ema = {k: v.to(student.device) for k, v in ema.items()} if ema is not None else None
    return Learner(student, optimizer, ema)


# ---------------------------------------------------------------- one step


def learn(learner: Learner, batches: Batches, prompter: Prompter, config: DistillRun) -> dict[str, Any]:
    """Take one optimizer step and report on it."""
    student, step = learner.student, learner.step
    spent = defaultdict(float, learner.seconds)

    with learner.timed("rollout"):
        prepared, counts = batches.at(step)
        rollouts = sample_rollouts(student, prepared, prompter, config, step, learner.engine)
        rows = supervise_all(rollouts, prompter, config)

    terms = [row.terms for row in rows]
    totals = group.sum_counts(term_counts(terms, config.loss.reduction))
    weights = dict(zip(map(id, rows), token_weights(terms, config.loss, totals), strict=True))

    tally = Tally()
    learner.optimizer.zero_grad(set_to_none=True)
    student.net.train()  # dropout of the adapter; the base has none
    with rng.torch_seed(config.seed, "dropout", step, group.rank()):
        for micro in micro_batches(rows, config.trainer.micro_batch):
            roles = sorted({term.role for row in micro for term in row.terms})
            with learner.timed("teachers"):
                student.net.eval()
                teachers = {role: _teacher(learner, role, micro, config) for role in roles}
                student.net.train()
            with learner.timed("learn"):
                hidden_BTH = read(student, Role.STUDENT, micro)
                loss = hidden_BTH.new_zeros((), dtype=torch.float32)
                for role in roles:
                    weight_N = [
                        weights[id(row)][i] for row in micro for i, t in row.terms_of(role) for _ in t.tokens
                    ]
                    sampled_N = [
                        row.rollout.ids[i] for row in micro for _, t in row.terms_of(role) for i in t.tokens
                    ]
                    with learner.timed("loss"):  # a part of learn
                        part, stats = fused_loss(
                            gather(hidden_BTH, Role.STUDENT, micro, role),
                            teachers[role],
                            student.head_VH,
                            torch.tensor(sampled_N, device=student.device),
                            torch.tensor(weight_N, device=student.device),
                            DivergenceSpec.from_config(config.loss, role),
                            chunk=config.loss.chunk,
                        )
                    loss = loss + part
                    tally.add(role, float(part.detach()), stats, micro)
                loss.backward()
    student.net.eval()

    with learner.timed("learn"):
        parameters = list(student.adapter.values())
        group.sum_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.trainer.max_grad_norm))
        lr = learning_rate(config.trainer, step, total_steps(config, len(batches.data)))
        if not totals:
            counts["step_without_supervision"] += group.rank() == 0
        elif not isfinite(norm):  # NaN or infinite loss: this batch teaches nothing
            counts["step_not_finite"] += group.rank() == 0
        else:
            for settings in learner.optimizer.param_groups:
                settings["lr"] = lr
            learner.optimizer.step()
            _update_ema(learner, config.teacher.ema_decay)

    for row in rows:
        if not row.segments.valid:
            counts[f"invalid_{row.segments.reason}"] += 1
        counts["length_limit"] += not row.rollout.finished
    counts = group.sum_counts(counts)
    learner.counts.update(counts)
    learner.step += 1
    seconds = {phase: learner.seconds[phase] - spent[phase] for phase in learner.seconds}
    samples = {item.key: item.sample for item in prepared}
    return {
        "step": learner.step,
        "lr": lr,
        "grad_norm": norm if isfinite(norm) else None,
        **_describe(rows, samples),
        **tally.describe(),
        **{f"seconds/{phase}": round(value, 4) for phase, value in seconds.items()},
        **{f"tokens_per_second/{phase}": _rate(rows, value) for phase, value in seconds.items()},
        **{f"counts/{name}": value for name, value in counts.items() if value},
        "peak_gib": peak_gib(student.device),
    }


def _teacher(learner: Learner, role: Role, micro: Sequence[Supervised], config: DistillRun) -> Tensor | None:
    if role is Role.TARGET:
        return None
    return score_teacher(learner.student, role, micro, config.teacher.weights, learner.ema)


def _update_ema(learner: Learner, decay: float) -> None:
    if learner.ema is not None:
        for name, p in learner.student.adapter.items():
            learner.ema[name].lerp_(p.data, 1 - decay)


def micro_batches(rows: Sequence[Supervised], size: int) -> list[list[Supervised]]:
    """Rows that have a term, longest first (what does not fit fails at once), of similar length together."""
    taught = sorted((row for row in rows if row.terms), key=lambda row: -row.length)
    return [taught[i : i + size] for i in range(0, len(taught), size)]


def total_steps(config: DistillRun, size: int) -> int:
    """Steps of the run: as configured, or one pass over the data."""
    if config.trainer.steps is not None:
        return config.trainer.steps
    return max(1, size * config.rollout.n // config.trainer.batch)


def learning_rate(trainer: TrainerConfig, step: int, steps: int) -> float:
    """The rate of one step (0-based): linear warm-up, then linear or cosine to zero, or constant."""
    if step < trainer.warmup:
        return trainer.lr * (step + 1) / trainer.warmup
    done = (step - trainer.warmup) / max(1, steps - trainer.warmup)
    shape = {"linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2, "constant": 1.0}
    return trainer.lr * shape[trainer.schedule]


# ---------------------------------------------------------------- what a step reports


class Tally:
    """Sums over the tokens of a step, by teacher and by kind."""

    def __init__(self) -> None:
        self.loss: defaultdict[str, float] = defaultdict(float)
        self.tokens: Counter[str] = Counter()
        self.sums: defaultdict[str, float] = defaultdict(float)

    def add(self, role: Role, loss: float, stats: TokenStats, micro: Sequence[Supervised]) -> None:
        """One teacher's tokens of one micro-batch."""
        self.loss[role] += loss
        kinds = kinds_of(micro, role)
        divergence = stats.divergence_N.tolist()
        for kind, value in zip(kinds, divergence, strict=True):
            self.tokens[kind] += 1
            self.sums[kind] += value
        self.sums["clipped"] += float(stats.clipped_N.sum())
        self.sums["silent"] += float(stats.silent_N.sum())
        self.tokens["all"] += len(kinds)

    def describe(self) -> dict[str, float]:
        """Loss by term, divergence by segment, share of clipped tokens and of tokens without gradient."""
        loss = group.sum_counts(self.loss)
        sums, tokens = group.sum_counts(self.sums), group.sum_counts(self.tokens)
        supervised = tokens.pop("all", 0)
        lines = {f"loss/{role}": value for role, value in sorted(loss.items())}
        lines["loss"] = sum(loss.values())
        lines |= {f"divergence/{kind}": sums[kind] / n for kind, n in sorted(tokens.items())}
        if supervised:
            lines["clip_rate"] = sums["clipped"] / supervised
            lines["zero_gradient_rate"] = sums["silent"] / supervised
        lines["supervised_tokens"] = supervised
        return lines


def _describe(rows: Sequence[Supervised], samples: Mapping[str, Sample]) -> dict[str, float]:
    """Valid and fallback rates, accuracy and lengths of a step's rollouts."""
    sums = Counter(rollouts=0)
    for row in rows:
        sums["rollouts"] += 1
        sums["valid"] += row.segments.valid
        sums["fallback"] += bool(row.terms_of(Role.REFERENCE))
        sums["right"] += is_right(samples[row.rollout.sample_id], row.segments)
        sums["tokens"] += len(row.rollout.ids)
    sums = group.sum_counts(sums)
    n = sums["rollouts"]
    if n == 0:
        return {"rollouts": 0}
    return {
        "rollouts": n,
        "valid_rate": sums["valid"] / n,
        "fallback_rate": sums["fallback"] / n,
        "answer_accuracy": sums["right"] / n,
        "tokens_per_rollout": sums["tokens"] / n,
    }


def _rate(rows: Sequence[Supervised], seconds: float) -> float | None:
    return round(sum(len(row.rollout.ids) for row in rows) / seconds, 1) if seconds > 0 else None


# ---------------------------------------------------------------- the loop


def train(
    learner: Learner,
    batches: Batches,
    prompter: Prompter,
    config: DistillRun,
    *,
    log: Callable[[dict[str, Any]], object],
    evaluate: Callable[[], dict[str, Any]],
) -> None:
    """Learn until the last step, evaluating and leaving checkpoints on the way.

    Ctrl-C ends the run after the step at hand, with a checkpoint; a second one ends it at once. With several
    processes a signal to any of them counts for all.
    """
    steps, every = total_steps(config, len(batches.data)), config.trainer
    failures = 0
    with interruptible() as interrupted:
        while learner.step < steps:
            line = learn(learner, batches, prompter, config)
            failures = failures + 1 if line["grad_norm"] is None else 0
            if failures == PATIENCE:
                raise UserError(
                    f"no finite gradient for {PATIENCE} steps: lower trainer.lr, or try model.dtype=float32"
                )
            if every.eval_every and learner.step % every.eval_every == 0 and learner.step < steps:
                with learner.timed("evaluate"):
                    line["eval"] = evaluate()
            log(line)
            # All processes must leave at the same step: one that went on would wait for the others forever.
            stop = any(group.gather(interrupted()))
            if learner.step % every.checkpoint_every == 0 or learner.step == steps or stop:
                save(learner, Path(config.out))
            if stop:
                raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a request that the loop looks at between steps."""
    asked = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread (a launcher's worker): leave signals alone
        previous = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def save(learner: Learner, out: Path) -> None:
    """Leave a checkpoint of the last whole step."""
    if group.rank() == 0:
        with learner.timed("checkpoint"):
            checkpoint.save(
                out / "checkpoints",
                learner.step,
                adapter=learner.student.adapter_state(),
                optimizer=learner.optimizer,
                ema=learner.ema,
                state={"counts": learner.counts, "seconds": learner.seconds},
            )
    group.wait()


def resume(learner: Learner, out: Path) -> None:
    """Go on from the last checkpoint in `out`, where there is one."""
    places = checkpoint.steps(out / "checkpoints")
    if places:
        file = places[-1] / "adapter.safetensors"
        # The adapter comes first: an optimizer of other tensors fails with a message that says less.
        learner.student.load_adapter_state(read_tensors(file), file)
        _, ema, state = checkpoint.load(places[-1], learner.optimizer)
        if learner.ema is not None and ema is not None:
            copy_saved_tensors(learner.ema, ema, places[-1] / "ema.safetensors")
        learner.step = state["step"]
        learner.counts, learner.seconds = Counter(state["counts"]), defaultdict(float, state["seconds"])
