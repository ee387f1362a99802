"""The student: a frozen vision-language model, the LoRA weights that train, and what scores tokens with it.

    student = load_student(config.model, config.adapter, seed=0)
    batch = student.batch([sequence, ...], [prompt, ...])          # right-padded, pictures included
    hidden_BTH = student.hidden(batch)                             # no logits: those are the loss's business
    with student.weights("base"): ...                              # the same model as a teacher

The base weights never change: `frozen_hash` is taken at the start and at the end of a run to prove it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from vigos_cli.config.paths import TINY
from vigos_cli.config.schema import AdapterConfig, ModelConfig
from vigos_cli.method.fused_loss import project
from vigos_cli.models import base_cache
from vigos_cli.models.adapter_loading import fill, load_adapter
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.rng import torch_seed

SLOT_TOKEN = re.compile(r"(?:image|video|audio|vision_start)_token_(?:id|index)")  # as configs name them


@dataclass(frozen=True, slots=True)
class Student:
    """Ready to roll out, score and learn. `net` is the PEFT model, `adapter` its trainable tensors."""

    net: PeftModel
    processor: Any
    device: torch.device
    adapter: dict[str, torch.nn.Parameter]
    stop_ids: frozenset[int]
    banned_ids: tuple[int, ...]  # image slots: sampled ones would ask for pictures that are not there
    quantised_modules: int
    vision_guard: RemovableHandle | None  # see `_guard_vision_tower`; None where the tower is trained

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def base(self) -> Any:
        """The transformers model, adapter layers included."""
        return self.net.get_base_model()

    @property
    def head_VH(self) -> Tensor:
        """The frozen output embedding."""
        return self.base.get_output_embeddings().weight

    def batch(
        self, sequences: Sequence[Sequence[int]], prompts: Sequence[Prompt], *, pad_left: bool = False
    ) -> dict[str, Tensor]:
        """Model inputs for token sequences that begin with their prompts (whose pictures they show)."""
        width = max(map(len, sequences))

        def pad(row: Sequence[int], value: int) -> list[int]:
            filler = [value] * (width - len(row))
            return [*filler, *row] if pad_left else [*row, *filler]

        inputs = {
            "input_ids": torch.tensor([pad(row, self.tokenizer.pad_token_id) for row in sequences]),
            "attention_mask": torch.tensor([pad([1] * len(row), 0) for row in sequences]),
        }
        if any(prompt.mm_token_types for prompt in prompts):
            kinds = [
                (*prompt.mm_token_types[: len(row)], *[0] * (len(row) - len(prompt.mm_token_types)))
                for row, prompt in zip(sequences, prompts, strict=True)
            ]
            inputs[self._kinds_name] = torch.tensor([pad(row, 0) for row in kinds])
        for name in dict.fromkeys(name for prompt in prompts for name in prompt.features):
            inputs[name] = _stack([prompt.features[name] for prompt in prompts if name in prompt.features])
        return {  # pictures come in float32
            name: value.to(self.device, self.base.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }

    @property
    def _kinds_name(self) -> str:
        """What the model calls the argument that tells text from pictures (Gemma keeps an older name)."""
        known = inspect.signature(type(self.base).forward).parameters
        return "mm_token_type_ids" if "mm_token_type_ids" in known else "token_type_ids"

    def hidden(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The last hidden states (B, T, H), ready for the head."""
        return self.base.model(**batch, use_cache=False).last_hidden_state

    @contextmanager
    def weights(self, which: str, ema: Mapping[str, Tensor] | None = None) -> Iterator[None]:
        """Within it the model is a teacher: `base` (adapter off), `live` (as it is) or `ema` (swapped in)."""
        match which:
            case "base":
                with self.net.disable_adapter():
                    yield
            case "live":
                yield
            case "ema":
                assert ema is not None
                live = {name: p.data for name, p in self.adapter.items()}
                try:
                    for name, p in self.adapter.items():
                        p.data = ema[name]
                    yield
                finally:
                    for name, p in self.adapter.items():
                        p.data = live[name]
            case _:
                raise ValueError(which)

    def recompute_activations(self) -> None:
        """Keep only the input of each layer, and recompute the rest in the backward pass.

        transformers marks the embeddings of text and of pictures as differentiable when this is switched on,
        for its reentrant form. The form used here does not need it, and with it every block of the frozen
        vision tower would run backward.
        """
        self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.base.disable_input_require_grads()

    def release(self) -> Any:
        """The base model as it was loaded, without adapter and hooks; the student cannot be used any more."""
        base: Any = self.net.unload()
        base.gradient_checkpointing_disable()
        if self.vision_guard:
            self.vision_guard.remove()
        return base

    def frozen_hash(self) -> str:
        """sha256 over every weight that must not change."""
        digest = hashlib.sha256()
        tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        for name in sorted(set(tensors) - set(self.adapter)):
            digest.update(name.encode())
            flat = tensors[name].detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def adapter_state(self) -> dict[str, Tensor]:
        """A copy of the adapter's tensors, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.adapter.items()}

    def load_adapter_state(self, state: Mapping[str, Tensor], file: Path) -> None:
        """Put the saved tensors of `file` back in place; UserError if they are not exactly the adapter's."""
        fill(self.adapter, state, file)


def resolve_path(path: str) -> str:
    """A folder, or a hub id as it is; `builtin:tiny` is the model that ships with the package."""
    return str(TINY) if path == "builtin:tiny" else path


def pick_device(name: str) -> torch.device:
    """`auto` is this process's CUDA device where there is one."""
    if name != "auto":
        return torch.device(name)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    from accelerate import PartialState

    device = PartialState().device
    assert device is not None
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 on the CPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return getattr(torch, name)


def load_processor(config: ModelConfig) -> Any:
    """The model's own processor, with this run's bounds on the size of pictures."""
    processor = fetch(AutoProcessor.from_pretrained, config)
    _bound_pictures(processor.image_processor, config)
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _bound_pictures(images: Any, config: ModelConfig) -> None:
    """Set `model.max_pixels` in the terms that an image processor has for it."""
    size = getattr(images, "size", None) or {}
    if "max_pixels" in getattr(getattr(images, "valid_kwargs", None), "__annotations__", {}):
        if config.max_pixels is not None and "longest_edge" in size:
            size["longest_edge"] = config.max_pixels  # the Qwen processors keep an area under this name
        return
    if config.max_pixels is None:
        return
    tile = (getattr(images, "max_image_size", None) or {}).get("longest_edge")
    if tile is None or "longest_edge" not in size:
        raise UserError("model.max_pixels: this model's image processor has no such bound: set it to null")
    # Pictures are brought to this edge, and cut into square tiles: the largest square within the bound.
    size["longest_edge"] = min(size["longest_edge"], max(1, int(config.max_pixels**0.5) // tile) * tile)


def load_student(config: ModelConfig, adapter: AdapterConfig, *, seed: int = 0) -> Student:
    """Load base weights, freeze them, add the adapter (a saved one where `adapter.path` says so)."""
    device = pick_device(config.device)
    base, processor = base_cache.take(config, adapter) or _load_base(config, adapter, device)
    base.requires_grad_(False)
    quantised = _prepare_quantised(base)
    if adapter.path is not None:
        net = load_adapter(base, adapter, lora_config)
    else:
        with torch_seed(seed, "adapter"):
            net = get_peft_model(base, lora_config(base, adapter))
    if not adapter.vision:
        inside = f"base_model.model.{language_model(base)}."
        touched = [n for n, p in net.named_parameters() if p.requires_grad and not n.startswith(inside)]
        if touched:  # a saved adapter that was trained so
            raise UserError(
                f"the adapter reaches beyond the language model ({touched[0]}): adapter.vision=true"
            )
    net.eval()
    student = Student(
        net=net,
        processor=processor,
        device=device,
        adapter={name: p for name, p in net.named_parameters() if p.requires_grad},
        stop_ids=_stop_ids(base, processor.tokenizer),
        banned_ids=_banned_ids(base.config),
        quantised_modules=quantised,
        vision_guard=None if adapter.vision else _guard_vision_tower(base),
    )
    _check_head(student)
    return student


def _guard_vision_tower(base: Any) -> RemovableHandle:
    """Stop with an AssertionError when a forward pass would differentiate the frozen vision tower.

    Nothing in the tower is trained, so its output needs no gradient. Where it has one, some hook has marked
    the tower's input, and each step would pay for a backward pass through all of its blocks.
    """

    def check(tower: Any, inputs: Any, output: Any) -> None:
        values = output.values() if isinstance(output, Mapping) else output
        tensors = [output] if isinstance(output, Tensor) else [v for v in values if isinstance(v, Tensor)]
        assert not any(tensor.requires_grad for tensor in tensors), "the frozen vision tower has a gradient"

    return base.get_encoder(modality="image").register_forward_hook(check)


def _load_base(config: ModelConfig, adapter: AdapterConfig, device: torch.device) -> tuple[Any, Any]:
    """The base weights on the device, and the processor."""
    dtype = pick_dtype(config.dtype, device)
    options: dict[str, Any] = {"dtype": dtype}
    if adapter.quantise == "nf4":
        options["quantization_config"] = _nf4(dtype, config)
        options["device_map"] = {"": device}
    processor = load_processor(config)
    base = fetch(AutoModelForImageTextToText.from_pretrained, config, use_safetensors=True, **options)
    return base if adapter.quantise == "nf4" else base.to(device), processor


def lora_config(base: Any, adapter: AdapterConfig) -> LoraConfig:
    """LoRA on the linear layers named in the config, those of the language model unless asked otherwise."""
    inside = "" if adapter.vision else re.escape(f"{language_model(base)}.")
    pattern = rf"{inside}(?:.*\.)?(?:{'|'.join(map(re.escape, adapter.targets))})"
    if not any(re.fullmatch(pattern, name) for name, _ in base.named_modules()):
        leaves = {n.rsplit(".", 1)[-1] for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
        raise UserError(f"adapter.targets matches no layer; this model has {', '.join(sorted(leaves))}")
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=pattern,
        bias="none",
    )


def language_model(base: Any) -> str:
    """The name of the module that holds the language model, as transformers marks it.

    All else (vision tower, projector, head) is left out of the adapter and of 4-bit weights, whatever the
    family calls it.
    """
    names = {id(module): name for name, module in base.named_modules()}
    decoder, tower = (names[id(m)] for m in (base.get_decoder(), base.get_encoder(modality="image")))
    if not decoder or not tower or tower.startswith(f"{decoder}."):
        raise UserError(
            f"{type(base).__name__} has no language model apart from its vision tower: not supported"
        )
    return decoder


def fetch(load: Any, config: ModelConfig, **options: Any) -> Any:
    """Load from a folder or the hub; never remote code, never pickles."""
    path = resolve_path(config.path)
    if not path:
        raise UserError(
            "model.path is empty: name a hub id or a folder, as in model.path=Qwen/Qwen2-VL-2B-Instruct"
        )
    # Asked first: the hub's client retries for minutes where there is no network.
    options["local_files_only"] = Path(path).is_dir() or not hub_reachable()
    try:
        return load(path, revision=config.revision, trust_remote_code=False, **options)
    except ImportError as error:  # a processor that needs a package of its own, as SmolVLM's does
        raise UserError(f"model.path={path}: {' '.join(str(error).split())[:200]}") from error
    except (OSError, ConnectionError) as error:
        if Path(path).is_dir():
            raise UserError(f"model.path={path}: {' '.join(str(error).split())[:200]}") from error
        raise UserError(
            f"the weights of {path} are not in the local cache and could not be fetched: "
            f"run `hf download {path}` where there is a network, or set model.path= to a folder"
        ) from error


@cache
def hub_reachable() -> bool:
    """Whether the hub answers within seconds; behind a proxy that is for the proxy to say."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    hub = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate; rows with fewer or smaller tiles are filled with zeros, which models take for padding."""
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    out = parts[0].new_zeros(sum(len(part) for part in parts), *shape)
    start = 0
    for part in parts:
        out[(slice(start, start + len(part)), *map(slice, part.shape[1:]))] = part
        start += len(part)
    return out


def without_weights(config: ModelConfig) -> Any:
    """The model that a config describes, on the meta device."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(fetch(AutoConfig.from_pretrained, config))


def _nf4(dtype: torch.dtype, config: ModelConfig) -> Any:
    from transformers import BitsAndBytesConfig

    base = without_weights(config)  # for the names of its modules
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # A pattern matched from the start of a module's name: all that is not the language model.
        llm_int8_skip_modules=[rf"(?!{re.escape(language_model(base))}\.).*"],
    )


def _prepare_quantised(base: Any) -> int:
    """Count 4-bit layers, and keep their weights in the layout that training needs.

    On processors with AVX512-BF16 a forward without gradient repacks them for inference only.
    """
    layers = {name: m for name, m in base.named_modules() if type(m).__name__ == "Linear4bit"}
    inside = f"{language_model(base)}." if layers else ""
    assert all(name.startswith(inside) for name in layers), "the vision tower stays as it is"
    for layer in layers.values():
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def _stop_ids(base: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a turn, by the tokenizer and by the model's generation config."""
    ids = base.generation_config.eos_token_id
    listed = ids if isinstance(ids, list) else [ids]
    return frozenset(i for i in (*listed, tokenizer.eos_token_id) if i is not None)


def _banned_ids(config: AutoConfig) -> tuple[int, ...]:
    """Slots for pictures, sound and films, under whichever names the config has for them."""
    slots = {getattr(config, name, None) for name in dir(config) if SLOT_TOKEN.fullmatch(name)}
    return tuple(sorted(i for i in slots if isinstance(i, int)))


@torch.no_grad()
def _check_head(student: Student) -> None:
    """The loss computes logits from hidden states by itself: make sure that the model does nothing else.

    The head's output is made so large here that a cap on logits, which bends only large ones, shows as well.
    """
    made: list[Tensor] = []

    def enlarge(head: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        made.append(output)
        return output * 2.0**10 / output.abs().max().clamp(min=1e-3).log2().ceil().exp2()

    ids = torch.tensor([student.tokenizer("a b")["input_ids"]], device=student.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    head = student.base.get_output_embeddings()
    hook = head.register_forward_hook(enlarge)
    try:
        logits = student.base(**inputs).logits[:, -1].float()
    finally:
        hook.remove()
    plain = getattr(head, "bias", None) is None and len(made) == 1
    if plain:
        theirs = made[0][:, -1].float()
        ours = project(student.hidden(inputs)[:, -1], student.head_VH)
        plain = torch.allclose(theirs, ours, atol=0.05 * float(theirs.abs().max()), rtol=0.05)
        plain = plain and torch.equal(logits, enlarge(head, None, made[0])[:, -1].float())
    if not plain:
        raise UserError("this architecture does more than a linear head after its last layer: not supported")
