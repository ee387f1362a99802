"""The groups `model` and `adapter`."""

from __future__ import annotations

from dataclasses import dataclass, field

from vigos_cli.config.checks import check_at_least, check_choice, check_positive
from vigos_cli.utils.errors import ConfigError


@dataclass
class ModelConfig:
    """The vision-language model that learns or is evaluated."""

    name: str = "tiny"  # name of the option; appears in reports
    path: str = "builtin:tiny"  # a Hugging Face id, a folder with safetensors, or `builtin:tiny`
    revision: str | None = None  # commit or tag on the Hugging Face hub; null: its default branch
    dtype: str = "auto"  # auto (CPU: float32; GPU: bfloat16, else float16), float32, bfloat16, float16
    device: str = "auto"  # auto (CUDA if available), cpu, cuda, cuda:1
    max_pixels: int | None = None  # larger images are scaled down to it; null: the processor's own limit
    max_prompt: int = 32768  # tokens; rows with a longer prompt are left out, items are not asked

    def __post_init__(self) -> None:
        check_choice("model.dtype", self.dtype)
        check_positive(model__max_pixels=self.max_pixels)
        check_at_least(1, model__max_prompt=self.max_prompt)
        if not self.path:
            raise ConfigError(
                "model.path is missing: a Hugging Face id, a folder of weights, or builtin:tiny"
            )


@dataclass
class AdapterConfig:
    """The LoRA adapter that is trained; all other weights are frozen."""

    name: str = "lora"  # name of the option; appears in reports
    path: str | None = None  # a saved adapter: distill starts from it, eval and rollout use it
    r: int = 64  # rank of the update
    alpha: int = 128  # LoRA alpha; the update is scaled by alpha / r
    dropout: float = 0.05  # dropout on the adapter's input during training
    targets: list[str] = field(  # names of the linear layers that are adapted
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    vision: bool = False  # also adapt the layers with these names in the vision tower
    quantise: str = "none"  # none, or nf4: base weights in 4 bits with double quantisation

    def __post_init__(self) -> None:
        check_choice("adapter.quantise", self.quantise)
        check_at_least(1, adapter__r=self.r, adapter__alpha=self.alpha)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"adapter.dropout={self.dropout}: must be at least 0 and below 1")
        if not self.targets:
            raise ConfigError("adapter.targets is empty: name at least one linear layer, such as q_proj")
