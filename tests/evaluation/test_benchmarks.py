"""For each benchmark: rows to samples, prompts, and verdicts on responses, with the difficult cases."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_fixtures as data
import pytest
from bench_fixtures import BLUE, GREEN, RED, cell, colour_of

from vigos_cli.config.compose import job
from vigos_cli.data.image_marks import split_at_marks
from vigos_cli.data.images import BadRow
from vigos_cli.evaluation import registry, row_parsing
from vigos_cli.evaluation.benchmarks import vilp
from vigos_cli.evaluation.benchmarks.mmvet import MMVet
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.grading import question_options
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import ConfigError, UserError

ROWS = data.ROWS
PICTURES = {  # the picture column, which every row needs
    "mathvista": "decoded_image", "mmmu": "image_1", "mmmu_pro": "image_1", "mmmu_pro_vision": "image",
    "mathverse": "image", "mmvet": "image", "mmsi": "images", "realworldqa": "image", "cvbench": "image",
    "vilp_f": "image2", "hallusion": "image", "mathvision": "decoded_image",
}  # fmt: skip


def samples(
    name: str, reader: RowReader | None = None, rows: Sequence[Any] | None = None
) -> dict[str, Sample]:
    found = list(registry.get(name).samples(ROWS[name] if rows is None else rows, reader))
    assert len({sample.id for sample in found}) == len(found)
    return {sample.id: sample for sample in found}


def verdict(name: str, item: str, response: str, scorer: str = "ours") -> str:
    return registry.get(name).grade(samples(name)[item], response, scorer).verdict


def colours(sample: Sample) -> list[tuple[int, ...]]:
    return [colour_of(image) for image in sample.images]


# ---------------------------------------------------------------- every benchmark


@pytest.mark.parametrize("name", ROWS)
def test_no_prompt_contains_an_image_mark_or_none(name: str):
    bench = registry.get(name)
    for sample in samples(name).values():
        prompt = bench.prompt(sample)
        text = "".join(split_at_marks(prompt, sample.places))
        assert text and "<image" not in text and "None" not in text
        assert prompt == prompt.strip()


QUESTION = {"cvbench": "prompt", "plain": "problem"}  # the column of the question, if it has another name


@pytest.mark.parametrize("name", [name for name in ROWS if name != "mmmu_pro_vision"])
@pytest.mark.parametrize("mark", ["<image 1>", "<image1>", "<image_1>"])
def test_a_numbered_mark_becomes_text_in_every_benchmark(name: str, mark: str):
    column = QUESTION.get(name, "question")
    row = {**ROWS[name][0], column: f"{ROWS[name][0][column]} Look at {mark} again."}
    prompts = [registry.get(name).prompt(sample) for sample in samples(name, None, [row]).values()]
    assert prompts and all("Look at [image 1] again." in prompt for prompt in prompts)
    assert not any("<image" in prompt for prompt in prompts)


@pytest.mark.parametrize("name", ROWS)
def test_saved_responses_are_graded_without_pictures(name: str):
    rows = [{k: v for k, v in row.items() if "image" not in k or k == "image_id"} for row in ROWS[name]]
    blind = samples(name, RowReader(images=False), rows)
    seen = samples(name)
    assert list(blind) == list(seen)
    assert all(not sample.images for sample in blind.values())
    bench = registry.get(name)
    assert [bench.prompt(s) for s in blind.values()] == [bench.prompt(s) for s in seen.values()]


@pytest.mark.parametrize("name", PICTURES)
def test_a_missing_picture_is_an_error_that_names_the_item(name: str):
    first = next(iter(samples(name).values())).id
    row = {**ROWS[name][0], PICTURES[name]: None}
    with pytest.raises(
        UserError, match=rf"^{name}, item .*(missing image|image not found|refers to image)"
    ) as error:
        samples(name, None, [row])
    assert first.split(":")[0] in str(error.value)


@pytest.mark.parametrize("name", PICTURES)
def test_an_unreadable_picture_is_an_error_too(name: str):
    column = PICTURES[name]
    broken: Any = [b"no picture"] if column == "images" else {"bytes": b"no picture", "path": None}
    with pytest.raises(UserError, match="image unreadable"):
        samples(name, None, [{**ROWS[name][0], column: broken}])


@pytest.mark.parametrize("name", ROWS)
def test_an_empty_answer_is_never_right(name: str):
    bench = registry.get(name)
    for sample in samples(name).values():
        for response in ("", "   ", "<think>I wonder", r"\boxed{}"):
            assert bench.grade(sample, response).verdict == "unparsed"


@pytest.mark.parametrize("name", [*ROWS, "vlind", "easyvqa"])
def test_each_benchmark_is_registered_and_its_option_names_the_data(name: str):
    bench = registry.get(name)
    assert bench.name == name
    assert (data.task_of(name).hub is None) == (name in ("plain", "easyvqa"))
    assert bench.columns or name == "plain"  # its rows are questions with answers, or conversations


def test_a_combined_option_contains_the_single_ones_and_keys_can_be_set():
    config: Any = job("eval", ["bench=paper", "bench.tasks.mathvista.hub=me/copy"])
    tasks = config.bench.tasks
    assert list(tasks) == [
        *("mathvista", "mmmu", "mmmu_pro", "mmmu_pro_vision", "mathverse", "mmvet"),
        *("mmsi", "realworldqa", "cvbench", "vilp_f", "vilp_p"),
    ]
    assert tasks["mathvista"] == data.task_of("mathvista", hub="me/copy")
    assert all(task == data.task_of(name) for name, task in tasks.items() if name != "mathvista")


@pytest.mark.slow
def test_each_part_of_mmmu_pro_has_an_option_of_its_own():
    parts = {"mmmu_pro_standard": ["mmmu_pro"], "mmmu_pro_vision": ["mmmu_pro_vision"]}
    for option, names in {**parts, "mmmu_pro": ["mmmu_pro", "mmmu_pro_vision"]}.items():
        config: Any = job("eval", [f"bench={option}"])
        assert list(config.bench.tasks) == names
        assert all(config.bench.tasks[name] == data.task_of(name) for name in names)


def test_benchmarks_with_a_different_official_rule_have_it():
    official = {name for name in (*ROWS, "vlind", "easyvqa") if registry.get(name).official}
    assert official == {
        "mathvista", "mmmu", "mmmu_pro", "mmmu_pro_vision", "hallusion", "vilp_f", "vilp_p",
    }  # fmt: skip


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean mathvista"):
        registry.get("mathvist")


# ---------------------------------------------------------------- mathvista


def test_mathvista_choices_that_look_like_letters():
    prompt = registry.get("mathvista").prompt(samples("mathvista")["168"])
    assert "(A) (c)\n(B) (a)\n(C) (e)\n(D) (d)\n(E) (b)\nThe answer is the letter before one option" in prompt
    assert verdict("mathvista", "168", "(b)") == "right"  # the text of the choice
    assert verdict("mathvista", "168", "E") == "right"  # the label of that choice
    assert verdict("mathvista", "168", r"\boxed{(E)}") == "right"
    assert verdict("mathvista", "168", "B") == "wrong"  # the label of `(a)`
    assert verdict("mathvista", "168", "(e)") == "wrong"


def test_mathvista_a_duplicate_of_the_right_choice_is_right():
    for response in ("C", "D", "50", "(D) 50"):
        assert verdict("mathvista", "740", response) == "right", response
    assert verdict("mathvista", "740", "A") == "wrong"


def test_mathvista_unparsed_choices_are_guessed_only_by_the_official_rule():
    assert verdict("mathvista", "2", "I cannot tell from this picture.") == "unparsed"
    official = registry.get("mathvista").grade(samples("mathvista")["2"], "", "official")
    assert (official.verdict, official.extracted) == ("wrong", "35°")  # the shortest choice is nearest to ""
    assert verdict("mathvista", "2", "125", "official") == "right"


def test_mathvista_numbers_are_rounded_and_our_rule_reads_separators():
    assert verdict("mathvista", "1", "1.2 g") == "right"
    assert verdict("mathvista", "1", "1.2") == "right"
    assert verdict("mathvista", "1", "1.4") == "wrong"
    assert verdict("mathvista", "1", "1200 mg") == "right"  # the gold answer has the item's unit
    assert verdict("mathvista", "1", "1.2 kg") == "wrong"
    assert verdict("mathvista", "7", "3,000") == "right"
    assert verdict("mathvista", "7", "3,000", "official") == "wrong"  # float() reads no separators
    assert verdict("mathvista", "506", "2014, 2016") == "right"
    assert verdict("mathvista", "506", "2014, 2016", "official") == "wrong"


def test_mathvista_the_official_rule_gets_an_answer_that_was_extracted_once():
    assert verdict("mathvista", "7", "The answer is 3000.", "official") == "right"
    assert verdict("mathvista", "7", r"\boxed{3000}", "official") == "right"
    assert verdict("mathvista", "7", r"\boxed{The answer is 3000.}", "official") == "wrong"  # no float()


def test_mathvista_hints_name_the_form_of_the_answer():
    bench, items = registry.get("mathvista"), samples("mathvista")
    assert "(unit: g)" in bench.prompt(items["1"]) and "1 decimal place." in bench.prompt(items["1"])
    assert "an integer" in bench.prompt(items["7"])
    assert "Python list" in bench.prompt(items["506"])
    assert bench.chance(items["2"]) == 1 / 3
    assert bench.chance(items["7"]) is None


@pytest.mark.parametrize(
    "precision, hint",
    [
        (0.0, "an integer, such as"), ("2.0", "2 decimal places."), (None, "is a number."),
        ("None", "is a number."), ("", "is a number."), (float("nan"), "is a number."),
        (float("inf"), "is a number."),
    ],
)  # fmt: skip
def test_mathvista_an_invalid_precision(precision: Any, hint: str):
    row = data.mathvista("1", "free_form", "float", precision=precision, answer="1.2")
    (item,) = samples("mathvista", None, [row]).values()
    assert hint in registry.get("mathvista").prompt(item)


def test_mathvista_columns_as_stored_in_tables():
    known = data.MATHVISTA[0]["metadata"]
    rows = [
        data.mathvista(
            "1", choices=["red", None, "blue", float("nan")], answer="blue", metadata=json.dumps(known)
        ),
        data.mathvista("2", "free_form", choices=float("nan"), answer="red", metadata="{'task': 'no JSON'}"),
        data.mathvista("3", "free_form", answer="red", metadata=float("nan")),
    ]
    items = samples("mathvista", None, rows)
    assert items["1"].options == ("red", "blue") and items["2"].options == ()
    assert [item.fields["task"] for item in items.values()] == [known["task"], "unknown", "unknown"]
    assert items["1"].fields["skills"] == tuple(known["skills"])


# ---------------------------------------------------------------- mmmu


def test_mmmu_malformed_rows_are_counted_and_nothing_is_evaluated():
    reader = RowReader()
    assert len(samples("mmmu", reader)) == 4
    assert reader.left_out == {
        "options_unreadable": ["validation_Music_5"],
        "answer_not_an_option": ["validation_Music_6"],
    }


def test_mmmu_pictures_come_in_the_order_of_their_columns():
    sample = samples("mmmu")["validation_Art_Theory_2"]
    assert sample.question == "Compare [image 2] with [image 1], and [image 2] again."
    assert sample.options == ("[image 3]", "neither")
    assert colours(sample) == [RED, GREEN, BLUE]


def test_mmmu_a_mark_has_the_number_of_its_picture_as_the_model_sees_it():
    row = data.mmmu(
        "validation_Art_1", "See <image 2>.", "['<image 4>', 'b']", "A", "red", "green", None, "blue"
    )
    for reader in (None, RowReader(images=False)):
        sample = samples("mmmu", reader, [row])["validation_Art_1"]
        assert (sample.question, sample.options) == ("See [image 2].", ("[image 3]", "b"))
    assert colours(samples("mmmu", None, [row])["validation_Art_1"]) == [RED, GREEN, BLUE]


@pytest.mark.parametrize(
    "question, shown",
    [
        ("<image 1> is a symbol of", "[image 1] is a symbol of"),
        ("The artist who made <image 1>", "The artist who made [image 1]"),
        ("What is the style of <image 1>?<image 1>", "What is the style of [image 1]?[image 1]"),
        ("<image1>\nWhich?", "[image 1]\nWhich?"),
    ],
)
@pytest.mark.parametrize("name", ["mmmu", "mmmu_pro", "mathvision", "plain"])
def test_a_numbered_mark_stays_in_its_sentence(name: str, question: str, shown: str):
    row = data.mmmu("a_1", question, "['war', 'peace']", "A", "red", subject="Art")
    if name == "mathvision":
        row = data.mathvision("a_1", question, ["war", "peace"], "A")
    (sample,) = samples(name, None, [row]).values()
    assert registry.get(name).prompt(sample).startswith(f"{shown}\n(A) war")


def test_mmmu_a_mark_without_its_picture_is_an_error():
    row = data.mmmu("validation_Art_1", "See <image 2>.", "['a', 'b']", "A", "red")
    with pytest.raises(UserError, match="item validation_Art_1: refers to image 2"):
        samples("mmmu", None, [row])
    (sample,) = samples("mmmu", RowReader(images=False), [row]).values()  # saved responses need no pictures
    assert sample.question == "See [image 2]."


def test_mmmu_gold_lists_letters_to_i_and_subjects():
    items = samples("mmmu")
    assert verdict("mmmu", "validation_Math_3", "1.06") == "right"
    assert verdict("mmmu", "validation_Math_3", "about 1.0600") == "right"
    assert verdict("mmmu", "validation_Math_3", "1.6") == "wrong"
    assert verdict("mmmu", "validation_Biology_4", "(I)") == "right"
    assert verdict("mmmu", "validation_Biology_4", "part i") == "right"
    assert items["validation_Art_Theory_2"].family == "Art_Theory"
    assert items["validation_Accounting_1"].options == ("$6", "$7", "it's $8")
    assert items["validation_Accounting_1"].question == "[image 1] What is the cost?"


def test_mmmu_official_reads_the_whole_response():
    response = "I would say (A). No, it must be (B)"
    assert verdict("mmmu", "validation_Accounting_1", response, "official") == "right"
    assert verdict("mmmu", "validation_Accounting_1", "hm", "official") == "unparsed"  # official: random
    assert verdict("mmmu", "validation_Math_3", "So it is 1.06.", "official") == "right"
    text = "After a long look I would say [image 3]"  # an option as the prompt shows it
    assert verdict("mmmu", "validation_Art_Theory_2", text, "official") == "right"


@pytest.mark.parametrize(
    "response, expected",
    [
        (r"It costs 7, so \boxed{B}", "right"), ("<answer>B</answer>", "right"),
        ("<think>(A) is out</think>\\boxed{B}", "right"), ("<think>(B)?</think>So it is (A)", "wrong"),
        ("<think>(B) is it", "unparsed"), (r"(B) \boxed{}", "unparsed"),
    ],
)  # fmt: skip
def test_official_rules_get_the_answer_of_a_structured_response(response: str, expected: str):
    assert verdict("mmmu", "validation_Accounting_1", response, "official") == expected
    assert verdict("mmmu_pro_vision", "test_History_1", response, "official") == expected


def test_mmmu_pro_official_reads_the_last_line():
    response = "(B) and (C) are out, it is (D)?\nAnswer: L"
    assert verdict("mmmu_pro", "test_Art_2", response, "official") == "right"
    assert verdict("mmmu_pro_vision", "test_History_1", "(A) no.\nAnswer: B", "official") == "right"
    structured = "<think>Answer: A</think>(A)? No.\nAnswer: B"
    assert verdict("mmmu_pro_vision", "test_History_1", structured, "official") == "right"


def test_mmmu_pro_has_1_to_12_options_and_a_last_line():
    assert verdict("mmmu_pro", "test_History_1", "A") == "right"
    assert registry.get("mmmu_pro").chance(samples("mmmu_pro")["test_History_1"]) == 1
    assert verdict("mmmu_pro", "test_Art_2", "It could be (B).\nAnswer: L") == "right"
    assert verdict("mmmu_pro", "test_Art_2", "Answer: A") == "wrong"  # A is the label of the option `l`
    assert colours(samples("mmmu_pro")["test_Art_2"]) == [RED, GREEN]


def test_mmmu_pro_vision_has_the_question_only_in_the_picture():
    sample = samples("mmmu_pro_vision")["test_History_1"]
    prompt = registry.get("mmmu_pro_vision").prompt(sample)
    assert "red" not in prompt and "(A)" not in prompt and "letter" in prompt
    assert verdict("mmmu_pro_vision", "test_History_1", "Answer: B") == "right"
    assert verdict("mmmu_pro_vision", "test_History_1", "blue") == "right"


# ---------------------------------------------------------------- mathverse


def test_mathverse_versions_share_a_cluster_and_vision_only_has_no_text():
    items = samples("mathverse")
    assert {items[str(i)].group for i in range(6, 11)} == {"2"}
    only = items["10"]
    prompt = registry.get("mathverse").prompt(only)
    assert only.question == "" and "60" not in prompt and "image" in prompt
    assert only.options == ("50°", "60°", "65°", "90°")
    for item in ("6", "7", "8", "9", "10"):
        assert verdict("mathverse", item, "C") == "right"
        assert verdict("mathverse", item, "65°") == "right"
        assert verdict("mathverse", item, "B") == "wrong"


def test_mathverse_rows_with_missing_text_are_counted():
    reader = RowReader()
    row = data.mathverse(1, 1, "Text Dominant", "", "C", question_for_eval=data.ANGLE)
    assert not samples("mathverse", reader, [row])
    assert reader.left_out == {"missing_question": ["1"]}


def test_mathverse_untidy_gold_answers():
    assert verdict("mathverse", "11", "C and D") == "right"
    assert verdict("mathverse", "11", "(D), (C)") == "right"
    assert verdict("mathverse", "11", "C") == "wrong"
    assert verdict("mathverse", "11", "the third") == "unparsed"
    assert verdict("mathverse", "11", r"\boxed{\text{C and D}}") == "right"
    assert verdict("mathverse", "11", r"**$\mathrm{C}$, D**") == "right"
    assert verdict("mathverse", "16", "The answer is y = x^2 + 1.") == "right"
    assert verdict("mathverse", "21", "Between 2 and 4 seconds.") == "right"


def test_mathverse_asks_for_all_letters_if_several_are_right():
    bench, items = registry.get("mathverse"), samples("mathverse")
    assert bench.prompt(items["11"]).endswith("The answer is the letters of all options that are right.")
    assert bench.prompt(items["6"]).endswith("The answer is the letter of one option.")
    assert "letter" not in bench.prompt(items["16"])


def test_mathverse_metadata_as_text():
    row = data.mathverse(1, 1, "Text Lite", data.ANGLE, "C", metadata='{"subject": "Functions"}')
    assert samples("mathverse", None, [row])["1"].family == "Functions"


def test_mathverse_text_only_has_no_picture_by_design():
    (sample,) = samples("mathverse_text_only").values()
    assert sample.images == () and "angle 2" in sample.question


# ---------------------------------------------------------------- mmvet, mmsi, realworldqa, cvbench


def test_mmvet_needs_a_judge_and_uses_its_score():
    bench, items = registry.get("mmvet"), list(samples("mmvet").values())
    assert isinstance(bench, MMVet)
    given = bench.grade(items[0], "-1 and -5")
    assert (given.verdict, given.reason) == ("unparsed", "needs a judge")
    assert bench.needs_judge and bench.golds(items[0]) == ("-1<AND>-5",)
    nothing = bench.summarise([Graded(item, 0, given) for item in items])
    assert nothing["score"] is None and nothing["judged"] == 0 and "judge" in nothing["note"]
    scores = (0.5, 1.0, None)  # of {ocr, math}, {know, rec}, {ocr}
    figures = bench.summarise([Graded(i, 0, given, score) for i, score in zip(items, scores, strict=True)])
    assert figures["judged"] == 2 and figures["unjudged"] == 1
    assert figures["score"]["mean"] == 0.75
    assert {name: figure["mean"] for name, figure in figures["capability"].items()} == {
        "ocr": 0.5, "math": 0.5, "know": 1.0, "rec": 1.0,
    }  # fmt: skip


def test_mmvet_an_item_without_a_response_scores_zero():
    bench, items = registry.get("mmvet"), list(samples("mmvet").values())
    given = bench.grade(items[0], "-1 and -5")
    missing = Verdict("unparsed", None, "missing", "no response to this item")
    graded = [Graded(items[0], 0, given, 1.0), Graded(items[1], 0, missing), Graded(items[2], 0, given)]
    figures = bench.summarise(graded)
    assert (figures["judged"], figures["unjudged"]) == (1, 1)
    assert (figures["score"]["mean"], figures["score"]["n"]) == (0.5, 2)
    assert figures["capability"]["know"]["mean"] == 0 and figures["capability"]["ocr"]["mean"] == 1
    unjudged = bench.summarise([Graded(one.sample, 0, one.verdict) for one in graded])
    assert (unjudged["score"]["mean"], unjudged["score"]["n"], unjudged["judged"]) == (0, 1, 0)


def test_mmsi_shows_all_pictures_and_reads_a_letter_in_backticks():
    sample = samples("mmsi")["0"]
    assert colours(sample) == [RED, GREEN, BLUE]
    assert sample.options == ("To the north, or nearly so", "Southwest", "Northwest", "Southeast")
    for response in ("`B`", "``B``", "Answer: `B`", "B", "southwest", r"\boxed{B}"):
        assert verdict("mmsi", "0", response) == "right", response
    assert verdict("mmsi", "0", "`C`") == "wrong"
    assert {s.family for s in samples("mmsi").values()} == {
        "Positional Relationship (Cam.-Cam.)",
        "Motion (Cam.)",
    }


def test_mmsi_without_readable_options_is_still_a_choice_of_four():
    row = data.mmsi(7, "B", question="Options as pictures?")
    (sample,) = samples("mmsi", None, [row]).values()
    bench = registry.get("mmsi")
    assert bench.chance(sample) == 0.25
    assert bench.grade(sample, "`B`").verdict == "right"
    assert bench.grade(sample, "`D`").verdict == "wrong"


def test_realworldqa_letters_numbers_and_words():
    items = samples("realworldqa")
    assert items["0"].options == ("Left", "Straight", "Right")
    assert registry.get("realworldqa").prompt(items["0"]) == data.REALWORLDQA[0]["question"]
    assert verdict("realworldqa", "0", "C.") == "right"
    assert verdict("realworldqa", "0", "Right") == "right"
    assert verdict("realworldqa", "0", "A") == "wrong"
    assert verdict("realworldqa", "1", "two") == "right"
    assert verdict("realworldqa", "1", "3") == "wrong"
    assert verdict("realworldqa", "2", "yes") == "right"
    assert registry.get("realworldqa").chance(items["1"]) is None


def test_realworldqa_a_gold_answer_that_is_the_text_of_an_option():
    rows = [
        {
            **data.REALWORLDQA[0],
            "question": "Which slope?\n\nA. Uphill\nB. Downhill\nC. Flat",
            "answer": "Uphill",
        },
        {**data.REALWORLDQA[0], "question": "Who may pass?\nA. All\nB Only cars\nC. None", "answer": "B"},
        {**data.REALWORLDQA[0], "question": "Which?\nA. Left\nB. Right", "answer": "C"},
        {**data.REALWORLDQA[0], "question": "Which?\nA. Left.\nB. Right.", "answer": "right."},
    ]
    bench, items = registry.get("realworldqa"), list(samples("realworldqa", None, rows).values())
    assert [item.answer for item in items] == ["A", "B", "C", "B"]
    assert [item.options for item in items][1:3] == [("All", "Only cars", "None"), ()]
    for item, right, wrong in zip(items[:2], ("A", "B"), ("B", "C"), strict=True):
        text = item.options[ord(right) - ord("A")]
        assert {bench.grade(item, said).verdict for said in (right, f"{right}.", text)} == {"right"}
        assert bench.grade(item, wrong).verdict == "wrong"
    assert bench.chance(items[0]) == 1 / 3


def test_cvbench_uses_its_own_prompt():
    items = samples("cvbench")
    assert registry.get("cvbench").prompt(items["0"]) == data.CVBENCH[0]["prompt"]
    assert verdict("cvbench", "0", "(C)") == "right"
    assert verdict("cvbench", "0", "1") == "right"  # the option's text, not the first option
    assert verdict("cvbench", "0", "(A) 2") == "wrong"
    reader = RowReader()
    assert not samples("cvbench", reader, [{**data.CVBENCH[0], "source": "KITTI"}])
    assert reader.left_out == {"unknown_source": ["row 0"]}  # idx 0 alone does not identify the row


# ---------------------------------------------------------------- vilp


def test_vilp_a_row_gives_three_items_with_their_prior():
    items = samples("vilp_f")
    assert list(items) == ["0:1", "0:2", "0:3", "1:1", "1:2", "1:3"]
    assert [colours(items[f"0:{i}"])[0] for i in (1, 2, 3)] == [RED, GREEN, BLUE]
    assert {item.group for item in items.values()} == {"0", "1"}
    prior = items["0:2"].prior
    assert prior and (prior.usual, prior.agrees, prior.fact_stated) == ("water", False, True)
    first = items["0:1"].prior
    assert first and first.agrees


def test_vilp_p_leaves_the_first_sentence_out():
    facts, plain = samples("vilp_f"), samples("vilp_p")
    assert facts["0:1"].question.startswith("Fish live in 3.5 metres")
    assert plain["0:1"].question == "From the image, where is the fish?"
    assert plain["1:1"].question == "How many legs does the dog have?"  # the question has only one sentence
    prior = plain["0:1"].prior
    assert prior and not prior.fact_stated


@pytest.mark.parametrize(
    "one, other",
    [
        ("Two leaves", "2 leaf"), ("The fridge.", "refrigerator"), ("Butterflies", "butterfly"), ("six", "6"),
        ("boxes", "box"), ("a TV", "television"), ("Mice", "mouse"), ("donuts", "doughnut"), ("Six!", "6"),
        ("cookies", "cookie"), ("movies", "movie"), ("buses", "bus"), ("tomatoes", "tomato"),
        ("potatoes", "potato"), ("octopuses", "octopus"), ("octopi", "octopus"), ("calves", "calf"),
        ("knives", "knife"), ("leaves", "leafs"), ("axes", "axe"), ("lenses", "lens"), ("dishes", "dish"),
        ("ponies", "pony"), ("glasses", "glass"), ("shoes", "shoe"), ("dominoes", "domino"),
        ("vases", "vase"), ("gases", "gas"), ("ships", "a boat"), ("cars", "automobiles"), ("emus", "emu"),
        (r"\text{tree}", "tree"), (r"\textbf{Tree}", "trees"), (r"$\mathrm{tree}$", "tree"),
        ("$tree$", "tree"), ("“tree”", "tree"), ("‘Trees’", "tree"), ("**a tree**", "tree"),
    ],
)  # fmt: skip
def test_vilp_words_that_count_as_the_same(one: str, other: str):
    assert vilp.same_words(one, other) and vilp.same_words(other, one)


@pytest.mark.parametrize(
    "one, other",
    [
        ("bus", "bu"), ("lens", "len"), ("gas", "ga"), ("six", "sixteen"), ("cat", "dog"), ("red car", "car"),
        ("planes", "plan"), ("caves", "cafe"), ("princes", "princess"), ("", ""), (".", "tree"),
    ],
)  # fmt: skip
def test_vilp_words_that_count_as_different(one: str, other: str):
    assert not vilp.same_words(one, other) and not vilp.same_words(other, one)


def test_vilp_grades_by_the_rule():
    assert verdict("vilp_f", "0:3", "<answer>two leafs</answer>") == "right"
    assert verdict("vilp_f", "1:2", "six") == "right"
    assert verdict("vilp_f", "1:2", "four") == "wrong"
    assert verdict("vilp_f", "1:3", "Two.") == "right"
    assert verdict("vilp_f", "0:2", r"\boxed{\text{trees}}") == "right"


@pytest.mark.parametrize(
    "gold, response, ours, official",
    [
        ("glass", "glasses", "right", "wrong"), ("glass", "Crystal.", "wrong", "right"),
        ("glasses", "goggles", "wrong", "right"), ("cube", "a square", "wrong", "wrong"),
        ("cube", "Square", "wrong", "right"), ("tables", "table", "right", "wrong"),
        ("Two", "2", "right", "right"), ("tree", r"\boxed{Trees}", "right", "right"),
        ("none", "None", "right", "wrong"), ("U.S.A.", "usa", "wrong", "wrong"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["vilp_f", "vilp_p"])
def test_vilp_by_our_rule_and_by_the_official_tables(
    name: str, gold: str, response: str, ours: str, official: str
):
    item = samples(name, None, [data.vilp("What is it?", gold, "b", "c")])["0:1"]
    bench = registry.get(name)
    assert bench.grade(item, response).verdict == ours
    assert bench.grade(item, response, "official").verdict == official
    assert bench.grade(item, "", "official").verdict == "unparsed"


# ---------------------------------------------------------------- vlind, hallusion


@pytest.fixture
def vlind_items(tmp_path: Path) -> dict[str, Sample]:
    data.write_vlind(tmp_path)
    return samples("vlind", RowReader(tmp_path / "VLind-Bench Dataset"), data.VLIND)


def test_vlind_asks_six_questions_and_two_for_each_good_picture(vlind_items: dict[str, Sample]):
    first = [name for name in vlind_items if name.startswith("0:")]
    assert first == [
        "0:a1:0", "0:a2:0", "0:b1:0", "0:b2:0", "0:c1:0", "0:c2:0", "0:d1:0", "0:d2:0", "0:d1:4", "0:d2:4",
    ]  # fmt: skip
    assert not [name for name in vlind_items if name.startswith("1:")]  # no picture has two votes
    assert len([name for name in vlind_items if name.startswith("2:")]) == 8
    red, green = vlind_items["0:a1:0"].images[0], vlind_items["0:d1:4"].images[0]
    assert colour_of(red)[0] > 200 and colour_of(green)[0] < 50
    assert vlind_items["2:b1:2"].group == "2"


def test_vlind_statements_and_the_basis_for_their_truth(vlind_items: dict[str, Sample]):
    bench = registry.get("vlind")
    prompts = {name[2:4]: bench.prompt(vlind_items[name]) for name in vlind_items if name.startswith("2:")}
    golds = {name[2:4]: vlind_items[name].answer for name in vlind_items if name.startswith("2:")}
    assert golds == {f"{stage}{i}": answer for stage in "abcd" for i, answer in ((1, "true"), (2, "false"))}
    # by common sense the counterfactual statement is the false one; by context and picture it is true
    assert "ice" in prompts["a1"] and "desert" in prompts["a2"] and "common sense" in prompts["a1"]
    assert "polar bear in the image" in prompts["b1"] and "snow in the image" in prompts["b2"]
    assert prompts["c1"].startswith(
        "Context: Polar bears in the desert\nStatement: Polar bears live in the desert"
    )
    assert "Context" not in prompts["d1"] and "aside" in prompts["d1"] and "desert" in prompts["d1"]


@pytest.mark.parametrize(
    "response, expected",
    [
        ("True", "right"), ("true.", "right"), ("The statement is true", "right"), ("False", "wrong"),
        ("True or false?", "unparsed"), ("It is not true", "unparsed"), ("maybe", "unparsed"),
        ("False or true? True.", "right"), ("True/False: False", "wrong"), ("False / True: true", "right"),
        ("true, or false: it is true", "right"), ("True or false: it is not true", "unparsed"),
        ("true/false", "unparsed"), ("True, or rather false", "right"),
        ("it is either true or false", "unparsed"), (r"\boxed{True}", "right"), ("isn't true", "unparsed"),
    ],
)  # fmt: skip
def test_vlind_reads_true_and_false(vlind_items: dict[str, Sample], response: str, expected: str):
    assert registry.get("vlind").grade(vlind_items["0:d1:0"], response).verdict == expected


def test_vlind_a_missing_picture_is_an_error_that_names_the_item(tmp_path: Path):
    with pytest.raises(UserError, match="vlind, item 0:a1:0: image not found"):
        samples("vlind", RowReader(tmp_path), data.VLIND)


def test_hallusion_questions_with_a_figure_are_asked_with_it():
    items = samples("hallusion")
    assert [name for name, item in items.items() if not item.images] == ["VS_chart_0_0_0"]
    assert items["VD_figure_0_0_1"].group == "VD_figure_0"
    assert items["VS_chart_0_1_0"].answer == "yes" and items["VD_figure_0_0_0"].answer == "no"
    assert verdict("hallusion", "VS_chart_0_1_0", "Yes, they are the same size, no doubt.") == "right"
    assert verdict("hallusion", "VS_chart_0_1_0", "No.") == "wrong"
    assert verdict("hallusion", "VS_chart_0_1_0", "It is unclear.") == "unparsed"
    for listed in ("Yes/No: No", "Yes or no? No", "**Yes/No**: no."):
        assert verdict("hallusion", "VS_chart_0_1_0", listed) == "wrong", listed
        assert verdict("hallusion", "VD_figure_0_0_0", listed) == "right", listed


@pytest.mark.parametrize(
    "response",
    [
        "I don't know.", "I can’t tell without the chart.", "It cannot be determined.", "Unclear",
        "There is no way to tell.", "No image is provided, so I am unable to answer.",
        "It depends on the year.",
        "Yes or no: not enough information", r"\boxed{\text{unknown}}", "<think>No?</think>I am not sure.",
        "There is no figure.", "That does not say so; maybe.",
    ],
)  # fmt: skip
def test_hallusion_does_not_know(response: str):
    for item in samples("hallusion"):
        assert verdict("hallusion", item, response) == "unparsed"
        official = verdict("hallusion", item, response, "official")
        assert official == ("right" if item == "VS_chart_0_0_0" else "unparsed")


@pytest.mark.parametrize(
    "response, said",
    [
        ("Yes, although the scale is not given.", "yes"), ("No.", "no"), ("**No**, that is not clear.", "no"),
        ("No, there is no way that they are equal.", "no"),
        ("The answer is yes. I am not sure, though.", "yes"),
        ("", None), ("The left circle.", None), ("<think>I don't know", None),
    ],
)  # fmt: skip
def test_hallusion_knows_or_says_something_else(response: str, said: str | None):
    for name, item in samples("hallusion").items():
        want = "unparsed" if said is None else "right" if said == item.answer else "wrong"
        assert (
            verdict("hallusion", name, response) == verdict("hallusion", name, response, "official") == want
        )


def test_hallusion_accuracies_by_hand():
    """Two sets. VD_table_3 has figures 0 and 1, each with two questions. VS_map_5 has no figure 0.

                     figure 0              figure 1
    VD_table_3  q0   right                 right                 q0: all right
                q1   right                 does not know         q1: not
    VS_map_5    q0   does not know         right                 q0: all right only by the official rule
                q1   wrong                 right                 q1: not

    Figures VD 0, VD 1 and VS 1 are left: VD 0 and VS 1 are all right.
    """
    said = {
        "VD_table_3_0_0": "yes", "VD_table_3_0_1": "no", "VD_table_3_1_0": "no",
        "VD_table_3_1_1": "I don't know", "VS_map_5_0_0": "I don't know", "VS_map_5_0_1": "yes",
        "VS_map_5_1_0": "yes", "VS_map_5_1_1": "no",
    }  # fmt: skip
    rows = [
        data.hallusion("VD", "table", "3", "0", "0", "1"), data.hallusion("VD", "table", "3", "0", "1", "0"),
        data.hallusion("VD", "table", "3", "1", "0", "0"), data.hallusion("VD", "table", "3", "1", "1", "1"),
        data.hallusion("VS", "map", "5", "0", "0", "0"), data.hallusion("VS", "map", "5", "0", "1", "0"),
        data.hallusion("VS", "map", "5", "1", "0", "1"), data.hallusion("VS", "map", "5", "1", "1", "0"),
    ]  # fmt: skip
    bench, items = registry.get("hallusion"), samples("hallusion", None, rows)
    for scorer, a, q, f in (("ours", 5 / 8, 1 / 4, 2 / 3), ("official", 6 / 8, 2 / 4, 2 / 3)):
        graded = [Graded(item, 0, bench.grade(item, said[name], scorer)) for name, item in items.items()]
        figures = bench.summarise(graded)
        assert [figures[name]["n"] for name in ("aAcc", "qAcc", "fAcc")] == [8, 4, 3]
        for name, value in (("aAcc", a), ("qAcc", q), ("fAcc", f)):
            assert figures[name]["mean"] == pytest.approx(value), (scorer, name)


# ---------------------------------------------------------------- mathvision, easyvqa, plain


def test_mathvision_letter_or_value():
    items = samples("mathvision")
    assert items["4"].question == "[image 1]\nWhich piece fits [image 1]?"
    assert items["5"].question == "How long is the side in [image 1]?"
    assert verdict("mathvision", "4", "C") == "right"
    assert verdict("mathvision", "5", "A") == "right"
    assert verdict("mathvision", "5", r"\boxed{\frac{1}{2}}") == "right"
    assert verdict("mathvision", "5", "0.5") == "right"
    assert verdict("mathvision", "5", "1") == "wrong"
    assert verdict("mathvision", "6", "12") == "right"


@pytest.mark.slow
def test_mathvision_rows_like_the_published_ones():
    """Several marks in one text, options that are letters in the picture, and a letter without options."""
    bench = registry.get("mathvision")
    rows = [
        data.mathvision(
            "33", "The ant <image1> goes home <image2>.\nWhere to?\n<image6>\n<image7>", list("ABCDE"), "A"
        ),
        data.mathvision("59", "<image1>\nThe sides are:\n<image2>\nWhich is opposite to <image3>?", [], "C"),
        data.mathvision(
            "79", "Which piece is left?\n<image1>\n<image2>", ["A", "B", "C", "D", "C or D"], "A"
        ),
        data.mathvision("91", "How long is it? <image1>", ["$6 \\mathrm{~m}$", "$12 \\mathrm{~m}$"], "B"),
    ]
    ant, cube, piece, room = samples("mathvision", None, rows).values()
    assert ant.question == "The ant [image 1] goes home [image 2].\nWhere to?\n[image 6]\n[image 7]"
    assert bench.prompt(cube).endswith("The answer is a number, an expression or a letter.")
    for item, right, wrong in (
        (ant, ("A", "(A)"), ("E",)),
        (cube, ("C", r"\boxed{C}", "The answer is (C)."), ("A", "3")),
        (piece, ("A", r"\boxed{A}"), ("C", "E", "C or D")),
        (room, ("B", "12 m", "$12\\,\\mathrm{m}$", "1200 cm"), ("A", "6 m", "12 cm")),
    ):
        for said in right:
            assert bench.grade(item, said).verdict == "right", (item.id, said)
        for said in wrong:
            assert bench.grade(item, said).verdict != "right", (item.id, said)


def test_mathvision_options_that_are_pictures_stay_distinct():
    bench = registry.get("mathvision")
    pictures = [f"<image{i}>" for i in range(2, 7)]
    row = data.mathvision("8", "<image1>\nWhich piece completes the square?", pictures, "D")
    (item,) = samples("mathvision", None, [row]).values()
    assert bench.prompt(item).startswith(
        "[image 1]\nWhich piece completes the square?\n(A) [image 2]\n(B) [image 3]\n(C) [image 4]"
    )
    for letter in "ABCDE":
        right = "right" if letter == "D" else "wrong"
        for response in (letter, rf"\boxed{{{letter}}}", f"<answer>({letter})</answer>"):
            assert bench.grade(item, response).verdict == right, response


EQUAL = {  # a benchmark and a row with equal options, of which C is right
    "mathvision": data.mathvision("e", "How long is <image1>?", ["5 cm", "7 cm", "5  cm"], "C"),
    "mmmu": data.mmmu("validation_Art_1", "<image 1>?", "['5 cm', '7 cm', '5 cm']", "C", "red"),
    "mmmu_pro": data.mmmu("test_Art_1", "<image 1>?", "['5 cm', '7 cm', '5 cm']", "C", "red", subject="Art"),
    "mmmu_pro_vision": {**data.MMMU_PRO_VISION[0], "options": "['5 cm', '7 cm', '5 cm']", "answer": "C"},
    "mathverse": data.mathverse(
        1, 1, "Text Lite", "How long?\nChoices:\nA:5 cm\nB:7 cm\nC:5 cm", "C", question_type="multi-choice"
    ),
    "mmsi": data.mmsi(1, "C", question="Which?\nOptions: A: 5 cm, B: 7 cm, C: 5 cm, D: 8 cm"),
    "realworldqa": {**data.REALWORLDQA[0], "question": "How long?\nA. 5 cm\nB. 7 cm\nC. 5 cm"},
    "cvbench": data.cvbench(0, "ADE20K", "(C)", ["5 cm", "7 cm", "5 cm"]),
    "plain": {
        "problem": "How long?",
        "options": ["5 cm", "7 cm", "5 cm"],
        "answer": "C",
        "image": cell("red"),
    },
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_options_are_told_apart_only_by_their_label(name: str):
    bench = registry.get(name)
    (item,) = samples(name, None, [EQUAL[name]]).values()
    for response in ("C", "(C)", r"\boxed{C}", "(C) 5 cm", "The answer is C."):
        assert bench.grade(item, response).verdict == "right", response
    for response in ("A", "(A)", r"\boxed{A}", "(A) 5 cm", "B", "7 cm"):
        assert bench.grade(item, response).verdict == "wrong", response
    for response in ("5 cm", "5  cm", r"\boxed{5\text{ cm}}", "50 mm", "The answer is 5 cm."):
        assert bench.grade(item, response).verdict != "right", response


def test_equal_options_and_an_option_that_is_a_letter():
    bench = registry.get("mathvision")
    for gold in ("A", "B", "C"):
        (item,) = samples(
            "mathvision", None, [data.mathvision("7", "Which?", ["x", "A", "x"], gold)]
        ).values()
        for said in ("(A) x", "(B) A", "(C) x"):
            assert bench.grade(item, said).verdict == ("right" if gold == said[1] else "wrong"), (gold, said)


def test_mathvista_a_gold_letter_is_a_text_that_two_choices_may_have():
    bench = registry.get("mathvista")
    (item,) = samples("mathvista", None, [data.mathvista("1", choices=["A", "x", "x"], answer="x")]).values()
    assert {bench.grade(item, said).verdict for said in ("B", "C", "x")} == {"right"}
    (item,) = samples("mathvista", None, [data.mathvista("1", choices=["D", "B", "B"], answer="B")]).values()
    assert {bench.grade(item, said).verdict for said in ("(B)", "(C)")} == {"right"}


@pytest.mark.parametrize("name", ["mmmu_pro", "mmmu", "mmmu_pro_vision", "mathvision"])
def test_a_lone_letter_is_our_label_if_the_options_are_letters_in_another_order(name: str):
    options, bench = ["E", "C", "D", "A", "B"], registry.get(name)
    rows = {
        "mmmu": data.mmmu("validation_Art_1", "Which of <image 1>?", str(options), "A", "red"),
        "mmmu_pro": data.mmmu("test_Art_1", "Which of <image 1>?", str(options), "A", "red", subject="Art"),
        "mmmu_pro_vision": {**data.MMMU_PRO_VISION[0], "options": str(options), "answer": "A"},
        "mathvision": data.mathvision("7", "Which?", options, "A"),
    }
    (item,) = samples(name, None, [rows[name]]).values()
    for response in ("A", r"\boxed{A}", "(A)", "Answer: A", "(A) E"):
        assert bench.grade(item, response).verdict == "right", response
    for response in ("E", r"\boxed{D}", "(D)", "(D) A"):  # D is the label of the option A
        assert bench.grade(item, response).verdict == "wrong", response


@pytest.mark.parametrize(
    "gold, right, wrong",
    [
        ("69{degrees}", ("69", "69 degrees", r"$69^\circ$", r"\boxed{69^{\circ}}"), ("96", "69 cm")),
        (
            r"\frac{3}{4}\pi{inches}",
            (r"$\frac{3}{4}\pi$", r"\boxed{\frac{3\pi}{4}}", r"\frac{3}{4}\pi \text{ inches}"),
            (r"\frac{4}{3}\pi", r"\frac{3}{4}\pi \text{ cm}"),
        ),
    ],
)
def test_mathvision_units_in_braces(gold: str, right: tuple[str, ...], wrong: tuple[str, ...]):
    bench = registry.get("mathvision")
    (item,) = samples("mathvision", None, [data.mathvision("9", "How large is it?", [], gold)]).values()
    assert [bench.grade(item, response).verdict for response in right] == ["right"] * len(right)
    assert "right" not in [bench.grade(item, response).verdict for response in wrong]


def test_mathvision_never_evaluates(tmp_path: Path):
    trap = tmp_path / "trap"
    for response in (f"open({str(trap)!r}, 'w')", f"__import__('pathlib').Path({str(trap)!r}).touch()"):
        assert verdict("mathvision", "6", response) != "right"
        assert verdict("mathvision", "5", response) != "right"
    assert not trap.exists()


def test_easyvqa_reads_the_package():
    pytest.importorskip("easy_vqa")
    bench = registry.get("easyvqa")
    rows, folder = bench.own_rows()
    items = list(bench.samples(rows[:40], RowReader(folder)))
    assert len(rows) == 9673 and len(items) == 40
    assert {item.family for item in items} == {"yes or no", "shape", "color"}
    assert items[0].question == "what is the red shape?" and items[0].images[0].size == (64, 64)
    assert bench.grade(items[0], "It is a triangle.").verdict == "right"
    assert bench.grade(items[0], "a circle or a triangle").verdict == "unparsed"
    assert bench.chance(items[0]) == 1 / 3
    from easy_vqa import get_answers

    from vigos_cli.evaluation.benchmarks.easyvqa import KINDS

    assert sorted(get_answers()) == sorted(word for words in KINDS.values() for word in words)


def test_easyvqa_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(UserError, match="pip install easy-vqa"):
        registry.get("easyvqa").own_rows()


def test_plain_accepts_common_column_names():
    items = samples("plain")
    assert list(items) == ["0", "q1", "q2", "q3"]
    assert colours(items["0"]) == [RED, GREEN] and items["0"].question == "How many?"
    assert verdict("plain", "0", "four") == "right"
    assert verdict("plain", "q1", "automobile") == "right"
    assert verdict("plain", "q1", "car") == "right"
    assert verdict("plain", "q1", "bus") == "wrong"


def test_plain_items_of_data_without_pictures_are_counted():
    reader, asked = RowReader(), RowReader(images=False)
    (item,) = samples("plain", reader, data.PLAIN_TEXT).values()
    assert item.images == () and reader.without_picture == 1
    assert registry.get("plain").grade(item, "4").verdict == "right"
    assert samples("plain", asked, data.PLAIN_TEXT) and asked.without_picture == 0
    seen = RowReader()
    assert samples("plain", seen) and seen.without_picture == 0


@pytest.mark.slow
def test_plain_gold_lists_as_text_are_alternatives():
    golds = ("['24/7', '3.43']", "[1, 2]", "[0, 1)")
    items = samples("plain", None, [{"problem": "Ratio?", "answer": gold} for gold in golds])
    assert [item.fields["answers"] for item in items.values()] == [["24/7", "3.43"], ["[1, 2]"], ["[0, 1)"]]
    bench = registry.get("plain")
    assert bench.golds(items["0"]) == ("24/7", "3.43")
    assert {bench.grade(items["0"], said).verdict for said in ("3.43", "24/7")} == {"right"}
    assert bench.grade(items["1"], "1").verdict == "wrong"


def test_plain_pictures_in_numbered_columns():
    row = {"problem": "Is it so?", "answer": "yes", "image_10": cell("blue"), "image_2": cell("green")}
    (item,) = samples("plain", None, [{**row, "image_1": cell("red"), "image_3": None}]).values()
    assert colours(item) == [RED, GREEN, BLUE]
    marked = {**row, "problem": "See <image 10>.", "options": ["<image 2>", "none"]}
    (item,) = samples("plain", None, [marked]).values()
    assert colours(item) == [GREEN, BLUE] and registry.get("plain").prompt(item).count("[image") == 2
    assert (item.question, item.options) == ("See [image 2].", ("[image 1]", "none"))


def test_plain_pictures_stand_at_marks_without_numbers():
    two = {"answer": "yes", "images": [cell("red"), cell("green")]}
    questions = (
        "Is <image> in <image>?",
        "<image>\n<image> So?",
        "So?",
        "<image> So?",
        "<image> in <image 1>",
        "Is <image> in <image> or in <image 2>?",
    )
    reader = RowReader()
    items = samples("plain", reader, [{**two, "problem": text} for text in questions])
    assert [(item.question, item.places) for item in items.values()] == [
        ("Is <image> in <image>?", (3, 14)),
        ("So?", ()),
        ("So?", ()),
    ]
    assert all(colours(item) == [RED, GREEN] for item in items.values())
    assert reader.left_out == {"image_marks": ["row 3", "row 4", "row 5"]}
    (item,) = samples(
        "plain", None, [{**two, "problem": "Which?", "options": ["<image>", "<image>"]}]
    ).values()
    prompt = registry.get("plain").prompt(item)
    assert [prompt[place - 4 :][: 4 + 7] for place in item.places] == ["(A) <image>", "(B) <image>"]
    (item,) = samples("plain", None, [{"problem": "What does the tag <image> do?", "answer": "a"}]).values()
    assert (item.question, item.places) == ("What does the tag <image> do?", ())


def test_plain_reads_conversations():
    turns = [{"from": "human", "value": "Is <image> in <image>?"}, {"from": "gpt", "value": "no"}]
    row = {"conversations": turns, "images": [cell("red"), cell("green")], "id": "c"}
    (item,) = samples("plain", None, [row]).values()
    assert (item.question, item.places, item.answer) == ("Is <image> in <image>?", (3, 14), "no")
    assert colours(item) == [RED, GREEN] and verdict_of(item, "No.") == "right"


def verdict_of(item: Sample, said: str) -> str:
    return registry.get("plain").grade(item, said).verdict


@pytest.mark.parametrize(
    "columns",
    [
        {"options": "(A) red (B) blue"},
        {"options": "A. red\nB. blue"},
        {"options": "A: red, B: blue"},
        {"options": " red\n\nblue\n"},
        {"options": ["red", "blue"]},
        {"options": ["A. red", "(B) blue"]},
        {"options": "['red', 'blue']"},
        {"choices": '["red", "blue"]'},
        {"choices": {"A": "red", "B": "blue"}},
        {"choices": {"B": "blue", "A": "red", "C": None}},
        {"options": "{'A': 'red', 'B': 'blue'}"},
        {"options": '{"A": "red", "B": "blue", "C": null}'},
        {"A": "red", "B": "blue", "C": None, "D": float("nan"), "E": ""},
        {"options": None, "choices": [], "A": "red", "B": "blue"},
    ],
)
def test_plain_reads_every_form_of_options(columns: dict[str, Any]):
    row = {"problem": "Which?", "answer": "B", "image": cell("blue")}
    (item,) = samples("plain", None, [{**row, **columns}]).values()
    assert item.options == ("red", "blue")
    assert [verdict_of(item, said) for said in ("(B)", "blue", "A")] == ["right", "right", "wrong"]


@pytest.mark.parametrize(
    "columns", [{"options": "red"}, {"options": 3}, {"options": {"1": "red"}}, {"A": "a", "B": "b", "D": "d"}]
)
def test_plain_options_that_cannot_be_read_leave_out_the_row(columns: dict[str, Any]):
    reader = RowReader()
    row = {"problem": "Which?", "answer": "B", "image": cell("blue"), **columns}
    assert not samples("plain", reader, [row]) and reader.left_out == {"options_unreadable": ["row 0"]}


def test_plain_without_a_column_of_answers_is_an_error():
    with pytest.raises(UserError, match=r"no column 'answer'; did you mean answers\?"):
        samples("plain", None, [{"problem": "Which?", "answers": "B", "image": cell("blue")}])


def test_plain_options_in_a_column_or_in_the_question():
    bench, items = registry.get("plain"), samples("plain")
    assert bench.prompt(items["q2"]).count("(B) blue") == 1
    assert bench.prompt(items["q3"]).count("(B) blue") == 1
    for item in ("q2", "q3"):
        assert verdict("plain", item, "B") == "right"
        assert verdict("plain", item, "blue") == "right"
        assert verdict("plain", item, "A") == "wrong"
        assert bench.chance(items[item]) == 0.5


@pytest.mark.parametrize("columns", [{"problem": "See <image 1>."}, {"choices": ["<image2>", "none"]}])
def test_plain_a_numbered_mark_without_a_picture_is_an_error(columns: dict[str, Any]):
    row = {"problem": "What colour?", "answer": "red", **columns}
    with pytest.raises(UserError, match="plain, item 0: missing image; an item is never asked without"):
        samples("plain", None, [row])
    assert samples("plain", RowReader(images=False), [row])
    with pytest.raises(UserError, match="item 0: refers to image 2, which it does not have"):
        samples("plain", None, [{**row, "problem": "See <image 2>.", "image": cell("red")}])


@pytest.mark.parametrize("column", ["image", "images", "image_1"])
def test_plain_if_other_rows_have_pictures_a_row_without_one_is_an_error(column: str):
    row = {"problem": "What colour?", "answer": "red"}
    with pytest.raises(UserError, match="item 0: missing image"):
        samples("plain", RowReader(columns=("problem", "answer", column)), [row])
    assert samples("plain", RowReader(columns=("problem", "answer", "image_source")), [row])


@pytest.mark.parametrize("images", [None, [], [None]])
def test_plain_an_empty_picture_column_is_an_error(images: Any):
    with pytest.raises(UserError, match="plain, item 0: missing image"):
        samples("plain", None, [{"problem": "How many?", "answer": "4", "images": images}])


# ---------------------------------------------------------------- helper functions


@pytest.mark.parametrize(
    "text, options",
    [
        (
            "Which may pass?\nA. Only buses\nB Only cars\nC. Both\nAnswer.",
            ("Only buses", "Only cars", "Both"),
        ),
        ("Which may pass?\nA Only buses\nB Only cars", ("Only buses", "Only cars")),
        ("A cat sits.\nWhere?\nA. here\nB there\nPlease answer.", ("here", "there")),
        ("Which?\nA. Left\nB. Right\nPlease answer.", ("Left", "Right")),
        ("Options: A: up, B: down, C: to the left, D: out", ("up", "down", "to the left", "out")),
        ("Which? (A) red (B) blue", ("red", "blue")),
        ("A. Smith asks: which? A. one B. two", ("one", "two")),
        ("A car passes B. Which is faster?", ()),
        ("No options here.", ()),
    ],
)
def test_options_inside_a_question(text: str, options: tuple[str, ...]):
    assert question_options.inlined(text) == options


@pytest.mark.parametrize(
    "text, shown",
    [
        ("<image>How many?", "How many?"),
        ("<image> <image>\nHow many?", "How many?"),
        ("How many? <image>", "How many?"),
        ("How many?\n<image>\nA. one", "How many?\n \nA. one"),
        ("In <image>, how many?", "In [image 1], how many?"),
        ("<image>\nIs <image> like <image><image>?", "Is [image 2] like [image 3][image 4]?"),
        ("Is <image 2> there?", "Is <image 2> there?"),
        ("<image>", ""),
    ],
)
def test_marks_without_a_number(text: str, shown: str):
    assert row_parsing.without_marks(text) == shown


def test_long_runs_of_blanks_and_marks_are_read_in_time():
    began = time.monotonic()
    assert row_parsing.without_marks("x" + " " * 30_000 + "<image>x" * 20_000).endswith("[image 20000]x")
    assert row_parsing.without_marks("x" + " " * 30_000 + "x<image>").endswith(" x")
    assert time.monotonic() - began < 2  # reading the blanks again from each of them takes ten seconds


@pytest.mark.parametrize(
    "options, clear",
    [
        (["A", "B", "C"], True), (["E", "C", "D", "A", "B"], False), (["(c)", "(a)", "(b)"], False),
        (["red", "blue"], True), (["x", "y"], True), (["none", "A"], False), ([], True),
    ],
)  # fmt: skip
def test_the_hint_says_which_letter_is_meant_if_options_are_letters(options: list[str], clear: bool):
    (item,) = samples("mathvision", None, [data.mathvision("7", "Which?", options, "A")]).values()
    prompt = registry.get("mathvision").prompt(item)
    assert prompt.endswith("not the letter that is its text.") is not clear
    assert ("letter of one option" in prompt) is (clear and bool(options))


@pytest.mark.parametrize("value", ["[1, ", "{'a': 1}", "open('x')", "[" * 5000, "3"])
def test_text_that_is_not_a_list_is_a_bad_row(value: str):
    with pytest.raises(BadRow, match="options_unreadable"):
        row_parsing.list_field(value)


def test_lists_from_lists_and_from_text():
    assert (
        row_parsing.list_field("['a', \"b's\", 3]")
        == row_parsing.list_field(["a", "b's", 3])
        == ["a", "b's", "3"]
    )
    assert row_parsing.list_field(None) == row_parsing.list_field("") == row_parsing.list_field("[]") == []


def test_a_graded_response_counts_an_unparsed_one_as_wrong():
    sample = samples("mathvista")["2"]
    for what, right in (("right", 1.0), ("wrong", 0.0), ("unparsed", 0.0)):
        assert Graded(sample, 0, Verdict(what, None, "", "")).right == right  # type: ignore[arg-type]
