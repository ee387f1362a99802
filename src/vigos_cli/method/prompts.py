"""Render the prompts of the student and its teachers with the model's chat template.

    prompter = Prompter(processor, load_prompts(config.prompt), config.routing)
    images = prompter.encode(sample.images)                                # once per sample
    student = prompter.render(Role.STUDENT, images, question=sample.question)
    teacher = prompter.render(Role.REASONING, images, question=sample.question, reference="red")
    ids, positions = prompter.teacher_sequence(teacher, rollout)

Sec. 2 and 3 of the paper and docs/method.md say what each role is shown. A prompt is joined from token ids,
never from text, so that no text can change its structure:

    part      example                                        tokenised by
    before    <|im_start|>user, image slots                  the model's processor
    message   our instruction with the data filled in        the tokenizer, as plain text (PlainText)
    after     <|im_end|>, <|im_start|>assistant              the tokenizer
    prefill   <description>                                  the tokenizer
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vigos_cli.config.schema import PromptConfig, RoutingConfig
from vigos_cli.method.segments import THINK, after_think, unbox
from vigos_cli.types import Prompt, Role, Rollout, Sample
from vigos_cli.utils.errors import ConfigError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SLOT = re.compile(r"\{(question|reference)\}")
SENTINEL = "vigos-message-text"  # placeholder of the message while the template is rendered
OPEN_THINK = re.compile(rf"{THINK}\s*$")
KEYS = tuple(f.name for f in fields(PromptConfig) if f.name != "path")  # allowed in a file of prompts


# ---- texts


def load_prompts(config: PromptConfig) -> PromptConfig:
    """The prompts of a run: those of `config`; keys of the YAML file at `config.path` replace them.

    Raises ConfigError if the file or a prompt is not usable.
    """
    if config.path is not None:
        config = replace(config, **{"name": Path(config.path).stem} | _read(Path(config.path)))
    for key in ("structured", "plain", "reasoning", "reference"):
        if "{question}" not in getattr(config, key):
            raise ConfigError(f"prompt.{key} does not contain {{question}}")
    for key in ("structured", "plain", "perception"):
        if "{reference}" in getattr(config, key):
            raise ConfigError(f"prompt.{key} contains {{reference}}, which this role must not see")
    return config


def _read(path: Path) -> dict[str, str]:
    try:
        texts = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"prompt.path={path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompt.path={path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(texts, dict):
        raise ConfigError(f"prompt.path={path} must map keys to texts; the keys are {', '.join(KEYS)}")
    for key, text in texts.items():
        if key not in KEYS:
            raise ConfigError(
                f"prompt.path={path}: {key}: {nearest(str(key), KEYS)}choose one of {', '.join(KEYS)}"
            )
        if not isinstance(text, str):
            raise ConfigError(f"prompt.path={path}: {key} must be a text (quote it, or use a | block)")
    return texts


def reference_text(sample: Sample, which: str = "answer") -> str:
    """The reference for the teachers: the answer, or the worked `solution` (the answer if there is none).

    Code fences, `<answer>` tags and boxes are removed, and their content is kept.
    """
    text = sample.solution if which == "solution" and sample.solution else sample.answer
    return unbox(re.sub(r"^\s*```[\w+-]*\s*$|```|</?answer>", "", text, flags=re.MULTILINE)).strip()


def fill_template(instruction: str, question: str, reference: str) -> list[tuple[str, bool]]:
    """Fill the slots of an instruction; return its parts, each with whether it came from the data.

    Slots in the data are not filled.
    """
    data = {"question": question, "reference": reference}
    parts = SLOT.split(instruction.strip())  # text, name, text, name, ..., text
    return [(data[part], True) if i % 2 else (part, False) for i, part in enumerate(parts)]


# ---- tokens


class PlainText:
    """Tokenises messages so that the data in them becomes ordinary text tokens only.

    A tokenizer finds an added token only in an uncut text, so it is enough to cut the text after the first
    character of each occurrence, overlapping ones included. Added tokens that are not special (`<think>` in
    some vocabularies) keep their id where the instruction itself contains them, because the model knows them
    in this form; text from the data never gets one. Added tokens of white space only are allowed.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        added = {token.content: (i, token.special) for i, token in tokenizer.added_tokens_decoder.items()}
        self._added = {name: value for name, value in added.items() if len(name.strip(" \t\r\n▁")) > 1}
        self._added_ids = {i for i, _ in self._added.values()}
        names = sorted(self._added, key=len, reverse=True)
        self._pattern = re.compile(f"(?=({'|'.join(map(re.escape, names))}))" if names else r"(?!)")

    def encode(self, text: str) -> list[int]:
        """Ids of our own text or the template's, in which added tokens keep their meaning."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def encode_message(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Ids of a filled instruction."""
        text = "".join(part for part, _ in parts)
        from_data = "".join("01"[data] * len(part) for part, data in parts)
        cuts, kept = [0], set()
        for match in self._pattern.finditer(text):
            (added_id, special), start = self._added[match[1]], match.start()
            if special or "1" in from_data[start : start + len(match[1])]:
                cuts.append(start + 1)
            else:
                kept.add(added_id)
        pieces = [text[a:b] for a, b in pairwise([*cuts, len(text)])]
        ids = [i for piece in pieces for i in self.encode(piece)]
        if (self._added_ids - kept).isdisjoint(ids):
            return ids
        return [i for char in text for i in self.encode(char)]  # normalisation produced an added token


# ---- prompts


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """The template around a message, with image slots, and the images' features; the same for every role."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    types_before: tuple[int, ...]  # mm_token_type_ids, empty if the processor gives none
    types_after: tuple[int, ...]
    features: Mapping[str, Tensor]
    lead: str = ""  # spaces before the message, tokenised with it: ` What` is one token
    images: tuple[Image, ...] = ()


class Prompter:
    """Renders every role's prompt for one model, one set of instructions and one routing."""

    def __init__(self, processor: Any, prompt: PromptConfig, routing: RoutingConfig):
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._text = PlainText(processor.tokenizer)
        structured = routing.student == "structured"
        privileged = prompt.reference if structured else prompt.reasoning
        self.instructions: dict[Role, str] = {
            Role.STUDENT: prompt.structured if structured else prompt.plain,
            Role.PERCEPTION: prompt.perception,  # empty: the image alone
            Role.REASONING: prompt.reasoning,
            Role.REFERENCE: prompt.reference,
            Role.PRIVILEGED: privileged,  # OPSD eq. 4, asked for the student's own format
        }
        prefill = tuple(self._text.encode(prompt.prefill_structured if structured else prompt.prefill_plain))
        self.prefills: dict[Role, tuple[int, ...]] = dict.fromkeys(Role, prefill)
        if not routing.perception_sees_prefill:
            self.prefills[Role.PERCEPTION] = ()
        self._from_think = structured and not routing.reasoning_sees_description
        self._templates: dict[int, tuple[str, str]] = {}

    def template(self, images: int) -> tuple[str, str]:
        """The chat template's text before and after a user message that follows `images` images."""
        if images not in self._templates:
            content = [*[{"type": "image"}] * images, {"type": "text", "text": SENTINEL}]
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=False,
                enable_thinking=False,  # templates without this switch ignore it
            )
            pieces = text.split(SENTINEL)
            if len(pieces) != 2:
                raise ConfigError("the model's chat template does not contain the user's text exactly once")
            # Some templates open `<think>` anyway; our pre-fill decides how a turn begins.
            self._templates[images] = (pieces[0], OPEN_THINK.sub("", pieces[1]))
        return self._templates[images]

    def encode(self, images: Sequence[Image]) -> EncodedImages:
        """Run the model's processor on the images and on the part of the template that contains them."""
        before, after = self.template(len(images))
        empty_before, empty_after = self.template(0)
        if images and before != empty_before and after != empty_after:
            raise ConfigError("the model's chat template puts images on both sides of the user's text")
        in_after = bool(images) and after != empty_after
        lead = before[len(before.rstrip(" ")) :]
        before = before.removesuffix(lead)
        bos = self._tokenizer.bos_token
        special = not (bos and before.startswith(bos))  # no second one, as in transformers
        out = dict(
            self._processor(
                text=[after if in_after else before],
                images=[list(images)] if images else None,
                return_tensors="pt",
                add_special_tokens=special and not in_after,
            )
        )
        ids = tuple(out.pop("input_ids")[0].tolist())
        out.pop("attention_mask", None)
        types, older = out.pop("mm_token_type_ids", None), out.pop("token_type_ids", None)
        if types is None and older is not None and older.any():  # some tokenizers return zeros for any model
            types = older
        types = tuple(types[0].tolist()) if types is not None else ()
        if in_after:
            other = tuple(self._tokenizer(before, add_special_tokens=special)["input_ids"])
            kinds = (0,) * len(other) if types else ()
            return EncodedImages(other, ids, kinds, types, out, lead, tuple(images))
        other = tuple(self._text.encode(after))
        kinds = (0,) * len(other) if types else ()
        return EncodedImages(ids, other, types, kinds, out, lead, tuple(images))

    def render(self, role: Role, images: EncodedImages, *, question: str = "", reference: str = "") -> Prompt:
        """The prompt of one role. The caller passes the texts and images; controls pass others."""
        filled = fill_template(self.instructions[role], question, reference)
        message = self._text.encode_message([(images.lead, False), *filled])
        prefill = self.prefills[role]
        types = ()
        if images.types_before or images.types_after:
            types = (*images.types_before, *[0] * len(message), *images.types_after, *[0] * len(prefill))
        return Prompt(
            role=role,
            ids=(*images.before, *message, *images.after, *prefill),
            prefill=prefill,
            features=images.features,
            mm_token_types=types,
            images=images.images,
        )

    def encode_text(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Token ids of texts, each with whether it came from the data (which never gets an added token)."""
        return self._text.encode_message(parts)

    def teacher_sequence(
        self, prompt: Prompt, rollout: Rollout
    ) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
        """All token ids that a teacher reads, and the position of each sampled token in them (eq. 15).

        The student's whole turn follows the teacher's prompt. With `reasoning_sees_description=false` (the
        authors' program) the reasoning teacher's turn is `<think>` and the tokens that begin after the
        student's `<think>`; the other tokens have the position None. If one token contains the end of the tag
        and more (`>\\n`), the rest of it is tokenised again with the tag, so that the text of the turn is
        exact. A turn without `<think>` is kept as a whole.
        """
        start = after_think(rollout.text) if self._from_think and prompt.role is Role.REASONING else None
        if start is None:
            base = len(prompt.ids)
            return (*prompt.ids, *rollout.ids), tuple(range(base, base + len(rollout.ids)))
        n_prefill = len(rollout.prompt.prefill)
        begins = (0, *rollout.ends)[n_prefill:-1]  # where the text of each sampled token begins
        first = next((i for i, begin in enumerate(begins) if begin >= start), len(begins))
        resumed = begins[first] if first < len(begins) else len(rollout.text)
        turn = self._text.encode(THINK + rollout.text[start:resumed])
        head = prompt.ids[: len(prompt.ids) - len(prompt.prefill)]
        base = len(head) + len(turn) - first
        positions = tuple(base + i if i >= first else None for i in range(len(rollout.ids)))
        return (*head, *turn, *rollout.ids[first:]), positions
