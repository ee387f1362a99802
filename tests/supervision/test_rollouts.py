"""The completions of the control `sft`: the student's description, then the reference."""

from collections import Counter

from conftest import distill_config, make_student

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import prepare
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.types import Role


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
        assert {term.role for term in row.terms} == {Role.TARGET}
        assert len(row.rollout.ids) - 1 in taught, "the end of turn is learned"
