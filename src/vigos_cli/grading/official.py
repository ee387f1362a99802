r"""The official rules of MathVista, MMMU and MMMU-Pro, to compare with published scores.

>>> row = {"question_type": "free_form", "answer_type": "float", "answer": "13.8", "precision": 1}
>>> official_mathvista(row, "13.80").verdict
'right'

The rules are those of the published programs, and their faults are kept. Two things are different. If the
parser of MMMU or MMMU-Pro finds nothing, it draws a letter at random; here the verdict is then `unparsed`.
And no text is ever evaluated as code.

MathVista, for a short extracted answer, not for a whole response
    choice   The first letter in brackets, or an answer that is one capital letter, names an option. Any other
             answer, also an empty one, counts as the option at the smallest edit distance; of equal distances
             the first option is taken. Then the texts are compared, so a duplicate of the right option is
             right.
    integer  `str(int(float(x)))` is compared, which cuts off decimals.
    float    `str(round(float(x), precision))` is compared.
    list     The text itself is compared. For numbers, a thousands separator or a percent sign is an error.

MMMU
    choice   The parser looks for `(A)`. If there is none, it looks for ` A ` between blanks. If there is
             none, and the response has more than five words, it looks for the text of an option. The last
             occurrence counts.
    open     The parser takes candidates from each sentence: the text after a key phrase, and all numbers in
             it. The answer is right if a candidate contains a gold text, or if a number is equal to a gold
             number at 2 decimals.

MMMU-Pro
    choice   The parser reads the text after the last `Answer:`. If exactly one of the options' letters occurs
             in it, also as a part of a word, this letter counts. Otherwise it looks for `(A)`, then for `A `
             before a blank, then for `A.`, and in a response of more than five words for the text of an
             option. The last occurrence counts. But if letters occur only at the end of words (`USA `, `A.`),
             the first option counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vigos_cli.types import Verdict

LONGEST = 20_000  # number of characters that are read of a response to an open question
NEAREST = 1_000  # number of characters that are used for edit distances, whose cost grows with the length
BRACKETED = re.compile(r"\(([a-zA-Z])\)")
EDGES = ",.!?;:'"  # each of these is removed in turn from both ends of an MMMU response
SENTENCE = re.compile(r"\.\s(?=[A-Z])|\n")
KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
# `(?<!\d)`: a number must not start inside another one, because that would take quadratic time
GROUPED = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
SCIENTIFIC = re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+")
SIMPLE = re.compile(r"-?(?<!\d)(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")


def official_mathvista(fields: Mapping[str, Any], extraction: str | None) -> Verdict:
    """MathVista's verdict on an extracted answer, which is always right or wrong.

    `fields` has the benchmark's columns. The answer is not extracted again. Raises KeyError without
    `question_type`, `answer_type` or `answer`.
    """
    answer = str(fields["answer"])
    text = (extraction or "")[:LONGEST]
    if fields["question_type"] == "multi_choice":
        prediction, rule = _option(text.strip()[:NEAREST], [str(c) for c in fields["choices"]])
    else:
        rule = f"official {fields['answer_type']}"
        prediction = _free(text, str(fields["answer_type"]), fields.get("precision"))
    if prediction is None:
        return Verdict("wrong", extraction, rule, "not a value of the item's type")
    right = prediction == answer
    return Verdict(
        "right" if right else "wrong", prediction, rule, f"{'is' if right else 'is not'} {answer!r}"
    )


def _option(text: str, choices: Sequence[str]) -> tuple[str, str]:
    """The text of the option that an extracted answer counts as, and the name of the rule."""
    if letters := BRACKETED.findall(text):
        text = letters[0].upper()
    if len(text) == 1 and 0 <= ord(text) - ord("A") < len(choices):
        return choices[ord(text) - ord("A")], "official letter"
    return min(choices, key=lambda choice: _distance(text, choice)), "official nearest"


def _free(text: str, answer_type: str, precision: Any) -> str | None:
    """The value as the official scorer writes it; None if its conversion fails."""
    try:
        if answer_type == "integer":
            return str(int(float(text)))
        if answer_type == "float":
            return str(round(float(text), int(precision)))
    except (ValueError, TypeError, OverflowError):
        return None
    return text


def _distance(a: str, b: str) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def official_mmmu(fields: Mapping[str, Any], response: str) -> Verdict:
    """MMMU's verdict on a whole response; `unparsed` if the official parser would draw a letter at random.

    `fields` has `answer` (a string, or a list or a list written as a string) and, for multiple choice,
    `options` (a list, or one written as a string) or `index2ans`. Raises KeyError without `answer`.
    """
    options = _options(fields)
    golds = [str(gold) for gold in _listed(fields["answer"])]
    if options and fields.get("question_type", "multiple-choice") == "multiple-choice":
        return _chosen(golds, *mmmu_letter(response, options))
    candidates = mmmu_candidates(response)
    for gold in golds:
        for form in mmmu_forms(gold):
            for found in candidates:
                same = form == found
                if same or (isinstance(form, str) and isinstance(found, str) and form in found):
                    return Verdict("right", str(found), "official open", f"holds {form!r}")
    return Verdict("wrong", None, "official open", f"none of {len(candidates)} candidates holds the gold")


def official_mmmu_pro(fields: Mapping[str, Any], response: str) -> Verdict:
    """MMMU-Pro's verdict on a whole response; `unparsed` if its parser would draw a letter at random.

    `fields` has the same columns as for `official_mmmu`; the question must have options.
    """
    return _chosen([str(fields["answer"])], *mmmu_pro_letter(response, _options(fields)))


def _chosen(golds: Sequence[str], letter: str | None, reason: str) -> Verdict:
    if letter is None:
        return Verdict("unparsed", None, "official choice", reason)
    return Verdict("right" if letter in golds else "wrong", letter, "official choice", reason)


def mmmu_letter(response: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """The letter that MMMU's parser finds in a response, and where; None if it finds nothing."""
    response = _bare(response)
    for where, written in (("in brackets", "({})"), ("between blanks", " {} ")):
        last = {letter: response.rfind(written.format(letter)) for letter in options}
        if max(last.values()) >= 0:
            return max(last, key=lambda letter: last[letter]), f"letter {where}"
    return _by_text(response, options)


def mmmu_pro_letter(response: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """The letter that MMMU-Pro's parser finds in a response, and where; None if it finds nothing."""
    _, asked_for, rest = response.rpartition("Answer:")
    if asked_for and len(held := [letter for letter in options if letter in rest]) == 1:
        return held[0], "the only letter behind the last `Answer:`"
    response = _bare(response)
    for where, written, last in (
        ("in brackets", "({})", "({})"),
        ("before a blank", "{} ", " {} "),
        ("before a stop", "{}.", " {} "),
    ):
        if held := [letter for letter in options if written.format(letter) in response]:
            return max(held, key=lambda letter: response.rfind(last.format(letter))), f"letter {where}"
    return _by_text(response, options)


def _bare(response: str) -> str:
    """A response without punctuation at its ends, and with a blank before and after it."""
    for edge in EDGES:
        response = response.strip(edge)
    return f" {response} "


def _by_text(response: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """The letter of the option whose text occurs last in a response of more than five words."""
    lowered = response.lower()
    if len(response.split()) > 5:
        last = {letter: lowered.rfind(text.lower()) for letter, text in options.items()}
        if max(last.values()) >= 0:
            return max(last, key=lambda letter: last[letter]), "an option's text"
    return None, "no letter and no option: the official parser draws one at random"


def mmmu_candidates(response: str) -> set[str | float]:
    """The candidates that MMMU's parser finds in a response to an open question."""
    sentences = SENTENCE.split(response[:LONGEST].strip().strip(".").lower())
    keys: list[str] = []
    for i, sentence in enumerate(sentences):
        cues = (*KEYS, "=") if i == len(sentences) - 1 else KEYS
        tails = [sentence.rsplit(cue, 1)[1].strip() for cue in cues if cue in sentence]
        shortest = min(tails, key=len, default="")
        if shortest and shortest not in EDGES:
            keys.append(shortest)
    keys = keys or [response[:LONGEST].strip().strip(".").lower()]
    numbers = [n for key in keys for form in (GROUPED, SCIENTIFIC, SIMPLE) for n in form.findall(key)]
    return {form for key in (*keys, *numbers) for form in mmmu_forms(key)}


def mmmu_forms(text: str) -> list[str | float]:
    """A number rounded to 2 decimals, or the text in lower case; one character gets a blank beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except (ValueError, OverflowError):
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _options(fields: Mapping[str, Any]) -> dict[str, str]:
    if named := fields.get("index2ans"):
        return {str(letter): str(text) for letter, text in named.items()}
    return {chr(ord("A") + i): str(text) for i, text in enumerate(_listed(fields.get("options") or []))}


def _listed(value: Any) -> list[Any]:
    """A list: the value itself, a list parsed from a text as literals, or a list of the one value."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [value]
    return list(value) if isinstance(value, list | tuple) else [value]
