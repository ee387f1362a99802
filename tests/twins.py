"""Small random models of real families: transformers' own classes, a few layers of width 64.

    folder = save_twin("smolvlm", tmp_path)        # what `model.path=FOLDER` loads
    FAMILIES["smolvlm"].image_token                # "<image>"

Each has its family's special tokens, and a chat template that places them as the family does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, LlavaOnevisionConfig, PreTrainedTokenizerFast
from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLConfig
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5Config
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMConfig
from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

LAYERS = 2
MAIN = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": LAYERS}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}

# ---------------------------------------------------------------- tokenizers and templates

QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
QWEN = (*QWEN, "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
SMOL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>")
SMOL = (*SMOL, "<end_of_utterance>", "<global-img>", "<video>")
LLAVA = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")

QWEN_TURN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN2_TEMPLATE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + QWEN_TURN
QWEN35_TEMPLATE = QWEN_TURN.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}",
)
SMOL_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}{% if m.content[0].type == 'image' %}:"
    "{% else %}: {% endif %}{% for part in m.content %}{% if part.type == 'image' %}<image>{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {% for part in m.content | selectattr('type', 'equalto',"
    " 'image') %}<image>{% endfor %}{% for part in m.content | selectattr('type', 'equalto', 'text') %}\n"
    "{{ part.text }}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

WORDS = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
SMOL_WORDS = r""" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CORPUS = [
    "<description> A red cube on a table. </description> <think> The cube is red. </think> \\boxed{red}",
    "What colour is the cube? User: Assistant: You are a helpful assistant. system user assistant",
] * 20


def tokenizer(special: tuple[str, ...], plain: tuple[str, ...], words: str, **roles: str) -> Any:
    """A byte-level BPE with a family's added tokens; the last `plain` of them are not special."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, **roles)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    fast.add_tokens(list(plain))
    return fast


# ---------------------------------------------------------------- families


@dataclass(frozen=True)
class Family:
    """How to make one family's model. `config` gets the tokenizer, `processor` also the template."""

    image_token: str
    special: tuple[str, ...]
    template: str
    config: Callable[[Any], Any]
    processor: Callable[[Any, str], Any]
    plain: tuple[str, ...] = ()
    words: str = WORDS
    roles: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")  # end of turn, padding
    targets: int = 7 * LAYERS  # linear layers that LoRA adapts by default
    slots: tuple[str, ...] = ()  # tokens that the student must never sample


def ids(fast: Any, **names: str) -> dict[str, Any]:
    """Token ids by their names in a config."""
    return {name: fast.convert_tokens_to_ids(token) for name, token in names.items()}


def text(fast: Any, end: str = "<|im_end|>", pad: str = "<|endoftext|>", **more: Any) -> dict[str, Any]:
    """The part of a config that describes the language model."""
    size = -(-len(fast) // 64) * 64
    named = ids(fast, eos_token_id=end, pad_token_id=pad)
    return {"vocab_size": size, "max_position_embeddings": 2048, **MAIN, **HEADS, **named, **more}


def mrope(**more: Any) -> dict[str, Any]:
    """Rotary position settings for time, height and width, for heads of width 32."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6], **more}


def qwen_slots(fast: Any) -> dict[str, Any]:
    return ids(
        fast,
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )


def qwen2_config(fast: Any) -> Any:
    vision = {"depth": 2, "embed_dim": 64, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 64}
    return Qwen2VLConfig(
        text_config=text(fast, rope_parameters=mrope()),
        vision_config=vision,
        tie_word_embeddings=True,
        **qwen_slots(fast),
    )


def qwen25_config(fast: Any) -> Any:
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64}
    return Qwen2_5_VLConfig(
        text_config=text(fast, rope_parameters=mrope()),
        vision_config={**vision, "window_size": 56, "fullatt_block_indexes": [1]},
        **qwen_slots(fast),
    )


def qwen3_vision(**more: Any) -> dict[str, Any]:
    vision = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64}
    return {**vision, "num_position_embeddings": 64, **more}


def qwen3_config(fast: Any) -> Any:
    return Qwen3VLConfig(
        text_config=text(fast, head_dim=32, rope_parameters=mrope(mrope_interleaved=True)),
        vision_config=qwen3_vision(deepstack_visual_indexes=[0, 1]),
        tie_word_embeddings=True,
        **qwen_slots(fast),
    )


def qwen35_config(fast: Any) -> Any:
    linear: dict[str, Any] = {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    linear |= {"linear_key_head_dim": 32, "linear_value_head_dim": 32}
    rope = mrope(mrope_interleaved=True, partial_rotary_factor=0.5) | {"mrope_section": [2, 3, 3]}
    return Qwen3_5Config(
        text_config=text(
            fast,
            head_dim=32,
            layer_types=["linear_attention", "full_attention"],
            rope_parameters=rope,
            **linear,
        ),
        vision_config=qwen3_vision(),
        tie_word_embeddings=True,
        **qwen_slots(fast),
    )


def smolvlm_config(fast: Any) -> Any:
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    return SmolVLMConfig(
        text_config={"model_type": "llama", **text(fast, "<end_of_utterance>", "<|im_end|>")},
        vision_config={**vision, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        **ids(fast, image_token_id="<image>"),
    )


def llava_config(fast: Any) -> Any:
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14, "vision_use_head": False}
    return LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text(fast)},
        vision_config={"model_type": "siglip_vision_model", **vision},
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=True,
        **ids(fast, image_token_index="<image>", video_token_index="<video>"),
    )


PINPOINTS = [[28, 28], [28, 56], [56, 28], [56, 56], [28, 84], [84, 28]]


def qwen2_processor(fast: Any, template: str, kind: Any = Qwen2VLProcessor, **more: Any) -> Any:
    sizes: dict[str, Any] = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, **more}
    sizes["size"] = {"shortest_edge": 28 * 28, "longest_edge": 112 * 112}
    videos = Qwen3VLVideoProcessor if kind is Qwen3VLProcessor else Qwen2VLVideoProcessor
    return kind(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=fast,
        video_processor=videos(),
        chat_template=template,
    )


def smolvlm_processor(fast: Any, template: str) -> Any:
    sizes: dict[str, Any] = {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}}
    return SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes),
        fast,
        SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=template,
    )


def llava_processor(fast: Any, template: str) -> Any:
    sizes: dict[str, Any] = {"size": {"height": 28, "width": 28}, "image_grid_pinpoints": PINPOINTS}
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(**sizes),
        fast,
        LlavaOnevisionVideoProcessor(),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template,
    )


QWEN_SLOTS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>")
FAMILIES = {
    "qwen2vl": Family("<|image_pad|>", QWEN, QWEN2_TEMPLATE, qwen2_config, qwen2_processor, slots=QWEN_SLOTS),
    "qwen25vl": Family(
        "<|image_pad|>",
        QWEN,
        QWEN2_TEMPLATE,
        qwen25_config,
        lambda fast, template: qwen2_processor(fast, template, Qwen2_5_VLProcessor),
        plain=("<tool_call>", "</tool_call>"),
        slots=QWEN_SLOTS,
    ),
    "qwen3vl": Family(
        "<|image_pad|>",
        QWEN,
        QWEN_TURN,
        qwen3_config,
        lambda fast, template: qwen2_processor(fast, template, Qwen3VLProcessor, patch_size=16),
        plain=("<tool_call>", "</tool_call>", "<think>", "</think>"),
        slots=QWEN_SLOTS,
    ),
    "qwen35": Family(
        "<|image_pad|>",
        QWEN,
        QWEN35_TEMPLATE,
        qwen35_config,
        lambda fast, template: qwen2_processor(fast, template, Qwen3VLProcessor, patch_size=16),
        plain=("<tool_call>", "</tool_call>", "<think>", "</think>"),
        targets=3 + 7,  # the layer with linear attention has only its MLP under these names
        slots=QWEN_SLOTS,
    ),
    "smolvlm": Family(
        "<image>",
        SMOL,
        SMOL_TEMPLATE,
        smolvlm_config,
        smolvlm_processor,
        plain=tuple(f"<row_{r}_col_{c}>" for r in (1, 2, 3) for c in (1, 2, 3)),
        words=SMOL_WORDS,
        roles=("<end_of_utterance>", "<|im_end|>"),
        slots=("<image>",),
    ),
    "llava_onevision": Family(
        "<image>", LLAVA, LLAVA_TEMPLATE, llava_config, llava_processor, slots=("<image>", "<video>")
    ),
}


def save_twin(name: str, folder: Path) -> Path:
    """Make a family's model and save it for `model.path=`."""
    family = FAMILIES[name]
    end, pad = family.roles
    fast = tokenizer(family.special, family.plain, family.words, eos_token=end, pad_token=pad)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(family.config(fast))
    with torch.no_grad():  # less uniform outputs, like a trained model, so that greedy choices have no ties
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    model.generation_config.eos_token_id = fast.convert_tokens_to_ids(end)
    model.save_pretrained(folder)
    family.processor(fast, family.template).save_pretrained(folder)
    return folder


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())
