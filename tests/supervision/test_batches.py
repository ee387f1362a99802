"""Each pass has every row once, with or without the thread; `other_answer` gives only wrong answers."""

from collections import Counter

from conftest import distill_config, make_student

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches, batch_indices, prepare, rows_of_steps
from vigos_cli.supervision.siblings import Group
from vigos_cli.supervision.told import told_texts


def test_the_control_other_answer_gives_only_wrong_answers():
    config = distill_config("routing=other_answer")
    student = make_student()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    for item in prepare(PriorWorld(size=40), enumerate(range(40)), prompter, config, Counter()):
        for teacher in (config.routing.teachers[name] for name in ("reasoning", "fallback")):
            told = told_texts(teacher, item, Group(), config.routing)
            assert told.question == item.sample.question
            assert told.reference and told.reference != item.sample.answer


def test_each_pass_has_every_row_once_in_a_new_order():
    config = distill_config("trainer.batch=8")
    first = [i for step in range(3) for i in batch_indices(config, 24, step)]
    second = [i for step in range(3, 6) for i in batch_indices(config, 24, step)]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    assert rows_of_steps(config, 24, 2) == sorted(first[:16])
    assert rows_of_steps(config, 24, 3) == rows_of_steps(config, 24, 9) == list(range(24))
    across = batch_indices(distill_config("trainer.batch=10"), 24, 2)
    assert len(across) == 10, "a batch may span two passes"
    assert len(batch_indices(distill_config("trainer.batch=8", "rollout.n=4"), 24, 0)) == 2


def test_prefetched_batches_are_the_same(tiny):
    config = distill_config("trainer.batch=3")
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    data = PriorWorld(size=8)
    now, ahead = (Batches(data, prompter, config, ahead=ahead) for ahead in (False, True))
    for step in (0, 1, 2, 5, 1):  # in order, then as after a resume
        one, two = now.at(step), ahead.at(step)
        assert [item.prompt.ids for item in one[0]] == [item.prompt.ids for item in two[0]]
        assert one[1] == two[1] and len(one[0]) == 3
