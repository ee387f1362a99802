r"""Which of an item's options an answer names: by label, by text, or by both.

>>> choose("(B) 12 cm", ("1 cm", "12 cm")).index
1
>>> choose("B. red", ("red", "blue")).reason
'label and text name different options'

An answer is read as one of these, and as nothing else:

    label          `B`, `(B)`, `option B`; several labels are no choice
    label, text    `(B) blue`, `B. blue`; not if the text is another option or value
    text           the whole answer is an option: the same words, the same formula or the same quantity
    sentence       it claims one of these, or it names one option, and neither denies nor supposes it

A formula that contains an option is not that option. If an option is written like a label, `(b)`, an answer
written in the same way means this option. But if all options are bare letters, an answer `B` is a label.
Equal options count as one, unless `letter` says that only a label decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from vigos_cli.grading.normal import plain, words
from vigos_cli.grading.number import quantity, same_quantity
from vigos_cli.grading.prose import (
    CONDITION,
    DENIED,
    MODAL,
    RETRACTED,
    claim,
    claims,
    conclusion,
    sentences,
    withdrawn,
)

AND = r"(?:and|or|und|oder|y|o|et|ou|e)\b|和|或|または"
LABEL = re.compile(  # `So I choose option (B), not A`: said, letter, mark, rest
    r"^(?P<said>(?:(?:so|thus|hence|therefore),? )?"
    r"(?:(?:i|we)(?:'d| would)? (?:choose|pick|select|say|go (?:with|for)) |it(?:'s| is) )?)"
    r"['\"]?(?:(?:the|la|el|le|il|die|der) )?"
    r"(?:(?:options?|choices?|answers?|letter|opción|opção|opzione|вариант|选项|选|選択肢|보기|विकल्प|الخيار)\s*:?\s*)?"
    r"[(\[{]?\s*(?P<letter>[A-Z])(?![^\W_'])\s*(?P<mark>[)\]}.:](?![A-Z]\.))?(?P<rest>.*)$",
    re.DOTALL | re.IGNORECASE,
)
MORE = re.compile(  # another label behind a label: `and C`, `, (C)`
    rf"^\W*(?:(?:{AND})\W*)?\(?[A-Z](?:\)|\b\W*$|\b\W*(?:[,/&;]|{AND}))|^\W*or (?-i:[A-Z])\b", re.IGNORECASE
)
GOES_ON = re.compile(  # behind a label without a bracket or stop: `B because ...`, `B is the correct option`
    r"^\s*(?:[,;]|\(|(?:because|since|as|for|rather|instead|which|where|due|not)\b"
    r"|is (?:the |a )?(?:\w+ )?(?:correct|right|answer|best|one|option|choice)\b)",
    re.IGNORECASE,
)
SPEAKS = re.compile(  # behind a label with a bracket or stop: `(B) is wrong` speaks about the option
    r"^\s*(?:is|was|can|could|would|does|isn't|can't)\b(?! (?-i:the|an?) )", re.IGNORECASE
)
NAMED = re.compile(  # a label inside a sentence: `choice B`, but not `choice B or C`; and `(B)`
    rf"\b(?:option|choice|answer|letter)s?(?: is|:)? \(?([A-Z])\b\)?(?!['’]|\W*(?:[,/&;]|{AND})\W*\(?[A-Z]\b)"
    r"|(?:^|[\s*_\"'])\(([A-Z])\)",
    re.IGNORECASE,
)
LISTED = re.compile(r"(?:^|\s)\(?([A-Z])[):](?=\s)|^([A-Z])\.(?=\s)", re.MULTILINE)
LEADING = re.compile(r"^(yes|no|true|false)\b(?=[,.;:!]|\s*$| because| since| - )")
CONCLUDES = re.compile(r"^\W*(?:so|thus|hence|therefore|consequently|in conclusion)\b", re.IGNORECASE)
PHRASE = re.compile(r"[.!?;](?:\s|$)| - | because | since | as |, (?=[a-z])| \(")  # where a phrase ends
BETWEEN = re.compile(r"[^\w%°$.+/-]+")  # what stands between words
DASH = re.compile(r"^\s*-+\s+")  # in `B - blue`
SPACES = re.compile(r"\s+|\\[,;! ]")
FORMULA = re.compile(r"[=<>≤≥+*/^\\√π∠{}|]|\d[a-z]|(?<!\w)-|\s-\s")
WORD = re.compile(r"(?<![\\a-z])[^\W\d_]{3,}")  # but no command of LaTeX
ENDS = " .:,;!'\")]}"
SIMILAR = 0.75  # smallest similarity of two spellings of a word
SENTENCES = 60  # number of sentences at the end of a text that are read
SHORTEST = 3  # number of letters of an option that is looked for inside a sentence


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that an answer names, None without one, and why."""

    index: int | None
    reason: str


NO_OPTION = Choice(None, "no option fits")
SEVERAL = Choice(None, "two options fit")
TEXT, LETTER = "the text of an option", "the letter of an option"


@dataclass(frozen=True)
class Options:
    """The texts of an item's options; `letter` says that equal options are told apart by their labels."""

    texts: tuple[str, ...]
    letter: bool

    @property
    def letters(self) -> bool:
        """Whether the options are bare letters, so that a letter is a label."""
        return all(re.fullmatch("[A-Z]", text) for text in self.texts)

    def index(self, label: str) -> int | None:
        """The option with this label."""
        index = ord(label.upper()) - ord("A")
        return index if index < len(self.texts) else None

    def one(self, indexes: Iterable[int], reason: str) -> Choice:
        """The one option among `indexes`."""
        found = {i if self.letter else self.texts.index(self.texts[i]) for i in indexes}
        if len(found) == 1:
            return Choice(found.pop(), reason)
        return SEVERAL if found else NO_OPTION

    def matching(self, text: str) -> list[int]:
        """The options that a text is, as words, as a formula or as a quantity."""
        name, _, value = _compact(text).partition("=")
        leading = LEADING.match(words(text))
        for form, wanted in (
            (words, words(text)),
            (_compact, _compact(text)),
            (_compact, value if name.isalpha() else ""),
            (words, leading[1] if leading else ""),
        ):
            if wanted and (found := [i for i, option in enumerate(self.texts) if form(option) == wanted]):
                return found
        return [i for i, option in enumerate(self.texts) if same_quantity(quantity(text), quantity(option))]


def choose(text: str, choices: Sequence[str], *, letter: bool = False) -> Choice:
    """The option that an answer names; of equal options the first, unless `letter`. Never raises."""
    return _choose(text, Options(tuple(str(choice).strip() for choice in choices), letter))


@lru_cache(maxsize=2048)
def _choose(text: str, options: Options) -> Choice:
    found = _answer(text, options)
    if found is not NO_OPTION and (found.index is not None or not conclusion(text)):
        return found
    said = sentences(text)[-SENTENCES:]
    if _repeats(text):  # only what concludes from the list counts
        if not said or not CONCLUDES.match(said[-1]):
            return SEVERAL
        said = said[-1:]
    if FORMULA.search(plain(text)) and not WORD.search(plain(text)):
        return NO_OPTION
    if said and CONCLUDES.match(said[-1]):
        last = _sentence(said[-1], options, loose=True)
        if last.index is not None:
            return last
    while any(RETRACTED.search(one) for one in said):
        said.pop(0)
    found = [_sentence(one, options, loose=one in (said[0], said[-1])) for one in said]
    named = {choice.index: choice for choice in found if choice.index is not None}
    if len(named) == 1:
        return named.popitem()[1]
    return SEVERAL if named else next((choice for choice in found if choice != NO_OPTION), NO_OPTION)


def _answer(text: str, options: Options) -> Choice:
    """The option of an answer that is a label, a label with its text, or an option's text."""
    cleaned = plain(text)
    match = None if _repeats(text) else LABEL.match(cleaned)
    bare = match and not match["rest"].strip(ENDS)
    label = options.index(match["letter"]) if match else None
    exact = [i for i, option in enumerate(options.texts) if option == text.strip()]
    if exact and not (bare and (options.letter or options.letters)):
        if options.letter:
            exact = options.matching(cleaned)  # equal options may differ in blanks
        also = [label] if bare and label is not None and text.strip().isupper() else []
        return options.one([*exact, *also], TEXT)
    if bare:
        return NO_OPTION if label is None else options.one([label], LETTER)
    by_text = options.matching(cleaned)
    if match and match["mark"] and not match["said"]:
        return _marked(label, match["rest"].lstrip(" .:,"), by_text, options)
    if by_text or not match or label is None:
        return options.one(by_text, TEXT)
    rest = DASH.sub("", match["rest"])
    own = options.texts[label]
    if _begins(rest, own) or options.matching(rest) == [label]:
        return SEVERAL if withdrawn(rest[len(own) :]) else options.one([label], LETTER)
    if MORE.match(rest):
        return SEVERAL
    if not GOES_ON.match(rest) or cleaned.startswith(f"{match['letter'].lower()} "):  # `a` is an article
        return NO_OPTION
    other = options.matching(rest.strip(" ().!"))
    return SEVERAL if other not in ([], [label]) or withdrawn(rest) else options.one([label], LETTER)


def labelled(text: str) -> tuple[str, str]:
    """The letter of an answer such as `B` or `(B) blue`, and the text behind it; empty for any other."""
    match = LABEL.match(plain(text))
    if match is None or match["said"] or MORE.match(match["rest"]):
        return "", ""
    rest = match["rest"].strip(ENDS)
    return (match["letter"].upper(), rest) if match["mark"] or not rest else ("", "")


def _marked(label: int | None, rest: str, by_text: Sequence[int], options: Options) -> Choice:
    """The option of a label with a bracket or stop, unless the text behind it says anything else."""
    if label is not None and _begins(rest, options.texts[label]):
        return options.one([label], LETTER)
    if MORE.match(rest):
        return SEVERAL
    if label is None:
        return Choice(None, "no option has this label")
    if reason := withdrawn(rest):
        return Choice(None, reason)
    if SPEAKS.match(rest) and DENIED.search(rest):
        return Choice(None, "the text denies the option")
    named = options.matching(rest) or options.matching(PHRASE.split(f"{rest} ")[0]) or by_text
    own = options.texts[label]
    if (named and own not in (options.texts[i] for i in named)) or _differs(rest, own):
        return Choice(None, "label and text name different options")
    return options.one([label], LETTER)


def _begins(text: str, option: str) -> bool:
    """Whether a text begins with the words of an option."""
    own = words(option).rstrip("?")
    if own and _compact(text) == _compact(option):
        return True
    return bool(own) and re.match(rf"{re.escape(own)}(?=$|[\s,;:?(]|\.(?:\s|$))", words(text)) is not None


def _differs(rest: str, own: str) -> bool:
    """Whether the short text behind a label is not the option's: another value, or no word of it."""
    if not own:
        return False
    phrase = PHRASE.split(f"{rest.strip(' -')} ")[0]
    if meant := quantity(own):
        for said in (rest, phrase, claim(phrase) or ""):
            if value := quantity(said):
                return not same_quantity(value, meant)
    first, second = (set(re.findall(r"\w+", words(text))) for text in (rest, own))
    if not first or len(rest.split()) > 3 or first & second or re.match(r"is|not|because|since", rest):
        return False
    return SequenceMatcher(None, words(rest), words(own)).ratio() <= SIMILAR


def _compact(text: str) -> str:
    """A text without blanks, in which `a + b` is no article and a letter."""
    return SPACES.sub("", plain(text).casefold().rstrip(" ."))


def _sentence(text: str, options: Options, loose: bool) -> Choice:
    """The one option that a sentence claims, or, if `loose`, the only one that it names."""
    concluded = _answer(conclusion(text) or "", options)
    if concluded.index is not None:
        return concluded
    for claimed in (text, *claims(text)):
        if (found := _answer(claimed, options)) is not NO_OPTION:
            return found
    cleaned = plain(text)
    if CONDITION.search(cleaned) or MODAL.search(cleaned):
        return Choice(None, "the sentence supposes, and does not say")
    if DENIED.search(cleaned):
        return Choice(None, "no option fits, and the text denies something")
    marked = [
        index
        for match in NAMED.finditer(cleaned)
        if (index := options.index(match[1] or match[2])) is not None
        and (match[1] or not options.texts[index] or _begins(cleaned[match.end() :], options.texts[index]))
    ]
    if marked or not loose:
        return options.one(marked, LETTER)
    spaced = f" {BETWEEN.sub(' ', cleaned.casefold())} ".replace(". ", " ")
    inside = {
        i: f" {wanted} "
        for i, option in enumerate(options.texts)
        if len(wanted := BETWEEN.sub(" ", words(option)).strip()) >= SHORTEST
        and not FORMULA.search(plain(option))
        and wanted not in ("yes", "true", "false", "not")
        and f" {wanted} " in spaced
    }
    longest = [i for i, w in inside.items() if not any(w != v and w in v for v in inside.values())]
    return options.one(longest, TEXT)


def _repeats(text: str) -> bool:
    """Whether a text repeats several options with their labels, so that the first of them is no answer."""
    return len({a or b for a, b in LISTED.findall(text.strip())}) > 1
