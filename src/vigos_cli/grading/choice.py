r"""Which of an item's options an answer names: by letter, by text, or by both.

>>> choose("(B) 12 cm", ("1 cm", "12 cm")).index
1
>>> choose("red or blue", ("red", "blue")).reason
'two options fit'

Options are shown as `(A) ...`, so a bracketed or bare capital is a label. An option that is itself written
like a label, `(b)`, is meant where an answer is written exactly so. Where a label and a text name different
options, or a text names two, there is no choice; equal options are one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vigos_cli.grading.normal import plain, words
from vigos_cli.grading.number import only_number, quantity, same_quantity

BARE = re.compile(r"^['\"]?[(\[{]?\s*([A-Za-z])\s*[)\]}]?\s*[.:,;]?['\"]?$")
LABELLED = re.compile(
    r"^(?:(?:option|choice|answer)\s+)?(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])\s*[).:](?![A-Za-z]\.)|([A-Z])(?=\s+-\s|\s))\s*[.:\-]*\s*(.*)$",
    re.DOTALL | re.IGNORECASE,
)
NAMED = re.compile(
    r"(?:^|[\s*_\"'])\(([A-Z])\)|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)(?: is|:)?\s+\(?([A-Z])\b(?!['’])"
)
DENIED = re.compile(r"\b(?:not|never|neither|nor|incorrect|wrong|cannot|except)\b|n't\b", re.IGNORECASE)
LEADING = re.compile(r"^(yes|no|true|false)\b(?=[,.;:!]|\s*$| because| since)")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
MORE = re.compile(  # another label right behind the first
    r"^\W*(?:(?:and|or)\W+)?\([A-Za-z]\)|^\W*(?:and|or)\W+[A-Z]\b"
)
LISTED = re.compile(r"(?:^|\s)\(?([A-Z])[):](?=\s)|^([A-Z])\.(?=\s)", re.MULTILINE)
REASONED = re.compile(  # `B because option A is too small`, `B, not A`
    r"^\(?([A-Z])\)?(?:,?\s+(?:because|since|as|for|rather|instead|which|where|due|not)\b|[,;]\s+(?![(]?[A-Z]\b)|\s+\()"
)
SAID = re.compile(
    r"^(?:i(?:'d| would)? (?:choose|pick|select|say|go (?:with|for))|it(?:'s| is)|option|choice|answer)"
    r" \(?([a-z])\)?[.!]*$"
)
BETWEEN = re.compile(r"[^\w%°$.+/-]+")  # what stands between words
SHORTEST = 3  # letters of an option that is looked for inside a sentence


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that is meant, None without one, and why."""

    index: int | None
    reason: str


def choose(text: str, choices: Sequence[str]) -> Choice:
    """The option that an answer names. Equal options count as the first of them. Never raises."""
    return _choose(text, tuple(str(choice) for choice in choices))


def lists_options(text: str) -> bool:
    """Whether a text repeats the options with their labels: none of them is the answer for standing first."""
    return len({a or b for a, b in LISTED.findall(text.strip())}) > 1


def ends_in_options(text: str) -> bool:
    """Whether such a list is also what a text ends with."""
    return lists_options(text) and LISTED.match(text.strip().split("\n")[-1]) is not None


def gold_index(gold: str, choices: Sequence[str], *, letter: bool = False) -> int | None:
    """The option that is right; `letter` says that golds are letters, whatever the options look like."""
    options = tuple(str(choice) for choice in choices)
    if not letter and gold.strip() in (stripped := [option.strip() for option in options]):
        return stripped.index(gold.strip())
    if match := BARE.match(gold.strip()):
        index = ord(match[1].upper()) - ord("A")
        if index < len(options):
            return _first(index, options)
    return choose(gold, options).index


@lru_cache(maxsize=2048)
def _choose(text: str, options: tuple[str, ...]) -> Choice:
    exact = [i for i, option in enumerate(options) if option.strip() == text.strip()]
    if exact:
        return _agree(_bare_label(text, options) if text.strip().isupper() else [], exact, options)
    cleaned = plain(text).strip()
    if label := _bare_label(cleaned, options):
        return _agree(label, [], options)
    by_text = _matching(cleaned, options)
    match = REASONED.match(cleaned) or SAID.match(cleaned.casefold())
    if match and (named := _index(match[1], options)) is not None:
        return _agree([named], [], options)
    if not lists_options(text) and (match := LABELLED.match(cleaned)):
        named = _index(match[1] or match[2] or match[3], options)
        rest = _matching(match[4], options)
        certain = match[1] or match[2]
        if MORE.match(match[4]):
            return Choice(None, "two options fit")
        if named is not None and (certain or named in rest):
            if rest and named not in rest:
                return Choice(None, "label and text name different options")
            return _agree([named], [i for i in by_text if i not in rest], options)
        if certain and named is None and (rest or by_text):
            return Choice(None, "no option has this label")
    return _agree([], by_text, options) if by_text else _in_prose(cleaned, options)


def _agree(labelled: Sequence[int], by_text: Sequence[int], options: tuple[str, ...]) -> Choice:
    """The one option that label and text name together."""
    found = {_first(i, options) for i in (*labelled, *by_text)}
    if len(found) == 1:
        return Choice(found.pop(), "the letter of an option" if labelled else "the text of an option")
    return Choice(None, "two options fit" if found else "no option fits")


def _bare_label(text: str, options: tuple[str, ...]) -> list[int]:
    match = BARE.match(text)
    index = _index(match[1], options) if match else None
    return [] if index is None else [index]


def _matching(text: str, options: tuple[str, ...]) -> list[int]:
    """The options that a text is, as words or, failing that, as a quantity."""
    wanted = words(text)
    if not wanted:
        return []
    if found := [i for i, option in enumerate(options) if words(option) == wanted]:
        return found
    if (match := LEADING.match(wanted)) and (
        found := [i for i, option in enumerate(options) if words(option) == match[1]]
    ):
        return found
    read = quantity(text)
    return [i for i, option in enumerate(options) if same_quantity(read, quantity(option))] if read else []


def _in_prose(text: str, options: tuple[str, ...]) -> Choice:
    """The one option that a sentence names, by `(A)` or `option A`, by text, or by its only number."""
    kept = [sentence for sentence in SENTENCE.split(text) if not DENIED.search(sentence)]
    if not kept:
        return Choice(None, "no option fits, and the text denies something")
    text = " ".join(kept)
    indexes = (_index(a or b, options) for a, b in NAMED.findall(text))
    if labelled := [i for i in indexes if i is not None]:
        return _agree(labelled, [], options)
    lowered = f" {BETWEEN.sub(' ', text.casefold())} ".replace(". ", " ")
    inside: dict[int, str] = {}
    for i, option in enumerate(options):
        wanted = BETWEEN.sub(" ", words(option)).strip()
        if (
            len(wanted) >= SHORTEST
            and wanted not in ("yes", "true", "false", "not")
            and f" {wanted} " in lowered
        ):
            inside[i] = wanted
    longest = [
        i for i, w in inside.items() if not any(w != v and f" {w} " in f" {v} " for v in inside.values())
    ]
    if longest:
        return _agree([], longest, options)
    number = (
        None if quantity(text) else only_number(text)
    )  # a quantity that is no option's is not half of one
    return _agree([], [i for i, o in enumerate(options) if same_quantity(number, quantity(o))], options)


def _index(letter: str, options: tuple[str, ...]) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if index < len(options) else None


def _first(index: int, options: tuple[str, ...]) -> int:
    """The first option with the same text: duplicates are one option."""
    return next(i for i, option in enumerate(options) if option.strip() == options[index].strip())
