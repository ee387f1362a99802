"""Render the prompts of the student and its teachers with the model's chat template.

    prompter = Prompter(processor, load_prompts(config.prompt), config.routing)
    images = prompter.encode(sample.images, sample.places)                 # once per sample
    student = prompter.render(STUDENT, images, question=sample.question)
    teacher = prompter.render("reasoning", images, question=sample.question, reference="red")
    ids, positions = prompter.teacher_sequence(teacher, rollout)

A context is the student's, or that of a teacher by its name in the routing. A prompt is joined from token
ids, never from text, so that no text can change its structure:

    part      example                                        tokenised by
    before    <|im_start|>user, image slots                  the model's processor
    message   our instruction with the data filled in        the tokenizer, as plain text (PlainText)
    after     <|im_end|>, <|im_start|>assistant              the tokenizer
    prefill   <description>                                  the tokenizer

A question may hold pictures between its words (`vigos_cli.data.image_marks`). Then the message is cut there,
and each cut holds one image slot as the template writes it. A context that is not told the question has its
pictures before its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vigos_cli.config.routing_group import CAPTION, STUDENT
from vigos_cli.config.schema import PromptConfig, RoutingConfig
from vigos_cli.method.instructions import fill_and_cut, instruction, without_description
from vigos_cli.method.plain_text import PlainText
from vigos_cli.method.segments import THINK, after_think
from vigos_cli.types import Prompt, Rollout
from vigos_cli.utils.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SENTINEL = "vigos-message-text"  # placeholder of the message while the template is rendered
OPEN_THINK = re.compile(rf"{THINK}\s*$")


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
    """The features of a sample's images, and the template with their slots; the same for every context.

    `places` are the positions of the images' marks in the question (see `vigos_cli.data.image_marks`).
    `marked` is the layout with the images there; None if there are no images or no places.
    """

    first: Layout | None  # the images before the text; None if no processor is loaded
    marked: Layout | None
    features: Mapping[str, Tensor]
    images: tuple[Image, ...] = ()
    places: tuple[int, ...] = ()


class Prompter:
    """Renders the prompt of the student and of every teacher for one model and one routing."""

    def __init__(self, processor: Any, prompt: PromptConfig, routing: RoutingConfig):
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._text = PlainText(processor.tokenizer)
        self._settings = prompt, routing
        form, teachers = routing.student.format, routing.teachers
        self.instructions: dict[str, str] = {
            STUDENT: getattr(prompt, form),
            CAPTION: prompt.perception,  # empty: the image alone
            **{name: instruction(name, teacher, form, prompt) for name, teacher in teachers.items()},
        }
        prefill = tuple(self._text.encode(getattr(prompt, f"prefill_{form}")))
        self.prefills: dict[str, tuple[int, ...]] = dict.fromkeys(self.instructions, prefill)
        self._prefixes = {name: teacher.prefix for name, teacher in teachers.items()}
        for name, prefix in self._prefixes.items():
            if prefix == "no_prefill":
                self.prefills[name] = ()
        self._from_think = form == "structured"
        self._templates: dict[tuple[str, ...], list[str]] = {}

    @cached_property
    def without_pictures(self) -> Prompter:
        """The prompter of samples without pictures, which asks for no description.

        The student has the form `think`, and so has every teacher.
        """
        prompt, routing = self._settings
        return Prompter(self._processor, prompt, without_description(routing))

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

    def render(
        self, context: str, images: EncodedImages, *, question: str = "", reference: str = ""
    ) -> Prompt:
        """The prompt of one context. The caller passes the texts and images; controls pass others."""
        places = images.places if question else ()
        messages = fill_and_cut(self.instructions[context], question, reference, places)
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
        prefill = self.prefills[context]
        return Prompt(
            context=context,
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

        The student's whole turn follows the teacher's prompt. With `prefix: think` the teacher's turn is
        `<think>` and the tokens that begin after the student's `<think>`; the other tokens have the position
        None. If one token contains the end of the tag and more (`>\\n`), the rest of it is tokenised again
        with the tag, so that the text of the turn is exact; with `prefix: think_code`, as in the authors'
        program, the rest of it is left out. A turn without `<think>` is kept as a whole.
        """
        prefix = self._prefixes.get(prompt.context, "turn")
        later = prefix in ("think", "think_code") and self._from_think
        start = after_think(rollout.text) if later else None
        if start is None:
            base = len(prompt.ids)
            return (*prompt.ids, *rollout.ids), tuple(range(base, base + len(rollout.ids)))
        n_prefill = len(rollout.prompt.prefill)
        begins = (0, *rollout.ends)[n_prefill:-1]  # where the text of each sampled token begins
        first = next((i for i, begin in enumerate(begins) if begin >= start), len(begins))
        resumed = begins[first] if first < len(begins) else len(rollout.text)
        # Deviation of the authors' program: with a token such as `>\n` their teacher never reads the newline.
        rest = "" if prefix == "think_code" else rollout.text[start:resumed]
        turn = self._text.encode(THINK + rest)
        head = prompt.ids[: len(prompt.ids) - len(prompt.prefill)]
        base = len(head) + len(turn) - first
        positions = tuple(base + i if i >= first else None for i in range(len(rollout.ids)))
        return (*head, *turn, *rollout.ids[first:]), positions
