"""`plan=true`: estimate memory from the model's config, before any weights are downloaded.

    peak = context + weights + optimizer + 1.1 max(learn, rollout, evaluation)           bytes, per process

    weights    0.516 per 4-bit weight (nf4 with double quantisation), size of the dtype per other weight;
               with trainer.shard=fsdp2 only this process's part of the layers, and two whole layers
    optimizer  per adapter weight: 4 for itself, 4 for its gradient, 8 for AdamW (2 for 8-bit AdamW)
    learn      micro_batch x S x (layers x H x dtype + saved) + 2 H I dtype + logits + images
               saved: what one recomputed layer keeps for its backward pass (every layer if
               trainer.gradient_checkpointing=false), with float32 copies of the adapters' inputs
               with trainer.micro_tokens this number, or S if it is larger, in place of micro_batch x S, and
               the images of as many prompts as fit into it
               logits: 4 V (contexts of a loss x loss.chunk + 8 x the tokens scored at once), see `loss_chunk`
    rollout    1.1 x batch x S x keys and values + batch x prompt x work of a layer + 16 batch V + images
    evaluation as rollout, with bench.batch rows and bench.max_new_tokens
    images     rows x patches x (float32 pixels + 8 x width x dtype): the vision tower runs without gradient

S is the prompt (TEXT_TOKENS and one square image of model.max_pixels, see `picture_size`) plus
rollout.max_new_tokens; H is the hidden width, I the width of the MLP, V the vocabulary. The estimate has not
been compared with a GPU; `trainer.dry_run=true` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft import get_peft_model

from vigos_cli.config.launched import world_size
from vigos_cli.config.schema import DistillRun, ModelConfig, RunConfig, TrainerConfig
from vigos_cli.config.supervision_terms import sources, supervision_rules
from vigos_cli.method.loss_chunk import chunk_rows, loss_bytes
from vigos_cli.models.adapter_layers import language_model, lora_config
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.picture_size import PictureSize, picture_size
from vigos_cli.models.planned_config import planned_config
from vigos_cli.models.pretrained import empty_model

TEXT_TOKENS = 256  # of a prompt: question, instruction and reference
CONTEXT = 0.8  # GiB of CUDA context and libraries; assumed, not measured


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that its memory depends on."""

    decoder_weights: int  # of linear layers in the language model, which can be 4-bit
    other_weights: int
    adapter_weights: int
    hidden: int
    layers: int
    mlp: int
    vocabulary: int
    attention: int  # sum of the widths of queries, keys and values
    keys_and_values: int  # values cached per token, in all layers together
    adapter_inputs: int  # sum of the input widths of a layer's adapted modules
    vision_width: int
    picture: PictureSize
    positions: int  # greatest number of tokens of prompt and answer
    note: str = ""  # for the user: where the configuration comes from, if it is a shipped one


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The estimated memory of each part, in bytes."""

    context: float
    weights: float
    optimizer: float
    learn: float
    rollout: float
    evaluation: float

    @property
    def peak(self) -> float:
        """The highest use at one time."""
        return (
            self.context
            + self.weights
            + self.optimizer
            + 1.1 * max(self.learn, self.rollout, self.evaluation)
        )


def shape_of(config: RunConfig) -> Shape:
    """Read the sizes from the model, built without weights."""
    settings, note = planned_config(config.model)
    base = empty_model(settings)
    with torch.device("meta"):
        decoder = f"{language_model(base)}."
        linear = sum(
            module.weight.numel()
            for name, module in base.named_modules()
            if isinstance(module, torch.nn.Linear) and name.startswith(decoder)
        )
        total = sum(p.numel() for p in base.parameters())
        net = get_peft_model(base, lora_config(base, config.adapter))
        downs = {n: p for n, p in net.named_parameters() if "lora_A" in n}
        adapter = sum(p.numel() for n, p in net.named_parameters() if "lora_" in n)
    text = settings.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    caching = [kind for kind in getattr(text, "layer_types", None) or () if kind != "linear_attention"]
    vision = settings.vision_config
    return Shape(
        decoder_weights=linear,
        other_weights=total - linear,
        adapter_weights=adapter,
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        mlp=text.intermediate_size,
        vocabulary=text.vocab_size,
        attention=width * (text.num_attention_heads + 2 * heads),
        keys_and_values=2 * heads * width * (len(caching) or text.num_hidden_layers),
        adapter_inputs=sum(p.shape[1] for p in downs.values()) // text.num_hidden_layers,
        vision_width=getattr(vision, "embed_dim", None) or vision.hidden_size,
        picture=picture_size(settings, config.model.max_pixels),
        positions=text.max_position_embeddings,
        note=note,
    )


def row_tokens(config: DistillRun, shape: Shape) -> int:
    """The tokens of the longest row that is assumed: its prompt and all the tokens that it may sample."""
    return TEXT_TOKENS + shape.picture.tokens + config.rollout.max_new_tokens


def weight_size(config: ModelConfig) -> int:
    """The bytes of a weight that is not quantised."""
    on_cpu = config.device == "cpu"
    return 4 if config.dtype == "float32" or (config.dtype == "auto" and on_cpu) else 2


def weight_bytes(shape: Shape, size: int, *, quantised: bool) -> float:
    """The bytes of all weights of the base, each of `size` bytes or, if `quantised`, in 4 bits."""
    return shape.decoder_weights * (0.516 if quantised else size) + shape.other_weights * size


def picture_bytes(shape: Shape, size: int) -> float:
    """The bytes that one picture needs in the vision tower."""
    return shape.picture.patches * (4 * shape.picture.values + 8 * shape.vision_width * size)


def _micro_batch(trainer: TrainerConfig, prompt: int, length: int) -> tuple[int, int]:
    """The most tokens of a micro-batch and the most pictures, if a row has at most `length` tokens.

    The rows of a budget of tokens may be short, so that they have more pictures than rows of full length.
    """
    if trainer.micro_tokens is None:
        return trainer.micro_batch * length, trainer.micro_batch
    budget = min(max(trainer.micro_tokens, length), trainer.batch * length)
    return budget, min(trainer.batch, max(1, trainer.micro_tokens // prompt))


def _logits(config: DistillRun, shape: Shape, *, half: bool) -> int:
    """The bytes of the logits of the student and the teachers in the largest loss of the routing."""
    routing = config.routing
    sides = 1 + max((len(sources(routing, rule.by)) for rule in supervision_rules(routing)), default=0)
    device = "cpu" if config.model.device == "cpu" else "cuda"
    chunk = config.loss.chunk
    chunk = chunk or chunk_rows(shape.vocabulary, sides=sides, device=device, half=half)
    return loss_bytes(shape.vocabulary, chunk, sides=sides, device=device)


def estimate_memory(config: DistillRun, shape: Shape, *, context: float = CONTEXT * GIB) -> MemoryEstimate:
    """Apply the formula at the head of this file."""
    size = weight_size(config.model)
    quantised, processes = config.adapter.quantise == "nf4", world_size()
    weights = weight_bytes(shape, size, quantised=quantised)
    if config.trainer.shard == "fsdp2":  # its own part, and two layers that are fetched for a pass
        held = min(1.0, 1 / processes + 2 / shape.layers)
        weights -= (1 - held) * shape.decoder_weights * size
    states = 2 if config.trainer.optimizer == "paged_adamw_8bit" else 8

    prompt = TEXT_TOKENS + shape.picture.tokens
    picture = picture_bytes(shape, size)

    # Inputs of the adapters: a float32 copy if the model has another dtype, and a masked copy with dropout.
    floats = (0 if size == 4 else 4) + (5 if config.adapter.dropout else 0)
    saved = size * (6 * shape.hidden + 2 * shape.attention + 4 * shape.mlp) + floats * shape.adapter_inputs
    checkpointed = config.trainer.gradient_checkpointing
    per_token = shape.layers * shape.hidden * size + saved if checkpointed else shape.layers * saved
    tokens, pictures = _micro_batch(config.trainer, prompt, row_tokens(config, shape))
    learn = (
        tokens * per_token
        + pictures * picture
        + 2 * shape.hidden * shape.mlp * size
        + _logits(config, shape, half=size == 2)
    )

    def sampling(rows: int, new_tokens: int) -> float:
        cache = 1.1 * rows * (prompt + new_tokens) * shape.keys_and_values * size
        work = rows * prompt * size * (6 * shape.hidden + 2 * shape.attention + 3 * shape.mlp)
        return cache + work + rows * (16 * shape.vocabulary + picture)

    return MemoryEstimate(
        context,
        weights,
        shape.adapter_weights * (8 + states),
        learn,
        sampling(min(config.rollout.batch, config.trainer.batch), config.rollout.max_new_tokens),
        sampling(config.bench.batch, config.bench.max_new_tokens),
    )
