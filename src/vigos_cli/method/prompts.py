"""Render the prompts of the student and its teachers with the model's chat template.

    prompter = Prompter(processor, load_prompts(config.prompt), config.routing)
    images = prompter.encode(sample.images, sample.places)                 # once per sample
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

A question may hold pictures between its words (`vigos_cli.data.image_marks`). Then the message is cut there,
and each cut holds one image slot as the template writes it. A role that is not told the question has its
pictures before its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vigos_cli.config.schema import PromptConfig, RoutingConfig
from vigos_cli.data.image_marks import split_at_marks
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
    (whole,) = fill_and_cut(instruction, question, reference, ())
    return whole


def fill_and_cut(
    instruction: str, question: str, reference: str, places: Sequence[int]
) -> list[list[tuple[str, bool]]]:
    """Like `fill_template`, cut at the question's marks at `places`, which are left out.

    The result is one list of parts if the instruction does not hold the question, or if there are no places.
    """
    cut = split_at_marks(question, places)
    messages: list[list[tuple[str, bool]]] = [[]]
    for i, part in enumerate(SLOT.split(instruction.strip())):  # text, name, text, name, ..., text
        if i % 2 == 0:
            messages[-1].append((part, False))
        elif part == "reference":
            messages[-1].append((reference, True))
        elif len(messages) == 1:
            messages[-1].append((cut[0], True))
            messages += [[(text, True)] for text in cut[1:]]
        else:  # the question again
            messages[-1].append(("".join(cut), True))
    return messages


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
class Layout:
    """The template as token ids around the texts of a user message: a piece before each text, and one after.

    A piece holds the image slots that stand there. `spaces` are the white space before and after each text,
    which is tokenised with it: ` What` is one token.
    """

    pieces: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]  # mm_token_type_ids of each piece, empty if the processor gives none
    spaces: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """The features of a sample's images, and the template with their slots; the same for every role.

    `places` are the positions of the images' marks in the question (see `vigos_cli.data.image_marks`).
    `marked` is the layout with the images there; None if there are no images or no places.
    """

    first: Layout | None  # the images before the text; None if no processor is loaded
    marked: Layout | None
    features: Mapping[str, Tensor]
    images: tuple[Image, ...] = ()
    places: tuple[int, ...] = ()


class Prompter:
    """Renders every role's prompt for one model, one set of instructions and one routing."""

    def __init__(self, processor: Any, prompt: PromptConfig, routing: RoutingConfig):
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._text = PlainText(processor.tokenizer)
        self._settings = prompt, routing
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
        self._templates: dict[tuple[str, ...], list[str]] = {}

    @cached_property
    def without_pictures(self) -> Prompter:
        """The prompter of samples without pictures, which asks for no description.

        The student has the plain format, and so has every teacher that is told the reference.
        """
        prompt, routing = self._settings
        made = Prompter(self._processor, prompt, replace(routing, student="plain"))
        made.instructions[Role.REFERENCE] = prompt.reasoning
        return made

    def template(self, images: int) -> tuple[str, str]:
        """The chat template's text before and after a user message that follows `images` images."""
        content = [*[{"type": "image"}] * images, {"type": "text", "text": SENTINEL}]
        pieces = self._around_texts(content)
        if len(pieces) != 2:
            raise ConfigError("the model's chat template does not contain the user's text exactly once")
        return pieces[0], pieces[1]

    def _around_texts(self, content: Sequence[Mapping[str, str]]) -> list[str]:
        """The chat template's text before, between and after the texts of a user message."""
        kinds = tuple(part["type"] for part in content)
        if kinds not in self._templates:
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": list(content)}],
                add_generation_prompt=True,
                tokenize=False,
                enable_thinking=False,  # templates without this switch ignore it
            )
            *pieces, last = text.split(SENTINEL)
            # Some templates open `<think>` anyway; our pre-fill decides how a turn begins.
            self._templates[kinds] = [*pieces, OPEN_THINK.sub("", last)]
        return list(self._templates[kinds])

    def encode(self, images: Sequence[Image], places: Sequence[int] = ()) -> EncodedImages:
        """Run the model's processor on the images and on the part of the template that contains them."""
        first, features = self._images_first(images)
        marked = self._images_at_marks(images) if images and places else None
        return EncodedImages(first, marked, features, tuple(images), tuple(places))

    def _images_first(self, images: Sequence[Image]) -> tuple[Layout, dict[str, Tensor]]:
        """The layout with all images before the text (after it, if the template writes them there)."""
        before, after = self.template(len(images))
        empty_before, empty_after = self.template(0)
        if images and before != empty_before and after != empty_after:
            raise ConfigError("the model's chat template puts images on both sides of the user's text")
        in_after = bool(images) and after != empty_after
        lead = before[len(before.rstrip(" ")) :]
        before = before.removesuffix(lead)
        special = self._adds_special_tokens(before)
        text, special_here = (after, False) if in_after else (before, special)
        ids, types, features = self._process(text, images, special=special_here)
        if in_after:
            other = tuple(self._tokenizer(before, add_special_tokens=special)["input_ids"])
            pieces = (other, ids)
        else:
            other = tuple(self._text.encode(after))
            pieces = (ids, other)
        kinds = (0,) * len(other) if types else ()
        return Layout(pieces, (kinds, types) if in_after else (types, kinds), ((lead, ""),)), features

    def _images_at_marks(self, images: Sequence[Image]) -> Layout:
        """The layout of a message with a text before, between and after the images.

        The processor reads all pieces in one text, with the tokenizer's end token between them.
        """
        texts = self.template_at_marks(len(images))
        leads = [text[len(text.rstrip(" ")) :] for text in texts[:-1]]
        texts = [text.removesuffix(lead) for text, lead in zip(texts, [*leads, ""], strict=True)]
        trails = [text[: len(text) - len(text.lstrip())] for text in texts[1:-1]]
        texts[1:-1] = [text.lstrip() for text in texts[1:-1]]
        mark, mark_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        ids, types, _ = self._process(mark.join(texts), images, special=self._adds_special_tokens(texts[0]))
        ends = [i for i, token in enumerate(ids) if token == mark_id]
        own = [text.count(mark) for text in texts]  # some templates contain the token themselves
        if len(ends) != sum(own) + len(texts) - 1:
            raise ConfigError("the model's processor does not keep the places of images between texts")
        cuts = [ends[sum(own[: i + 1]) + i] for i in range(len(texts) - 1)]
        spans = list(zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(ids)], strict=True))
        spaces = tuple(zip(leads, [*trails, ""], strict=True))
        return Layout(tuple(ids[a:b] for a, b in spans), tuple(types[a:b] for a, b in spans), spaces)

    def template_at_marks(self, images: int) -> list[str]:
        """The chat template's text around the `images` + 1 texts of a message with an image between each two.

        Some templates write all images before all texts. Then each image is written as before a text, but at
        its own place.
        """
        content = [{"type": "text", "text": SENTINEL}]
        content += [part for _ in range(images) for part in ({"type": "image"}, content[0])]
        pieces = self._around_texts(content)
        before, after = self.template(0)
        if len(pieces) == images + 2 and pieces[0].rstrip() == before.rstrip() and pieces[-1] == after:
            return pieces
        with_one, _ = self.template(1)
        shared = len(before)
        while not with_one.startswith(before[:shared]):
            shared -= 1
        slot = with_one[shared : shared + len(with_one) - len(before)]
        if not slot.strip() or before != with_one[:shared] + with_one[shared + len(slot) :]:
            raise ConfigError("the model's chat template has no place for an image between two texts")
        return [before, *[slot] * images, after]

    def _adds_special_tokens(self, before: str) -> bool:
        """Whether the tokenizer adds its special tokens; a second beginning is never added."""
        bos = self._tokenizer.bos_token
        return not (bos and before.startswith(bos))

    def _process(
        self, text: str, images: Sequence[Image], *, special: bool
    ) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Tensor]]:
        """Token ids, their image types (empty if the processor gives none) and the images' features."""
        out = dict(
            self._processor(
                text=[text],
                images=[list(images)] if images else None,
                return_tensors="pt",
                add_special_tokens=special,
            )
        )
        ids = tuple(out.pop("input_ids")[0].tolist())
        out.pop("attention_mask", None)
        types, older = out.pop("mm_token_type_ids", None), out.pop("token_type_ids", None)
        if types is None and older is not None and older.any():  # some tokenizers return zeros for any model
            types = older
        return ids, tuple(types[0].tolist()) if types is not None else (), out

    def render(self, role: Role, images: EncodedImages, *, question: str = "", reference: str = "") -> Prompt:
        """The prompt of one role. The caller passes the texts and images; controls pass others."""
        places = images.places if question else ()
        messages = fill_and_cut(self.instructions[role], question, reference, places)
        layout = images.marked if len(messages) > 1 else None
        if layout is None:  # without images the marks of the question are left out
            layout, messages = images.first, [[part for message in messages for part in message]]
        assert layout is not None
        ids, types = list(layout.pieces[0]), list(layout.types[0])
        for message, piece, kinds, (lead, trail) in zip(
            messages, layout.pieces[1:], layout.types[1:], layout.spaces, strict=True
        ):
            if len(messages) == 1 or any(text for text, _ in message):
                message = [(lead, False), *message, (trail, False)]
            text = self._text.encode_message(message)
            ids += [*text, *piece]
            types += [*[0] * len(text), *kinds]
        prefill = self.prefills[role]
        return Prompt(
            role=role,
            ids=(*ids, *prefill),
            prefill=prefill,
            features=images.features,
            mm_token_types=(*types, *[0] * len(prefill)) if any(layout.types) else (),
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
