"""Estimate the memory of a vLLM server beside the trainer on one card (`rollout.serve=true`).

    server = context and graphs + weights + adapters + cache + work + check              bytes

    weights   16 bits per weight; with `--quantization bitsandbytes` 0.516 bytes per linear weight of the
              language model
    adapters  buffers for two adapters: the new one is loaded before the old one is unloaded
    cache     keys and values of rollout.concurrency rows of prompt and new tokens, and of the longest prompt
    work      one layer on the tokens of one batch, their pictures, and four rows of logits per row
    check     three float32 logits of each token of a prompt, for its log-probabilities

    share for vLLM = (room - trainer - check - a twentieth of the card) / card           at most 0.9

The trainer's part has no rollout and no evaluation, because both are sampled on the server. vLLM takes its
share at its start and uses what is left of it for keys and values. The memory of the check is not in its
share, because vLLM does not count it. Nothing here has been compared with a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vigos_cli.config.schema import DistillRun, EvalRun, RunConfig
from vigos_cli.models.memory_plan import (
    CONTEXT,
    TEXT_TOKENS,
    Shape,
    estimate_memory,
    picture_bytes,
    weight_bytes,
    weight_size,
)
from vigos_cli.models.peak_memory import GIB
from vigos_cli.utils.errors import UserError

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for
ADAPTERS = 2  # on the server at the same time
GRAPHS = 0.7  # GiB of captured CUDA graphs; assumed, not measured
MARGIN = 0.05  # share of the card that stays free
LARGEST_SHARE = 0.9  # vLLM's own default is a little more
SCORED_AT_ONCE = 8  # rows that `vigos rollout` scores at once


@dataclass(frozen=True, slots=True)
class ServerEstimate:
    """The estimated memory of each part of the server, in bytes."""

    context: float
    weights: float
    adapters: float
    cache: float
    work: float
    check: float

    @property
    def share(self) -> float:
        """What vLLM must be given: everything but the check, which vLLM does not count."""
        return self.context + self.weights + self.adapters + self.cache + self.work

    @property
    def peak(self) -> float:
        """The highest use at one time."""
        return self.share + self.check


def served_rank(rank: int) -> int:
    """The smallest rank of vLLM's that holds an adapter of this rank."""
    if rank > RANKS[-1]:
        raise UserError(f"adapter.r={rank}: vLLM serves adapters up to rank {RANKS[-1]}: use rollout=hf")
    return next(known for known in RANKS if known >= rank)


def new_tokens(config: RunConfig) -> int:
    """The most tokens that any request of the run samples."""
    bench = config.bench.max_new_tokens if isinstance(config, DistillRun | EvalRun) else 0
    return bench if isinstance(config, EvalRun) else max(bench, config.rollout.max_new_tokens)


def longest_row(config: RunConfig, limit: float) -> int:
    """The tokens of the longest prompt that the run does not leave out, with its answer; at most `limit`."""
    return int(min(config.model.max_prompt + new_tokens(config), limit))


def in_four_bits(flags: Sequence[str]) -> bool:
    """Whether the flags of the server quantise its weights with bitsandbytes."""
    return "bitsandbytes" in " ".join(flags).replace("=", " ").split()


def estimate_server(config: RunConfig, shape: Shape, room: float, *, processes: int = 1) -> ServerEstimate:
    """Apply the formula at the head of this file to a card with `room` bytes."""
    size = weight_size(config.model)
    prompt, rows = TEXT_TOKENS + shape.picture.tokens, config.rollout.concurrency * processes
    tokens = max(rows * (prompt + new_tokens(config)), longest_row(config, shape.positions))
    batch = 8192 if room >= 70 * GIB else 2048  # vLLM's defaults of --max-num-batched-tokens
    layer = size * (6 * shape.hidden + 2 * shape.attention + 3 * shape.mlp)
    pictures = max(1, batch // shape.picture.tokens)  # vLLM fills a batch with them at its start
    return ServerEstimate(
        context=(CONTEXT + GRAPHS) * GIB,
        weights=weight_bytes(shape, size, quantised=in_four_bits(config.rollout.serve_flags)),
        adapters=ADAPTERS * shape.adapter_weights * served_rank(config.adapter.r) / config.adapter.r * size,
        cache=tokens * shape.keys_and_values * size,
        work=batch * layer + pictures * picture_bytes(shape, size) + 16 * rows * shape.vocabulary,
        check=12 * min(prompt, batch) * shape.vocabulary,
    )


def trainer_beside_server(config: RunConfig, shape: Shape) -> float:
    """The peak of the vigos process in bytes if it samples nothing itself."""
    if isinstance(config, DistillRun):
        found = estimate_memory(config, shape)
        return found.context + found.weights + found.optimizer + 1.1 * found.learn
    size = weight_size(config.model)
    weights = weight_bytes(shape, size, quantised=config.adapter.quantise == "nf4")
    length = TEXT_TOKENS + shape.picture.tokens + new_tokens(config)
    rows = 1 if isinstance(config, EvalRun) else SCORED_AT_ONCE
    layer = size * (6 * shape.hidden + 2 * shape.attention + 3 * shape.mlp)
    scoring = rows * (length * layer + picture_bytes(shape, size))
    return CONTEXT * GIB + weights + 4 * shape.adapter_weights + 1.1 * scoring


def fits_beside(config: RunConfig, shape: Shape, room: float) -> bool:
    """Whether trainer and server fit a card with `room` bytes."""
    server = estimate_server(config, shape, room)
    return trainer_beside_server(config, shape) + server.peak <= (1 - MARGIN) * room


def share_for_server(
    config: RunConfig, shape: Shape, *, total: float, room: float, processes: int = 1
) -> float:
    """The value of `--gpu-memory-utilization` on a card of `total` bytes.

    `room` is what this run may use of it: `total`, less what other programs use. Raises a UserError if
    trainer and server do not fit.
    """
    server = estimate_server(config, shape, total, processes=processes)
    trainer = trainer_beside_server(config, shape)
    left = room - trainer - server.check - MARGIN * total
    if left < server.share:
        raise UserError(
            f"rollout.serve=true: estimated, the trainer needs {trainer / GIB:.1f} GiB and the server "
            f"{server.peak / GIB:.1f} GiB, but {(room - MARGIN * total) / GIB:.1f} GiB can be used: {SMALLER}"
        )
    return min(LARGEST_SHARE, int(100 * left / total) / 100)


SMALLER = (
    "use a smaller rollout.concurrency, trainer.micro_batch or trainer.micro_tokens, adapter=qlora, a lower "
    "model.max_prompt, a smaller model or a larger card; plan=true shows every part"
)
