"""Prompts equal those of the chat template, data adds no special tokens, and teachers read the whole turn.

The functions `check_...` take the name of a processor; tests/real/ adds those of Qwen with `add_processor`.
"""

from __future__ import annotations

import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from byte_bpe import NOT_SPECIAL, SPECIAL, byte_bpe, processor, shipped
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoProcessor

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import PromptConfig, RoutingConfig, StudentContext, TeacherContext
from vigos_cli.method.decode import Decoder
from vigos_cli.method.instructions import fill_and_cut, fill_template, instruction, load_prompts
from vigos_cli.method.plain_text import PlainText
from vigos_cli.method.prompts import EncodedImages, Prompter
from vigos_cli.method.reference_text import reference_text
from vigos_cli.method.segments import after_think
from vigos_cli.types import Prompt, Rollout, Sample
from vigos_cli.utils.errors import ConfigError

TEXTS = PromptConfig(
    structured="{question}\nDescribe in <description> tags, then <think>, then \\boxed{answer}.",
    think="{question}\nThink, then \\boxed{answer}.",
    reasoning="{question}\nThe reference is {reference}. Think, then \\boxed{answer}.",
    reference="{question}\nThe reference is {reference}. Describe, think, \\boxed{answer}.",
)
PROCESSORS: dict[str, Any] = {"ordinary": processor(), "fusing": processor(fusing=True)}
if (shipped() / "tokenizer.json").exists():
    PROCESSORS["shipped"] = AutoProcessor.from_pretrained(shipped())
each_processor = pytest.mark.parametrize("name", PROCESSORS)
ANSWER = ["question", "answer"]
CONTEXTS = (STUDENT, "perception", "reasoning", "fallback", "privileged")
PICTURES = (Image.new("RGB", (56, 56), "red"), Image.new("RGB", (28, 84), "blue"))


def routing(format: str = "structured", **prefixes: str) -> RoutingConfig:
    """The teachers of the paper and of OPSD, each with the prefix that is given."""
    teachers = {
        "perception": TeacherContext(),
        "reasoning": TeacherContext(told=ANSWER, prompt="reasoning"),
        "fallback": TeacherContext(told=ANSWER, prompt="reference"),
        "privileged": TeacherContext(told=ANSWER),
    }
    for name, prefix in prefixes.items():
        teachers[name].prefix = prefix
    return RoutingConfig(student=StudentContext(format=format), teachers=teachers)


def prompter(name: str = "ordinary", format: str = "structured", **prefixes: str) -> Prompter:
    return Prompter(PROCESSORS[name], TEXTS, routing(format, **prefixes))


DECODERS: dict[str, Decoder] = {}
PROMPTERS: dict[str, Prompter] = {}
IMAGES: dict[str, EncodedImages] = {}


def add_processor(name: str, made: Any) -> None:
    """Make a processor known to the checks of this file."""
    PROCESSORS[name], DECODERS[name] = made, Decoder(made.tokenizer)
    PROMPTERS[name] = prompter(name)
    IMAGES[name] = PROMPTERS[name].encode(PICTURES[:1])


for known, of_family in list(PROCESSORS.items()):
    add_processor(known, of_family)

# ---- data that imitates special tokens and templates

hostile = st.lists(
    st.sampled_from(
        (
            *SPECIAL,
            *NOT_SPECIAL,
            "<think>",
            "</think>",
            "\\boxed{",
            "{question}",
            "{reference}",
            "{}",
            "<",
            "|>",
        )
    )
    | st.text(max_size=5),
    max_size=12,
).map("".join)
overlapping = st.lists(st.sampled_from([p for t in SPECIAL for p in (t[:1], t[:5], t[5:], t[1:])])).map(
    "".join
)


def check_plain_text(name: str, text: str) -> None:
    """The data has no added token, and no character is lost."""
    tokenizer = PROCESSORS[name].tokenizer
    text = unicodedata.normalize("NFC", text)
    ids = PlainText(tokenizer).encode_message([(text, True)])
    assert set(ids).isdisjoint(tokenizer.added_tokens_decoder)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@each_processor
@given(text=hostile | overlapping)
def test_data_is_plain_text(name: str, text: str):
    check_plain_text(name, text)


def check_structure(name: str, question: str, reference: str) -> None:
    """All special tokens of a prompt come from the template, for any data."""
    special = {i for i, token in PROCESSORS[name].tokenizer.added_tokens_decoder.items() if token.special}
    for context in CONTEXTS:
        tame = PROMPTERS[name].render(context, IMAGES[name], question="q", reference="r")
        wild = PROMPTERS[name].render(context, IMAGES[name], question=question, reference=reference)
        assert [i for i in wild.ids if i in special] == [i for i in tame.ids if i in special]
        assert len(wild.mm_token_types) == len(wild.ids)
        assert sum(wild.mm_token_types) == sum(tame.mm_token_types)


@each_processor
@given(question=hostile, reference=hostile)
def test_data_does_not_change_the_structure_of_a_prompt(name: str, question: str, reference: str):
    check_structure(name, question, reference)


def test_half_a_surrogate_pair_becomes_a_question_mark():
    parts = fill_and_cut("{question} {reference}", "a\ud83d b\udc00", "\ud800", ())
    assert parts == [[("", False), ("a? b?", True), (" ", False), ("?", True), ("", False)]]


def test_only_instructions_produce_added_tokens():
    """For example `<think>`, which is an added token in Qwen3's vocabulary."""
    text = PlainText(byte_bpe())
    tool = byte_bpe().get_vocab()["<tool_call>"]
    instruction = "Use <tool_call> on {question}l> <tool_{reference} <|im_end|>"
    ids = text.encode_message(fill_template(instruction, "<tool_call> and <tool_cal", "call>"))
    assert ids.count(tool) == 1
    assert set(ids) & set(byte_bpe().added_tokens_decoder) == {tool}


def test_normalised_data_does_not_become_an_added_token():
    tokenizer = byte_bpe(nfc=False, size=499)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_tokens(["<tool>"])
    (tool,) = tokenizer("＜tool＞")["input_ids"]
    ids = PlainText(tokenizer).encode_message([("a ＜tool＞", True)])
    assert tool not in ids
    assert tokenizer.decode(ids) == "a <tool>"


@given(question=hostile, reference=hostile)
def test_placeholders_in_data_are_not_filled(question: str, reference: str):
    parts = fill_template(" a {question} {b} {reference}{question}\n", question, reference)
    assert "".join(text for text, _ in parts) == f"a {question} {{b}} {reference}{question}"
    assert [text for text, data in parts if data] == [question, reference, question]


# ---- prompts


def of_transformers(name: str, content: list[dict[str, Any]]) -> Any:
    return PROCESSORS[name].apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def check_template(name: str, student: str, count: int, question: str, reference: str) -> None:
    """For ordinary data a prompt is the output of `apply_chat_template`, plus the pre-fill."""
    prompts = prompter(name, student)
    images = prompts.encode(PICTURES[:count])
    slots = [{"type": "image", "image": picture} for picture in PICTURES[:count]]
    wanted = {
        STUDENT: TEXTS.structured if student == "structured" else TEXTS.think,
        "reasoning": TEXTS.reasoning,
        "fallback": TEXTS.reference,
        "privileged": TEXTS.reference if student == "structured" else TEXTS.reasoning,
    }
    prefill = TEXTS.prefill_structured if student == "structured" else TEXTS.prefill_think
    for context in CONTEXTS:
        content = list(slots)
        if context in wanted:
            text = wanted[context].replace("{question}", question).replace("{reference}", reference)
            content.append({"type": "text", "text": text})
        theirs = of_transformers(name, content)
        ours = prompts.render(context, images, question=question, reference=reference)
        body = len(ours.ids) - len(ours.prefill)
        assert list(ours.ids[:body]) == theirs["input_ids"][0].tolist()
        assert list(ours.mm_token_types[:body]) == theirs["mm_token_type_ids"][0].tolist()
        assert ours.ids[body:] == ours.prefill
        assert not any(ours.mm_token_types[body:])
        assert PROCESSORS[name].tokenizer.decode(ours.prefill) == prefill
        assert set(ours.features) == set(theirs) - {"input_ids", "attention_mask", "mm_token_type_ids"}
        assert all((ours.features[key] == theirs[key]).all() for key in ours.features)


@each_processor
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("student", ["structured", "think"])
def test_a_prompt_equals_that_of_the_chat_template(name: str, student: str, count: int):
    check_template(name, student, count, "What is it?", "a cube")


def test_the_perception_teacher_sees_no_text():
    ours = PROMPTERS["ordinary"].render("perception", IMAGES["ordinary"], question="q?", reference="r!")
    bare = PROMPTERS["ordinary"].render("perception", IMAGES["ordinary"])
    assert ours.ids == bare.ids
    alone = prompter(perception="no_prefill").render("perception", IMAGES["ordinary"])
    assert (*alone.ids, *bare.prefill) == bare.ids
    assert alone.prefill == ()


def test_features_are_computed_once():
    prompts = [PROMPTERS["ordinary"].render(context, IMAGES["ordinary"]) for context in CONTEXTS]
    assert len({id(prompt.features["pixel_values"]) for prompt in prompts}) == 1


def test_a_template_can_put_the_image_after_the_text():
    made = processor()

    class Behind:
        tokenizer = made.tokenizer

        def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
            parts = sorted(messages[0]["content"], key=lambda part: part["type"], reverse=True)
            return f"<|im_start|>{''.join(part.get('text', '<|image_pad|>') for part in parts)}<|im_end|>"

        def __call__(self, **kwargs: Any) -> Any:
            return made(**kwargs)

    prompts = Prompter(Behind(), TEXTS, RoutingConfig())
    got = prompts.render(STUDENT, prompts.encode(PICTURES), question="q")
    text = TEXTS.structured.replace("{question}", "q")
    slots = "<|image_pad|>" * (4 + 3)
    assert made.tokenizer.decode(got.ids) == f"<|im_start|>{text}{slots}<|im_end|><description>"
    image_pad = made.tokenizer.get_vocab()["<|image_pad|>"]
    assert list(got.mm_token_types) == [int(i == image_pad) for i in got.ids]


def test_white_space_around_images_is_tokenised_with_the_texts():
    """A template may write it; `.\\n` and ` What` are one token each in some vocabularies."""
    made = processor()

    class Spaced:
        tokenizer = made.tokenizer

        def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
            parts = (part.get("text", "\n<|image_pad|> ") for part in messages[0]["content"])
            return f"<|im_start|>{''.join(parts)}<|im_end|>"

        def __call__(self, **kwargs: Any) -> Any:
            return made(**kwargs)

    prompts = Prompter(Spaced(), PromptConfig(structured="{question}"), RoutingConfig())
    question = "Is it. <image> What? <image> Is it?"
    got = prompts.render(STUDENT, prompts.encode(PICTURES, (7, 21)), question=question)
    first, second = "<|image_pad|>" * 4, "<|image_pad|>" * 3
    text = f"<|im_start|>Is it. \n{first}  What? \n{second}  Is it?<|im_end|>"
    assert list(got.ids) == [*made.tokenizer(text)["input_ids"], *got.prefill]


def test_a_template_that_hides_the_text():
    class Hides:
        tokenizer = processor().tokenizer

        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            return "<|im_start|>"

    with pytest.raises(ConfigError, match="chat template"):
        Prompter(Hides(), TEXTS, RoutingConfig()).encode(())


@pytest.mark.parametrize("head", ["<|endoftext|>", ""])
def test_a_sequence_has_one_beginning_token(head: str):
    """This holds if the template writes the beginning-of-sequence token, and if the tokenizer does."""
    begins = byte_bpe(size=498)
    bos = begins.get_vocab()["<|endoftext|>"]
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    begins.bos_token = "<|endoftext|>"

    class Begins:
        tokenizer = begins

        def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
            return f"{head}user: {messages[0]['content'][0]['text']} assistant: "

        def __call__(self, text: list[str], images: None, **kwargs: Any) -> Any:
            return begins(text, **kwargs)

    prompts = Prompter(Begins(), TEXTS, RoutingConfig())
    got = prompts.render(STUDENT, prompts.encode(()), question="q")
    assert (got.ids[0], got.ids.count(bos), got.mm_token_types) == (bos, 1, ())


def test_rendering_is_fast():
    images, start = IMAGES["ordinary"], time.process_time()
    for _ in range(100):
        PROMPTERS["ordinary"].render("reasoning", images, question="What <|im_end|> is it?", reference="a")
    assert time.process_time() - start < 0.5


# ---- the teacher's sequence


def roll(name: str, turn: str, cut: bool = False, finished: bool = True) -> Rollout:
    """A rollout with `turn` after the student's pre-fill; with `cut`, tokenized one character at a time."""
    tokenizer = PROCESSORS[name].tokenizer
    prompt = PROMPTERS[name].render(STUDENT, IMAGES[name], question="q")
    pieces = list(turn) if cut else [turn]
    ids = [i for piece in pieces for i in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    ids += [tokenizer.eos_token_id] * finished
    text, ends = DECODERS[name].decode([*prompt.prefill, *ids])
    return Rollout("s", 0, prompt, tuple(ids), text, ends, finished)


turns = st.lists(
    st.sampled_from(("A cube.", "\n", " ", "</description>", "<think>", "</think>", "七", "\\boxed{1}")),
    max_size=9,
).map("".join)


def check_positions(prompts: Prompter, name: str, prompt: Prompt, rollout: Rollout) -> tuple[str, int]:
    """Check the teacher's sequence; returns the text of its turn and the number of sampled tokens in it."""
    ids, positions = prompts.teacher_sequence(prompt, rollout)
    held = [(i, at) for i, at in enumerate(positions) if at is not None]
    assert len(positions) == len(rollout.ids)
    assert all(ids[at] == rollout.ids[i] for i, at in held)
    first = len(positions) - len(held)
    assert held == [(i, len(ids) - len(positions) + i) for i in range(first, len(positions))]
    body = len(prompt.ids) - len(prompt.prefill)
    assert ids[:body] == prompt.ids[:body]
    return DECODERS[name].decode(ids[body:])[0], len(held)


def check_whole_turn(name: str, turn: str, cut: bool, context: str) -> None:
    """The teacher reads the student's turn, pre-fill included."""
    rollout = roll(name, turn, cut)
    prompt = PROMPTERS[name].render(context, IMAGES[name], question="q", reference="r")
    assert check_positions(PROMPTERS[name], name, prompt, rollout) == (rollout.text, len(rollout.ids))


@each_processor
@given(turn=turns, cut=st.booleans(), context=st.sampled_from(CONTEXTS))
def test_every_teacher_reads_the_whole_turn(name: str, turn: str, cut: bool, context: str):
    check_whole_turn(name, turn, cut, context)


def check_turn_from_think(name: str, turn: str, cut: bool, finished: bool) -> None:
    """The reasoning teacher's turn is `<think>` and the student's text after it.

    This also holds if a token crosses the border.
    """
    prompts, rollout = prompter(name, reasoning="think"), roll(name, turn, cut, finished)
    start = after_think(rollout.text)
    assume(start)
    assert start
    prompt = prompts.render("reasoning", IMAGES[name], question="q", reference="r")
    text, held = check_positions(prompts, name, prompt, rollout)
    assert text == "<think>" + rollout.text[start:]
    begins = (0, *rollout.ends)[len(rollout.prompt.prefill) : -1]
    assert held == sum(begin >= start for begin in begins)


@pytest.mark.slow
@each_processor
@given(turn=turns, cut=st.booleans(), finished=st.booleans())
@example(turn="a</description>\n<think>\n", cut=False, finished=False)
def test_the_reasoning_teachers_turn_starts_at_think(name: str, turn: str, cut: bool, finished: bool):
    check_turn_from_think(name, turn, cut, finished)


def test_only_the_reasoning_teacher_of_a_structured_turn_starts_at_think():
    rollout = roll("ordinary", "a</description><think>b</think>\\boxed{1}")
    prompts = prompter(reasoning="think")
    for context in ("fallback", "privileged", "perception"):
        prompt = prompts.render(context, IMAGES["ordinary"])
        assert check_positions(prompts, "ordinary", prompt, rollout)[1] == len(rollout.ids)
    plain = prompter(format="think", reasoning="think")
    prompt = plain.render("reasoning", IMAGES["ordinary"])
    assert check_positions(plain, "ordinary", prompt, rollout)[1] == len(rollout.ids)
    none = roll("ordinary", "no tag")
    prompt = prompts.render("reasoning", IMAGES["ordinary"])
    assert check_positions(prompts, "ordinary", prompt, none) == ("<description>no tag", len(none.ids))


@each_processor
@pytest.mark.parametrize("rest", ["b", "\nb", "\n\nb", " b"])
def test_the_authors_reasoning_teacher_reads_no_newline_of_the_tags_token(name: str, rest: str):
    """What is in one token with the end of `<think>` is read with `think`, and left out with `think_code`."""
    rollout = roll(name, f"a</description>\n<think>{rest}</think>\\boxed{{1}}")
    start = after_think(rollout.text)
    assert start
    begins = (0, *rollout.ends)[len(rollout.prompt.prefill) : -1]
    first = next(begin for begin in begins if begin >= start)
    texts = {}
    for prefix in ("think", "think_code"):
        prompts = prompter(name, reasoning=prefix)
        prompt = prompts.render("reasoning", IMAGES[name], question="q", reference="r")
        texts[prefix], _ = check_positions(prompts, name, prompt, rollout)
    assert texts["think"] == "<think>" + rollout.text[start:]
    assert texts["think_code"] == "<think>" + rollout.text[first:]


def test_the_fusing_tokenizer_joins_the_tag_and_the_newline():
    """Without such a token the test above would compare nothing."""
    rollout = roll("fusing", "a</description>\n<think>\nb</think>\\boxed{1}")
    start = after_think(rollout.text)
    assert start and start not in (0, *rollout.ends)


# ---- which template a teacher gets

WORDS = replace(TEXTS, templates={"mine": "{question} {reference}", "reference_alone": "Only {reference}"})


@pytest.mark.parametrize(
    ("told", "prompt", "form", "expected"),
    [
        ([], None, "structured", TEXTS.perception),
        (["question"], None, "structured", TEXTS.structured),
        (["question"], None, "think", TEXTS.think),
        (ANSWER, None, "structured", TEXTS.reference),
        (["question", {"column": "cue"}], None, "think", TEXTS.reasoning),
        (["solution"], None, "think", "Only {reference}"),
        (ANSWER, "mine", "think", "{question} {reference}"),
        (ANSWER, "reasoning", "structured", TEXTS.reasoning),
    ],
)
def test_a_teacher_gets_the_template_that_fits_what_it_is_told(told, prompt, form, expected):
    assert instruction("a", TeacherContext(told=told, prompt=prompt), form, WORDS) == expected


@pytest.mark.parametrize(
    ("told", "prompt", "words"),
    [
        (ANSWER, "resoning", "did you mean reasoning"),
        (["question"], "reasoning", "contains {reference}"),
        (["answer"], "reasoning", "contains {question}"),
        (ANSWER, "structured", "does not contain {reference}"),
        (ANSWER, "perception", "does not contain {question}"),
    ],
)
def test_a_template_that_does_not_fit_is_one_line(told, prompt, words):
    with pytest.raises(ConfigError, match=r"^routing\.teachers\.a") as found:
        instruction("a", TeacherContext(told=told, prompt=prompt), "structured", WORDS)
    assert words in str(found.value) and "\n" not in str(found.value)


def test_perception_without_prefill_reads_the_sampled_tokens_only():
    rollout, prompts = (
        roll("fusing", " A cube.</description>"),
        prompter("fusing", perception="no_prefill"),
    )
    prompt = prompts.render("perception", IMAGES["fusing"])
    assert check_positions(prompts, "fusing", prompt, rollout)[0] == " A cube.</description>"


# ---- the files and texts of a run


def test_a_prompt_file_replaces_texts(tmp_path: Path):
    assert load_prompts(TEXTS) == TEXTS
    path = tmp_path / "mine.yaml"
    path.write_text("think: 'Look: {question}'\n")
    got = load_prompts(
        PromptConfig(
            path=str(path),
            structured=TEXTS.structured,
            reasoning=TEXTS.reasoning,
            reference="{question} {reference}",
        )
    )
    assert (got.think, got.name, got.structured) == ("Look: {question}", "mine", TEXTS.structured)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strutured: '{question}'", "strutured: did you mean structured?"),
        ("path: elsewhere", "path: choose one of name, structured,"),
        ("7: x", "7: choose one of name,"),
        ("think: {question}", "think must be a text"),
        ("- plain", "must map"),
        ("think: 'no slot'", "prompt.think does not contain {question}"),
        ("think: '{question} {reference}'", "must not be seen"),
        ("think: 'a", "not YAML"),
        ("plain: a", "plain is now think"),
    ],
)
def test_mistakes_in_a_prompt_file_are_one_line(tmp_path: Path, text: str, message: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_prompts(PromptConfig(**{**TEXTS.__dict__, "path": str(path)}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_prompt_file_is_an_error():
    with pytest.raises(ConfigError, match="No such file"):
        load_prompts(PromptConfig(path="/nowhere.yaml"))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("red", "red"),
        (" \\boxed{\\frac{1}{2}} ", "\\frac{1}{2}"),
        ("<answer>B</answer>", "B"),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("so\n```\n<answer> \\boxed{4} </answer>\n```", "so\n\n 4"),
        ("", ""),
    ],
)
def test_reference_text(answer: str, text: str):
    sample = Sample("s", "q", answer, ())
    assert reference_text(sample) == text
    assert reference_text(sample, "solution") == text
    assert (
        reference_text(Sample("s", "q", answer, (), solution="1 + 1 = \\boxed{2}"), "solution") == "1 + 1 = 2"
    )
