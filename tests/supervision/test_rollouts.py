"""The completions of the control `sft`: the student's description, then the reference."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from byte_bpe import processor
from conftest import distill_config, make_student

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.segments import DESCRIPTION_END
from vigos_cli.supervision.batches import prepare
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.rollouts import reference_completion, sample_rollouts
from vigos_cli.types import Sample


def test_sft_learns_the_solution_after_the_students_own_description():
    config = distill_config("routing=sft", "rollout.temperature=0.01")
    student = make_student()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    prepared = prepare(PriorWorld(size=8), enumerate(range(8)), prompter, config, Counter())
    for row in supervise_all(sample_rollouts(student, prepared, prompter, config, 0), prompter, config):
        assert row.segments.valid
        sample = next(item.sample for item in prepared if item.key == row.rollout.sample_id)
        assert row.segments.reasoning.strip() == sample.solution
        assert row.segments.answer == sample.answer
        taught = [i for term in row.terms for i in term.tokens]
        assert taught == sorted(set(taught)) or len(taught) == len(set(taught))
        assert {term.by for term in row.terms} == {"tokens"}
        assert len(row.rollout.ids) - 1 in taught, "the end of turn is learned"


@pytest.mark.parametrize("fusing", [True, False])
@pytest.mark.parametrize("rest", ["", "<think>b", "\n<think>b", ". <think>b"])
def test_the_reference_follows_the_tag_also_if_a_token_holds_more_than_the_tag(fusing: bool, rest: str):
    made: Any = processor(fusing)
    stop = made.tokenizer.eos_token_id
    student: Any = SimpleNamespace(tokenizer=made.tokenizer, stop_ids=frozenset({stop}))
    config = distill_config()
    prompter = Prompter(made, config.prompt, config.routing)
    prompt = prompter.render(STUDENT, prompter.encode(()), question="q")
    ids = (*made.tokenizer(f"A cube.{DESCRIPTION_END}{rest}")["input_ids"], stop)
    item: Any = SimpleNamespace(sample=Sample("s", "q", "red", (), solution="It is red."))
    got = reference_completion(student, prompter, item, as_rollout(student, Request("s", prompt), ids))
    assert got.text == "<description>A cube.</description> <think> It is red. </think> \\boxed{red}"
