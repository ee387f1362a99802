"""Grading of extracted answers, options, units and prose, and of inputs that try to break a grader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigos_cli.grading import extract, grade, worker
from vigos_cli.grading.extract import framed
from vigos_cli.grading.normal import plain, words
from vigos_cli.grading.number import quantity
from vigos_cli.grading.symbolic import latex
from vigos_cli.grading.worker import LONGEST, Answer, Pool

WORDS = ("red", "blue", "green")
LETTERS = ("(c)", "(a)", "(e)", "(d)", "(b)")  # options that look like letters
TWINS = ("9", "12", "18", "18")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"<description>a 3</description><think>2</think>\boxed{4}", "4"),
        (r"\boxed{1} no, \boxed{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"\boxed{\text{(A)}}", r"\text{(A)}"),
        (r"\boxed{ }", None),
        (r"The answer is 5. \boxed{5", None),
        ("<answer> 7 </answer>", "7"),
        ("<answer>1</answer> or <answer>2</answer>", "2"),
        ("<answer>7", "7"),
        ("Because of this.\nAnswer: B", "B"),
        ("Because.\n**Final answer:** 12 cm", "12 cm"),
        ("Answer:\n\n42", "42"),
        ("答案：5", "5"),
        ("The answer is **B**.", "**B**"),
        ("So the answer to the question is 1.5. I hope this helps!", "1.5"),
        ("The correct answer is **(C) 145°**.\n\nSince ...", "**(C) 145°**"),
        ("<think>it is 5</think> 6", "6"),
        ("<think>it is 5", None),
        ("<description>5 cats", None),
        (" plain text ", "plain text"),
        ("", None),
        (" \n\t", None),
    ],
)
def test_extract(text: str, found: str | None) -> None:
    assert extract(text) == found


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"<think>(A) is out</think> \boxed{B}", "B"),
        ("<answer> B </answer>", "B"),
        ("<think>(A)</think> The answer is B.", "The answer is B."),
        ("<think>(A)</think><description>a cup</description> B", "B"),
        ("<think>(A)", ""),
        (r"\boxed{B", ""),
        ("The answer is B.", None),
    ],
)
def test_what_a_structure_holds(text: str, inside: str | None) -> None:
    assert framed(text) == inside


def test_a_parsed_answer_wins() -> None:
    assert extract(r"\boxed{1}", answer=" 2 ") == "2"
    assert extract(r"\boxed{1}", answer=" ") == "1"


@pytest.mark.parametrize(
    ("gold", "response", "choices", "verdict"),
    [
        ("B", "B", WORDS, "right"),
        ("B", "(B)", WORDS, "right"),
        ("B", "b", WORDS, "right"),
        ("B", "B.", WORDS, "right"),
        ("B", "`B`", WORDS, "right"),
        ("B", "(B) blue", WORDS, "right"),
        ("B", "B. blue", WORDS, "right"),
        ("B", "B blue", WORDS, "right"),
        ("B", "Option B", WORDS, "right"),
        ("B", "The answer is **B**.", WORDS, "right"),
        ("B", r"\boxed{\text{B}}", WORDS, "right"),
        ("B", "Blue", WORDS, "right"),
        ("B", "It is blue.", WORDS, "right"),
        ("B", "The car in the picture is blue.", WORDS, "right"),
        ("B", "There is red and green around it. The car is (B) blue.", WORDS, "right"),
        ("blue", "B", WORDS, "right"),
        ("(B) blue", "blue", WORDS, "right"),
        ("B", "A", WORDS, "wrong"),
        ("B", "red", WORDS, "wrong"),
        ("blue", "(C)", WORDS, "wrong"),
        ("B", "(B) red", WORDS, "unparsed"),
        ("B", "red or blue", WORDS, "unparsed"),
        ("B", "(A), (B)", WORDS, "unparsed"),
        ("B", "(B) and (C)", WORDS, "unparsed"),
        ("B", "not blue", WORDS, "unparsed"),
        ("B", "It is not (A).", WORDS, "unparsed"),
        ("B", "yellow", WORDS, "unparsed"),
        ("B", "(F)", WORDS, "unparsed"),
        ("B", "", WORDS, "unparsed"),
        ("B", "...", WORDS, "unparsed"),
        ("B", "I cannot see the picture.", WORDS, "unparsed"),
        ("A", "A red car", ("a blue car", "a red car"), "wrong"),  # an article, not a label
        ("B", "A red car", ("a blue car", "a red car"), "right"),
        ("(b)", "E", LETTERS, "right"),
        ("(b)", "(b)", LETTERS, "right"),
        ("(b)", "B", LETTERS, "wrong"),
        ("(b)", "A", LETTERS, "wrong"),
        ("18", "C", TWINS, "right"),
        ("18", "D", TWINS, "right"),
        ("18", "18", TWINS, "right"),
        ("18", "12", TWINS, "wrong"),
        ("145°", "145", ("135°", "140°", "145°"), "right"),
        ("145°", "115", ("135°", "140°", "145°"), "unparsed"),
        ("$7", "The cost is $7.", ("$6", "$7", "$8"), "right"),
        ("B", "12", ("12 cm", "12 m"), "unparsed"),
        ("2:2", "2:1", ("1:3", "3:1", "2:2"), "unparsed"),
        ("No", "No, there are fewer.", ("Yes", "No"), "right"),
        ("No", "There are no more of them.", ("Yes", "No"), "unparsed"),
        ("None of the above", "None of the above.", ("1", "2", "None of the above"), "right"),
        ("None", "None", ("None", "Low", "High"), "right"),
        ("NA", "(B)", ("increase", "NA"), "right"),
        ("<", "<", ("<", ">"), "right"),
        ("9", "9", ("1",), "right"),  # the gold is no option: the other graders decide
        ("", "A", WORDS, "wrong"),
        ("A", "A. red\nB. blue\nC. green", WORDS, "unparsed"),  # the options, repeated
        ("A", "(A) red\n(B) blue\n(C) green", WORDS, "unparsed"),
        ("C", "A) red B) blue C) green", WORDS, "unparsed"),
        ("A", "A. or B.", WORDS, "unparsed"),
        ("A", "A: red is unlikely\nB: blue is likely", WORDS, "unparsed"),
        ("A", "(A) is incorrect, (B) is right.", WORDS, "unparsed"),
        ("A", "A, B", WORDS, "unparsed"),
        ("B", "The answer is B because option A is too small.", WORDS, "right"),
        ("B", "B, since option (A) ignores friction", WORDS, "right"),
        ("B", "Answer: B (option A is too small)", WORDS, "right"),
        ("B", "The correct option is B since choice A shows a car", WORDS, "right"),
        ("B", "(B), not (A)", WORDS, "right"),
        ("B", "B. vitamin D. It is good", WORDS, "right"),
        ("B", "I'd go with B.", WORDS, "right"),
        ("B", "option b", WORDS, "right"),
        ("B", "It's b", WORDS, "right"),
    ],
)
def test_options(gold: str, response: str, choices: tuple[str, ...], verdict: str) -> None:
    assert grade(gold, response, choices=choices).verdict == verdict


def test_a_lone_letter_is_a_label_where_the_options_are_letters() -> None:
    options = ("B", "A", "C")
    for kind in ("letter", None):
        assert grade("A", "(A)", choices=options, kind=kind).verdict == "right"
        assert grade("A", "A", choices=options, kind=kind).verdict == "right"
        assert grade("A", "(B)", choices=options, kind=kind).verdict == "wrong"  # the option written `A`


def test_only_a_label_tells_equal_options_apart_where_golds_are_letters() -> None:
    assert grade("C", "(C)", choices=TWINS, kind="letter").verdict == "right"
    assert grade("C", "D", choices=TWINS, kind="letter").verdict == "wrong"
    assert grade("C", "18", choices=TWINS, kind="letter").verdict == "unparsed"
    assert grade("B", "12", choices=TWINS, kind="letter").verdict == "right"
    assert grade("B", "E. coli", choices=("coli", "E. coli"), kind="letter").verdict == "right"
    assert grade("C", "5  cm", choices=("5 cm", "7 cm", "5  cm"), kind="letter").verdict == "unparsed"


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        (r"\boxed{B}. Answer: B", "right"),
        (r"\boxed{B}. Answer: C", "unparsed"),  # the readings differ
        (r"\boxed{x+1}. Answer: B", "right"),
        (r"Answer: C. So \boxed{B}", "right"),  # the last one counts
        (r"<think>no</think> \boxed{B} Answer: C", "right"),  # after the structured prompt the box counts
        (r"\boxed{B} Wait, that is wrong.", "unparsed"),
    ],
)
def test_a_box_and_a_sentence(response: str, verdict: str) -> None:
    assert grade("B", response, choices=WORDS).verdict == verdict


@pytest.mark.parametrize(
    ("gold", "response", "verdict"),
    [
        ("3", "There are 3 objects in the picture.", "right"),
        ("3", "1 + 1 + 1 = 3", "right"),
        ("12 cm", "The area is large. The length is 120 mm.", "right"),
        ("Paris", "The capital of France is Paris.", "right"),
        ("red", "The car is not red.", "wrong"),
        ("3", "There are 3 or 4 objects.", "wrong"),
        ("3", "It is less than 3", "unparsed"),
        ("3", "Figure 3", "unparsed"),
        ("3", "red", "unparsed"),
        ("3", "N/A", "unparsed"),
        ("18", "So it is 6 + 12 = **18 feet**.\n\nIs there anything else I can help you with?", "right"),
        ("18", "There are 6 and 12 of them: **18**. The 6 are red. I hope this helps!", "right"),
        ("18", "Of 30 and **12** there remain **18**, or 18 of 30.", "unparsed"),
        ("10", "The mode of 9, 10 and 10 is 10, which means that 10 is the most frequent.", "right"),
        ("1982", "So the answer is 1982 with a total of $931,441.", "right"),
        ("58", "There are 3 bars. The values of these are 58, 59, and 63.", "unparsed"),
        ("4", "After removing the red ones, there are four objects left on the table.", "right"),
        ("2", "One of the two dogs is brown.", "unparsed"),
        ("1", "There is one car.", "right"),
        ("1", "Which one is it?", "unparsed"),
        ("4", "If it rains, there are **4** dogs.", "unparsed"),
        ("63", "The values are:\n- 58\n- 63", "unparsed"),
        ("63", "Values:\n1. 58\n2. 63\n\n", "unparsed"),
        ("C", "The correct option letter is C. Water is drawn as a blue line.", "right"),
        ("red", "I'm sorry, but I can't help with that.", "unparsed"),
        ("red", "blue", "wrong"),
        ("", "5", "wrong"),
        (" ", "", "unparsed"),
        ("None", "5", "wrong"),
    ],
)
def test_prose_and_nothing(gold: str, response: str, verdict: str) -> None:
    assert grade(gold, response).verdict == verdict


@pytest.mark.parametrize(
    ("gold", "response", "extra", "verdict"),
    [
        ("0.21", "0.214", {"precision": 2}, "right"),
        ("0.21", "0.216", {"precision": 2}, "wrong"),
        ("0.33", "1/3", {"precision": 2}, "right"),
        ("1.2", "1.25", {"precision": 1}, "right"),
        ("13.8", "13.80", {"precision": 1}, "right"),
        ("1000", "1 kg", {"unit": "g"}, "right"),
        ("1000", "1000 ml", {"unit": "g"}, "wrong"),
        ("9", "9 years old", {"unit": "years"}, "right"),
        ("9", "9 people", {"unit": "years"}, "wrong"),
        ("[1, 2]", "five", {"kind": "list"}, "unparsed"),
        ("4", "four", {"kind": "text"}, "wrong"),
    ],
)
def test_what_the_item_says(gold: str, response: str, extra: dict, verdict: str) -> None:
    assert grade(gold, response, **extra).verdict == verdict


def test_of_a_long_text_the_last_sentence_is_what_was_extracted() -> None:
    verdict = grade("4", "I count one box. " * 200 + "So there are 5 in the end.")
    assert (verdict.verdict, verdict.extracted) == ("wrong", "So there are 5 in the end.")


def test_an_unknown_kind_names_the_known() -> None:
    with pytest.raises(ValueError, match="letter, integer"):
        grade("1", "1", kind="number")


def test_no_unit_and_no_word_is_asked_of_math_verify() -> None:
    for text in (
        "12 cm",
        "12cm^2+1",
        "5 kg",
        "60°",
        "red",
        "on",
        "H2O",
        "11-15",
        "3:05",
        "5%",
        "x" * (LONGEST + 1),
    ):
        assert latex(text) is None, text
    assert latex("2*x") == r"2\cdot x"


BOMBS = [
    "9**9**9**9",
    "9^{9^{9^{9}}}",
    "10**10**10",
    "99999999!",
    "(x+1)**(9**9)",
    "(" * 10_000 + "1" + ")" * 10_000,
    "{" * 10_000,
    r"\frac{1}{" * 10_000 + "1" + "}" * 10_000,
    r"\frac{1}{" * 60 + "x" + "}" * 60,
    "[" * 200 + "1," * 200,
    r"\boxed{" * 10_000,
    r"\boxed{" * 10_000 + "5" + "}" * 10_000,
    "x" * 1_000_000,
    "9" * 1_000_000,
    "1,2," * 250_000,
    "answer is " * 100_000,
    "answer:\n" * 100_000,
    "**" * 100_000,
    "$" * 100_000,
    "a." * 100_000,
    " " * 1_000_000 + "a",
    "-" * 100_000 + "5",
    "-" * 1_900 + "5",
    "2^" * 900 + "2",
    "sqrt" * 400 + "2",
    "5\x006",
    "\x00",
    "\ud800",
    "\udfff5 cm",
    "ﷺ" * 1_900,
    "__import__('os').system('touch /tmp/owned')",
    "1e999999999",
    "1e-999999999",
    "10^999999999",
    "9" * 5_000,
    "0." + "9" * 1_900,
    "1/0",
    "0^-1",
    "(-8)^{0.5}",
    "1^{1/999999999}",
    "m^9" * 30,
    "5 m^9 m^9 m^9",
    "x<" * 900,
    "±" * 900,
    "∪" * 1_900,
    "inf - inf",
    "\\text{" * 500,
    "yes," + " \n" * 8000 + "or",
    "\n" * 20_000,
    "answer " * 2_800,
    "* " * 10_000,
    "1 h " * 490,
    "x<0 or " * 280,
    "A) " * 650,
    "a=" * 990,
    "1=" * 990,
    "**1** " * 330,
    "two is " * 280,
    "{x|" * 660,
    "∠ " * 990,
    "<answer>" * 100_000,
    "<think>" * 100_000,
    "the " * 30_000,
    "not " * 30_000,
    "is " * 30_000,
    "(A) " * 10_000,
    "answer: " * 20_000,
    "if " * 20_000,
    "wait " * 20_000,
    "{" * 20_000 + '"answer"',
    '{"answer":' * 20_000,
    '{"answer": ' + "[" * 900 + "]" * 900 + "}",
    "answer" + " " * 50_000 + "is",
    "answer" + "*_" * 20_000 + "5",
    "option A or " * 5_000,
    "A and " * 10_000,
    "A or B " * 3_000 + "C",
    "the only most final correct " * 70 + "answer",
    "I think is " + "the only most final " * 20 + "x",
    "none of the " * 3_000 + "options",
    "cannot " * 10_000 + "be known",
    "it is " + "not " * 3_000 + "so",
    "Hint: " * 20_000 + "\nQuestion",
    "Hint:\n" * 20_000,
    "> " * 20_000 + "Question:",
    "\\boxed{1} or " * 5_000,
    "</s>" * 20_000,
    "$" * 1_900 + "B",
    "答案" * 20_000,
    "answer =" * 5_000,
    "so " * 600 + "B",
    "as " * 600 + "B.",
    "((((" * 400 + "A",
    "A. or " * 600 + "B",
    "it's " * 600 + "B",
    "({[" * 300 + "1" + "]})" * 300,
    "1 + " * 900 + "1",
    "2 ^ -" * 600 + "2",
    "\\sqrt" * 500 + "{2}",
    "\\frac" * 500 + "12",
    "7 (" * 600 + "7",
    "a, " * 900 + "and b",
    " or x<1" * 300,
]


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:12].encode("unicode_escape").decode())
def test_bombs_are_decided_in_a_second(bomb: str) -> None:
    for gold, response in ((bomb, "7"), ("7", bomb), (bomb, bomb + " 1")):
        start = time.process_time()
        verdict = grade(gold, response)
        assert time.process_time() - start < 1, (gold[:20], response[:20])
        assert verdict.verdict in ("wrong", "unparsed")
    for choices in (WORDS, LETTERS, (bomb[:1_900], "green")):
        start = time.process_time()
        assert grade("green", bomb, choices=choices).verdict != "right"
        assert time.process_time() - start < 1, choices[0][:20]


@pytest.mark.slow
def test_a_bomb_in_math_verify_ends_its_process_and_the_next_pair_is_answered() -> None:
    pool = Pool(processes=1)
    assert grade("x^2-1", "(x+1)(x-1)", pool=pool).rule == "math"
    first = pool.workers[0].process
    assert first is not None
    verdict = grade("(x+y+z)^{60}", "(x+y+z)^{61}", pool=pool)
    assert verdict.verdict == "unparsed" and "longer than" in verdict.reason
    assert first.returncode is not None  # waited for: no zombie
    assert grade("x+1", "1+x", pool=pool).verdict == "right"
    second = pool.workers[0].process
    assert second is not None
    second.kill()
    second.wait()
    assert grade("x+1", "1+x", pool=pool).verdict == "right"  # an idle process was ended from outside
    pool.close()


@pytest.mark.slow
def test_memory_is_capped() -> None:
    pool = Pool(processes=1)
    assert pool.equal("x+1", "1+x").equal
    process = pool.workers[0].process
    assert process is not None
    with open(f"/proc/{process.pid}/limits", encoding="ascii") as limits:
        space = next(line for line in limits if line.startswith("Max address space"))
    assert space.split()[3] == str(512 * 2**20)
    with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps:
        assert "torch" not in maps.read()
    pool.close()
    assert not os.path.exists(f"/proc/{process.pid}")
    assert pool.equal("x+1", "1+x").equal  # usable again
    pool.close()


@pytest.mark.slow
def test_threads_share_the_workers() -> None:
    pairs = [
        ("x+1", "1+x", "right"),
        ("x+1", "x+2", "wrong"),
        ("2a", "a+a", "right"),
        ("a-b", "b-a", "wrong"),
    ]
    seen: list[tuple[str, str]] = []

    def run(gold: str, answer: str, wanted: str) -> None:
        seen.append((grade(gold, answer).verdict, wanted))

    threads = [threading.Thread(target=run, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(pairs) and all(got == wanted for got, wanted in seen)


@pytest.mark.slow
def test_nothing_imports_torch_and_no_process_outlives_the_program() -> None:
    program = (
        "import sys; from vigos_cli.grading import grade; from vigos_cli.grading.grade import SHARED\n"
        "assert grade('x+1', '1+x').verdict == 'right'\n"
        "assert not {'torch', 'sympy', 'math_verify'} & set(sys.modules)\n"
        "print([w.process.pid for w in SHARED.workers if w.process][0])"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(f"/proc/{int(done.stdout)}")


ALPHABET = st.one_of(st.characters(), st.sampled_from(list(r"0123456789.,()[]{}\^_+-*/=<>$%°: xA")))
PIECES = [
    *(
        r"\boxed{",
        "}",
        r"\frac{",
        "{",
        r"\text{",
        "1",
        "2",
        ",",
        "(A)",
        " ",
        "cm",
        "answer is ",
        "<answer>",
        "x",
    ),
    *("=", "<=", "^", "and", "$", "**", "four", "%", "-", "not ", "\n", "</think>", "B. ", "/", "√"),
]
TEXTS = st.one_of(st.text(ALPHABET, max_size=60), st.lists(st.sampled_from(PIECES), max_size=20).map("".join))


class NoMath(Pool):
    """Decides nothing: hypothesis is to search our own graders, not sympy."""

    def equal(self, gold: str, answer: str, seconds: float = 0.0) -> Answer:
        return Answer(None, "not asked")


class Slow(Pool):
    """Holds every pair to be equal, and takes a third of the time for a pair."""

    def equal(self, gold: str, answer: str, seconds: float = 0.0) -> Answer:
        return Answer(True, "equal", seconds - 0.31)


def test_all_parts_of_a_list_share_the_time_of_one_pair() -> None:
    three, four = "(a+b, b+c, c+d)", "(a+b, b+c, c+d, d+e)"
    pool = Slow(processes=0)
    assert grade(three, "(b+a, c+b, d+c)", pool=pool).verdict == "right"
    verdict = grade(four, "(b+a, c+b, d+c, e+d)", pool=pool)
    assert (verdict.verdict, verdict.reason) == ("unparsed", "comparing the parts took too long")


OFFLINE = NoMath(processes=0)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS, st.lists(st.text(max_size=8), max_size=5), st.sampled_from([None, 0, 2]))
def test_any_text_is_graded(gold: str, response: str, choices: list[str], precision: int | None) -> None:
    found = extract(response)
    assert found is None or (found == found.strip() and found in response)
    for verdict in (
        grade(gold, response, precision=precision, pool=OFFLINE),
        grade(gold, response, choices=choices, unit="cm", pool=OFFLINE),
    ):
        assert verdict.verdict in ("right", "wrong", "unparsed")
        assert verdict.rule and verdict.reason
        assert verdict.verdict != "right" or found is not None


@settings(max_examples=200, deadline=None)
@given(
    st.decimals(-(10**9), 10**9, allow_nan=False, places=3),
    st.decimals(-(10**9), 10**9, allow_nan=False, places=3),
)
def test_numbers_are_equal_as_numbers(a, b) -> None:
    assert (grade(f"{a:,}", f"{b}").verdict == "right") == (a == b)
    assert grade(f"{a:,} m", f"{a * 1000:f} mm").verdict == "right"
    assert grade(f"{a}", rf"\boxed{{{a:+}}}").verdict == "right"


def test_a_plain_pair_takes_well_under_a_millisecond() -> None:
    grade("1", "2")
    start = time.process_time()
    for i in range(1000):
        grade(f"{i} cm", f"{i * 10} mm")
    assert (time.process_time() - start) / 1000 < 1e-3


def test_long_answers_are_not_kept_in_memory():
    """The caches of the graders hold what is read of a text, and not the text itself."""
    tracemalloc.start()
    try:
        for number in range(100):
            text = f"{number} " + "x" * 1_000_000
            assert plain(text) and words(text) and quantity(text) is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "response", ["The answer is 42? No, 17.", "The answer is > 42", "Answer: > 42", "The answer is >= 42"]
)
def test_an_answer_that_is_denied_or_an_inequality_is_not_the_number(response):
    assert grade("42", response).verdict != "right"
    assert grade("42", response, choices=("17", "42", "8")).verdict != "right"


@pytest.mark.parametrize("response", ["Answer:\n> 42", "> **Answer:** 42", "The answer is 42>"])
def test_a_quotation_mark_of_markdown_is_not_part_of_the_answer(response):
    assert grade("42", response).verdict == "right"


def test_a_process_is_renewed_after_many_pairs(monkeypatch):
    """Math-verify's process grows with each pair, and one without memory would decide less."""
    answers = ["sh", "-c", 'while read x; do echo "{\\"equal\\": true, \\"left\\": 0.5}"; done']
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    monkeypatch.setattr(worker, "_start", lambda: subprocess.Popen(answers, **pipes))
    monkeypatch.setattr(worker, "PAIRS", 2)
    one, ids = worker.Worker(), []
    for _ in range(5):
        assert one.equal("1", "1", 0.5).equal
        assert one.process
        ids.append(one.process.pid)
    one.close()
    assert [ids.index(id) for id in ids] == [0, 0, 2, 2, 4]
