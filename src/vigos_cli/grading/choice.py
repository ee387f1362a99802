r"""Which of an item's options an answer names: by label, by text, or by both.

>>> choose("(B) 12 cm", ("1 cm", "12 cm")).index
1
>>> choose("B. red", ("red", "blue")).reason
'label and text name different options'

An answer is read as one of these, and as nothing else:

    label          `B`, `(B)`, `option B`; several labels are no choice
    label, text    `(B) blue`, `B. blue`; not where the text is another option or value
    text           the whole answer is an option: the same words, the same formula or the same quantity
    sentence       its claim is one of these, or it names one option, and neither denies nor supposes it

A formula that contains an option is not that option. An option that is written like a label, `(b)`, is meant
where an answer is written exactly so; options that are bare letters are named by their labels. Equal options
are one, unless `letter` says that only a label decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from vigos_cli.grading.normal import plain, words
from vigos_cli.grading.number import quantity, same_quantity
from vigos_cli.grading.prose import CONDITION, DENIED, MODAL, RETRACTED, claim, claims, sentences, withdrawn

OPTION = (  # the words that people put before a label
    r"(?:(?:the|la|el|le|il|die|der) )?(?:(?:options?|choices?|answers?|letter|opción|opção|opzione|вариант"
    r"|选项|选|選択肢|보기|विकल्प|الخيار)\s*:?\s*)?"
)
NAMED_AS = r"\b(?:option|choice|answer|letter)s?(?: is|:)? "
REASON = r"(?:because|since|as|for|rather|instead|which|where|due|not)\b"
CORRECT = r"is (?:the |a )?(?:\w+ )?(?:correct|right|answer|best|one|option|choice)\b"
BARE = re.compile(
    rf"^['\"]?{OPTION}['\"]?[(\[{{]?\s*([A-Za-z])\s*[)\]}}]?\s*[.:,;!]?['\"]?[.]?$", re.IGNORECASE
)
LABEL = re.compile(  # a label with a bracket or a stop, and what follows
    rf"^{OPTION}(?:[(\[]\s*([A-Z])\s*[)\]]|([A-Z])\s*[).:](?![A-Z]\.))\s*[.:,]?(.*)$",
    re.DOTALL | re.IGNORECASE,
)
LETTER = re.compile(r"^([A-Z])(?:\s+-+\s+|\s+)(.*)$", re.DOTALL)  # one without: its text must be the option's
SAID = re.compile(  # `option B because ...`, `B, not A`, `I choose B`, `(B) is the correct option`
    r"^(?:(?:so|thus|hence|therefore),? )?"
    rf"(?:(?:i|we)(?:'d| would)? (?:choose|pick|select|say|go (?:with|for)) |it(?:'s| is) )?{OPTION}"
    r"\(?([A-Z])\)?"
    rf"(?:,?\s+{REASON}.*|[,;]\s*(?!\(?[A-Z]\b).*|\s+\(.*|\s+{CORRECT}.*)?[.!]*$",
    re.DOTALL | re.IGNORECASE,
)
JOINED = r"(?:,|/|&|;|\s|\b(?:and|or|und|oder|y|o|et|ou|e)\b|和|或|または)"
LABELS = re.compile(rf"^\W*[A-Z]\b(?:\W*{JOINED}\W*[A-Z]\b)+\W*$", re.IGNORECASE)
MORE = re.compile(  # another label right behind the first
    r"^\W*(?:(?:and|or|,|/|&)\W*)*\(?(?:[A-Z]\)|[A-Z]\b(?=\W*$)|(?<=or )[A-Z]\b|(?<=and )[A-Z]\b)"
)
NAMED = re.compile(
    rf"{NAMED_AS}\(?([A-Z])\b\)?(?!['’]|\s*{JOINED}\s*(?:or )?\(?[A-Z]\b)|(?:^|[\s*_\"'])\(([A-Z])\)",
    re.IGNORECASE,
)
LISTED = re.compile(r"(?:^|\s)\(?([A-Z])[):](?=\s)|^([A-Z])\.(?=\s)", re.MULTILINE)
LEADING = re.compile(r"^(yes|no|true|false)\b(?=[,.;:!]|\s*$| because| since)")
CONCLUDES = re.compile(r"^\W*(?:so|thus|hence|therefore|consequently|in conclusion)\b", re.IGNORECASE)
MEANT = re.compile(r"\s*(?:is|not|because|since)\b", re.IGNORECASE)  # it speaks about the label
PHRASE = re.compile(r"[.!?;](?:\s|$)|\n| - | because | since | as |, (?=[a-z])| \(")
BETWEEN = re.compile(r"[^\w%°$.+/-]+")  # what stands between words
SPACES = re.compile(r"\s+|\\[,;! ]")
FORMULA = re.compile(r"[=<>≤≥+*/^\\√π∠{}|]|\d[a-z]|(?<!\w)-|\s-\s")
WORD = re.compile(r"(?<![\\a-z])[^\W\d_]{3,}")  # and no command of LaTeX
SIMILAR = 0.75  # of two spellings
SENTENCES = 60  # at the end of a text, that are read
SHORTEST = 3  # letters of an option that is looked for inside a sentence


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that is meant, None without one, and why."""

    index: int | None
    reason: str


NO_OPTION = Choice(None, "no option fits")
SEVERAL = Choice(None, "two options fit")
TEXT, LETTER_OF = "the text of an option", "the letter of an option"


def choose(text: str, choices: Sequence[str], *, letter: bool = False) -> Choice:
    """The option that an answer names; of equal options the first, unless `letter`. Never raises."""
    return _choose(text, tuple(str(choice) for choice in choices), letter)


def gold_index(gold: str, choices: Sequence[str], *, letter: bool = False) -> int | None:
    """The option that is right; `letter` says that golds are letters, whatever the options look like."""
    options = tuple(str(choice) for choice in choices)
    if not (letter or _letters(options)) and gold.strip() in (
        texts := [option.strip() for option in options]
    ):
        return texts.index(gold.strip())
    if match := BARE.match(gold.strip()):
        index = ord(match[1].upper()) - ord("A")
        if index < len(options):
            return index if letter else _first(index, options)
    return choose(gold, options, letter=letter).index


def _letters(options: tuple[str, ...]) -> bool:
    """Whether the options are bare capitals, such as `E, C, D, A, B`."""
    return all(len(option.strip()) == 1 and "A" <= option.strip() <= "Z" for option in options)


@lru_cache(maxsize=2048)
def _choose(text: str, options: tuple[str, ...], letter: bool) -> Choice:
    found = _answer(text, options, letter)
    if found is not NO_OPTION:
        return found
    if _repeats(text):
        return SEVERAL
    if FORMULA.search(plain(text)) and not WORD.search(plain(text)):
        return NO_OPTION
    said = sentences(text)[-SENTENCES:]
    if said and CONCLUDES.match(said[-1]):
        last = _sentence(said[-1], options, letter, loose=True)
        if last.index is not None:
            return last
    while any(RETRACTED.search(one) for one in said):
        said.pop(0)
    found = {_sentence(one, options, letter, loose=one in (said[0], said[-1])) for one in said}
    named = {choice for choice in found if choice.index is not None}
    if len({choice.index for choice in named}) == 1:
        return named.pop()
    return SEVERAL if named else next(iter(sorted(found, key=lambda c: c is NO_OPTION)), NO_OPTION)


def _answer(text: str, options: tuple[str, ...], letter: bool) -> Choice:
    """An answer that is a label, a label with its text, or an option's text."""
    exact = [i for i, option in enumerate(options) if option.strip() == text.strip()]
    if letter and exact:  # equal options may differ in blanks
        exact = [i for i, option in enumerate(options) if _compact(option) == _compact(text)]
    cleaned = plain(text).strip()
    bare = BARE.match(cleaned)
    if exact and not (bare and (letter or _letters(options))):
        label = _index(bare[1], options) if bare and text.strip().isupper() else None
        return _one([*exact, *([] if label is None else [label])], options, letter, TEXT)
    if bare:
        index = _index(bare[1], options)
        return NO_OPTION if index is None else _one([index], options, letter)
    by_text = _matching(cleaned, options)
    match = None if _repeats(text) else LABEL.match(cleaned)
    own = match and (index := _index(match[1] or match[2], options)) is not None and words(options[index])
    if LABELS.match(cleaned) and not by_text and not (match and own == words(match[3])):
        return SEVERAL
    if match:
        return _labelled(match[1] or match[2], match[3], by_text, options, letter)
    if by_text:
        return _one(by_text, options, letter, TEXT)
    match = LETTER.match(cleaned)
    index = _index(match[1], options) if match else None
    if (
        match
        and index is not None
        and (_begins(match[2], options[index]) or _matching(match[2], options) == [index])
    ):
        return _one([index], options, letter)
    match = SAID.match(cleaned)
    index = _index(match[1], options) if match else None
    if match is None or index is None or cleaned.startswith(f"{match[1].lower()} "):  # `a` is an article
        return NO_OPTION
    rest = cleaned[match.end(1) :]
    other = [i for i in _matching(rest.strip(" ().!"), options) if i != index]
    return SEVERAL if other or MORE.match(rest) or withdrawn(rest) else _one([index], options, letter)


def _labelled(
    label: str, rest: str, by_text: Sequence[int], options: tuple[str, ...], letter: bool
) -> Choice:
    """A label and the text behind it, which must not say anything else."""
    index = _index(label, options)
    named = _matching(rest, options) or _matching(PHRASE.split(f"{rest} ")[0], options) or list(by_text)
    if index is not None and _begins(rest, options[index]):
        return _one([index], options, letter)
    if MORE.match(rest):
        return SEVERAL
    if index is None:
        return Choice(None, "no option has this label")
    if reason := withdrawn(rest):
        return Choice(None, f"the response {reason}")
    denial = re.match(r"\s*(?:is|was|can|could|would|does|isn't|can't)\b.*", rest, re.IGNORECASE)
    if denial and DENIED.search(rest) and not re.match(r"\s*is (?:the|an?) ", rest):
        return Choice(None, "the text denies the option")
    own = options[index]
    if (named and not any(options[i].strip() == own.strip() for i in named)) or _differs(rest, own):
        return Choice(None, "label and text name different options")
    return _one([index], options, letter)


def _begins(text: str, option: str) -> bool:
    """Whether a text begins with the words of an option."""
    own = words(option).rstrip("?")
    if own and _compact(text) == _compact(option):
        return True
    return bool(own) and re.match(rf"{re.escape(own)}(?=$|[\s,;:?(]|\.(?:\s|$))", words(text)) is not None


def _differs(rest: str, own: str) -> bool:
    """Whether the short text behind a label is not the option's: another value, or no word of it."""
    phrase = PHRASE.split(f"{rest.strip(' -')} ")[0]
    first, second = quantity(rest) or quantity(phrase), quantity(own)
    if first and second:
        return not same_quantity(first, second)
    if (claimed := claim(phrase)) and (value := quantity(claimed)) and second:
        return not same_quantity(value, second)
    said, meant = (set(re.findall(r"\w+", words(text))) for text in (rest, own))
    spelled = SequenceMatcher(None, words(rest), words(own)).ratio() > SIMILAR
    return bool(said) and len(rest.split()) <= 3 and not (said & meant or spelled or MEANT.match(rest))


def _matching(text: str, options: tuple[str, ...]) -> list[int]:
    """The options that a text is, as words, as a formula or as a quantity."""
    wanted = words(text)
    if not wanted:
        return []
    if found := [i for i, option in enumerate(options) if words(option) == wanted]:
        return found
    compact = _compact(text)
    if found := [i for i, option in enumerate(options) if _compact(option) == compact]:
        return found
    name, equals, value = compact.partition("=")
    if equals and name.isalpha() and (found := [i for i, o in enumerate(options) if _compact(o) == value]):
        return found
    if (match := LEADING.match(wanted)) and (
        found := [i for i, option in enumerate(options) if words(option) == match[1]]
    ):
        return found
    read = quantity(text)
    return [i for i, option in enumerate(options) if same_quantity(read, quantity(option))] if read else []


def _compact(text: str) -> str:
    """A text without blanks, in which `a + b` is no article and a letter."""
    return SPACES.sub("", plain(text).casefold().rstrip(" ."))


def _sentence(text: str, options: tuple[str, ...], letter: bool, loose: bool) -> Choice:
    """The one option that a sentence claims, or, if `loose`, the only one that it names."""
    cleaned = plain(text)
    for claimed in (text, *claims(text)):
        if (found := _answer(claimed, options, letter)) is not NO_OPTION:
            return found
    if CONDITION.search(cleaned) or MODAL.search(cleaned):
        return Choice(None, "the sentence supposes, and does not say")
    marked = [(m, i) for m in NAMED.finditer(cleaned) if (i := _index(m[1] or m[2], options)) is not None]
    sure = [
        i
        for m, i in marked
        if m[1] or (words(options[i]) and words(cleaned[m.end() :]).startswith(words(options[i])))
    ]
    if DENIED.search(cleaned):
        return Choice(None, "no option fits, and the text denies something")
    if sure:
        return _one(sure, options, letter)
    if not loose:
        return NO_OPTION
    spaced = f" {BETWEEN.sub(' ', cleaned.casefold())} ".replace(". ", " ")
    inside = {
        i: wanted
        for i, option in enumerate(options)
        if len(wanted := BETWEEN.sub(" ", words(option)).strip()) >= SHORTEST
        and not FORMULA.search(plain(option))
        and wanted not in ("yes", "true", "false", "not")
        and f" {wanted} " in spaced
    }
    longest = [
        i for i, w in inside.items() if not any(w != v and f" {w} " in f" {v} " for v in inside.values())
    ]
    return _one(longest, options, letter, TEXT)


def _repeats(text: str) -> bool:
    """Whether a text repeats the options with their labels: none of them is the answer for standing first."""
    return len({a or b for a, b in LISTED.findall(text.strip())}) > 1


def _one(indexes: Sequence[int], options: tuple[str, ...], letter: bool, reason: str = LETTER_OF) -> Choice:
    """The one option among `indexes`."""
    found = {index if letter else _first(index, options) for index in indexes}
    if len(found) == 1:
        return Choice(found.pop(), reason)
    return SEVERAL if found else NO_OPTION


def _index(letter: str, options: tuple[str, ...]) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if index < len(options) else None


def _first(index: int, options: tuple[str, ...]) -> int:
    """The first option with the same text."""
    return next(i for i, option in enumerate(options) if option.strip() == options[index].strip())
