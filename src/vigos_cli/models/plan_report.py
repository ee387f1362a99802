"""`plan=true`: print the estimate of memory, and the smallest change after which the run fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.table import Table

from vigos_cli.config.schema import CARDS, WITHOUT_BFLOAT16, DistillRun
from vigos_cli.models.memory_plan import Shape, estimate_memory, row_tokens, shape_of
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.picture_size import PIXELS
from vigos_cli.models.server_memory import (
    estimate_server,
    fits_beside,
    share_for_server,
    trainer_beside_server,
)
from vigos_cli.utils.console import Terminal

SHORT_PROMPT = 4096  # tokens; the server must hold the keys and values of the longest prompt


def print_plan(config: DistillRun) -> bool:
    """Print the estimate and the memory of `card`; return whether it fits."""
    shape, room = shape_of(config), CARDS[config.card]
    table = Table()
    table.add_column("part")
    table.add_column("GiB", justify="right")
    parts = _beside_server(config, shape, room * GIB) if config.rollout.serve else _in_process(config, shape)
    for name, value in parts.items():
        table.add_row(name, f"{value / GIB:.1f}", end_section=name.endswith("peak"))
    fits = _fits(config, shape, room)
    print(f"{config.model.path} on {config.card} ({room} GiB), estimated")
    Terminal().print(table)
    for line in (shape.note, _about_pictures(config, shape), _about_dtype(config)):
        if line:
            print(line)
    if fits and config.rollout.serve:
        share = share_for_server(config, shape, total=room * GIB, room=room * GIB)
        print(f"fits; the server gets --gpu-memory-utilization {share:.2f}; its part was never measured")
    elif fits:
        in_process = config.rollout.name == "hf"  # trainer.dry_run is refused with other engines
        print("fits; measure it with trainer.dry_run=true" if in_process else "fits")
    else:
        print(f"does not fit: {suggestion(config, shape, room)}")
    return fits


def _in_process(config: DistillRun, shape: Shape) -> dict[str, float]:
    """The rows of the table if the run samples in its own process."""
    found = estimate_memory(config, shape)
    return {
        "context": found.context,
        "weights": found.weights,
        "adapter and optimizer": found.optimizer,
        f"learn, {_micro_batch(config)}": found.learn,
        f"rollout, {min(config.rollout.batch, config.trainer.batch)} rows at once": found.rollout,
        f"evaluation, {config.bench.batch} rows at once": found.evaluation,
        "peak": found.peak,
    }


def _beside_server(config: DistillRun, shape: Shape, room: float) -> dict[str, float]:
    """The rows of the table if a vLLM server on the same card samples."""
    trainer, server = estimate_memory(config, shape), estimate_server(config, shape, room)
    peak = trainer_beside_server(config, shape)
    return {
        "trainer: context": trainer.context,
        "trainer: weights": trainer.weights,
        "trainer: adapter and optimizer": trainer.optimizer,
        f"trainer: learn, {_micro_batch(config)}": trainer.learn,
        "trainer, peak": peak,
        "server: context and CUDA graphs": server.context,
        "server: weights": server.weights,
        "server: buffers of two adapters": server.adapters,
        f"server: keys and values, {config.rollout.concurrency} rows at once": server.cache,
        "server: work on one batch": server.work,
        "server: check of log-probabilities": server.check,
        "server, peak": server.peak,
        "both, peak": peak + server.peak,
    }


def _micro_batch(config: DistillRun) -> str:
    """The size of a micro-batch, as the table names it."""
    if config.trainer.micro_tokens is None:
        return f"micro-batch {config.trainer.micro_batch}"
    return f"micro-batch of {config.trainer.micro_tokens:,} tokens"


def _fits(config: DistillRun, shape: Shape, room: float) -> bool:
    """Whether the run fits a card with `room` GiB."""
    if config.rollout.serve:
        return fits_beside(config, shape, room * GIB)
    return estimate_memory(config, shape).peak / GIB <= 0.95 * room


def _about_pictures(config: DistillRun, shape: Shape) -> str:
    """One line that says which picture the estimate assumes."""
    area = config.model.max_pixels or PIXELS
    bound = "model.max_pixels" if config.model.max_pixels else "assumed, because model.max_pixels is null"
    size = shape.picture
    return f"one picture of {area:,} pixels ({bound}): {size.tokens:,} tokens from {size.patches:,} patches"


def _about_dtype(config: DistillRun) -> str:
    """One line if the card has no bfloat16."""
    if config.card not in WITHOUT_BFLOAT16:
        return ""
    found = {"auto": "model.dtype=auto uses float16 there", "bfloat16": "use model.dtype=auto"}
    about = found.get(config.model.dtype, "")
    return f"{config.card} does not compute in bfloat16: {about}" if about else ""


def suggestion(config: DistillRun, shape: Shape, room: float) -> str:
    """The smallest change after which the run fits, as overrides for the command line."""
    tried = [config]

    def change(group: str, **values: Any) -> None:
        tried.append(replace(tried[-1], **{group: replace(getattr(tried[-1], group), **values)}))

    names = []
    for group, values in _smaller(config, shape):
        change(group, **values)
        if tried[-1] == tried[-2]:
            continue
        named = "adapter=qlora" if group == "adapter" else None
        names = [n for n in names if not n.startswith(f"{group}.{next(iter(values))}=")]
        names += [named or f"{group}.{key}={str(value).lower()}" for key, value in values.items()]
        if _fits(tried[-1], shape, room):
            return "try " + " ".join(names)
    without = ", rollout=hf" if config.rollout.serve else ""
    return f"a smaller model, a lower model.max_pixels{without}, or a larger card"


def _smaller(config: DistillRun, shape: Shape) -> list[tuple[str, dict[str, Any]]]:
    """Changes that lower the memory of the run, in the order in which they are tried."""
    changes: list[tuple[str, dict[str, Any]]] = [("trainer", {"gradient_checkpointing": True})]
    if (tokens := config.trainer.micro_tokens) is None:
        changes.append(("trainer", {"micro_batch": 1}))
    else:
        row = row_tokens(config, shape)  # fewer tokens save nothing: a row is never split
        halves = [tokens >> n for n in range(1, tokens.bit_length()) if tokens >> n > row]
        changes += [("trainer", {"micro_tokens": n}) for n in [*halves, row] if n < tokens]

    def rows(group: str, key: str, *counts: int) -> None:
        changes.extend((group, {key: n}) for n in counts if n < getattr(getattr(config, group), key))

    if config.rollout.serve:
        rows("rollout", "concurrency", 16)
        rows("model", "max_prompt", SHORT_PROMPT)
        rows("rollout", "concurrency", 8, 4)
    else:
        for n in (16, 8, 4, 2, 1):
            rows("rollout", "batch", n)
            rows("bench", "batch", n)
    if config.trainer.shard == "none":
        changes.append(("adapter", {"quantise": "nf4"}))
    return [*changes, ("rollout", {"max_new_tokens": 512}), ("bench", {"max_new_tokens": 512})]
