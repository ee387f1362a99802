r"""Read what a sentence claims, and notice if a response takes its answer back.

>>> claim("So the number of dogs in the picture is 4.")
'4'
>>> claim("Blue is the correct answer.")
'Blue'
>>> withdrawn("No, wait, that is wrong.")
'the response takes its answer back'

The rules for whole sentences are for English. In another language an answer is read if it is stated in words
that `extract` knows.
"""

from __future__ import annotations

import re

from vigos_cli.grading.normal import LONGEST, plain


def any_of(*phrases: str) -> re.Pattern[str]:
    """A pattern of phrases that begin at a word, in any case."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})", re.IGNORECASE)


SENTENCE = re.compile(r"(?<=[.!?。])(?<!\b[A-Z]\.)\s+|\n+")  # but not behind an initial: `H. Baroque`
COURTESY = any_of(r"hope (?:this|that|it)\b", "let me know", "feel free", r"[^?]*\?\W*$")
STATES = re.compile(  # `there are a total of`
    r"\b(?:is|are|was|were|be|has|have|equals|equal to|becomes|comes to|holds|contains"
    r"|reads|measures|weighs|costs|pays?|shows)\b:?(?: a total of)?"
)
ASIDE = re.compile(r",? (?:which|because|since)\b|, as\b")  # begins behind a claim
INFERRED = re.compile(r".*\b(?:so|thus|hence|therefore|i\.e\.|namely)\b", re.IGNORECASE | re.DOTALL)
LEAD = re.compile(r"^.*[,:] |^(?:so|thus|hence|therefore) ", re.IGNORECASE)
TITLE = re.compile(  # `the correct answer` in `X is the correct answer`
    r"^(?:the |an? )?(?:(?:only|most|final|correct|right|best|likely|suitable|appropriate|one|valid) ?)*"
    r"(?:answer|option|choice|one|correct|right)(?: here| (?:to|of|for) (?:the|this) (?:question|problem))?$",
    re.IGNORECASE,
)
LONG = 400  # number of characters of a sentence

DENIED = re.compile(
    r"\b(?:not|never|neither|nor|incorrect|wrong|cannot|except|without|no longer|excluded|eliminated"
    r"|ruled out)\b|n't\b|\bno\b(?= \w)",
    re.IGNORECASE,
)
MODAL = any_of(r"(?:might|may|could|perhaps|maybe|possibly|either)\b")
UNSURE = re.compile(  # in front of `is`: `it might be 4`
    r"(?:\b(?:might|may|could|perhaps|maybe|possibly|not|never|cannot)|n't)\W*(?:\w{1,6}\W*)?$", re.IGNORECASE
)
CONDITION = any_of(  # `if it rains`, but not `if we add them`
    r"(?:if(?! (?:we|you|i|one)\b)|unless|suppose|supposing|whether|in case|would have)\b",
    r"were (?:\w+ing|it to)\b",
    r"(?:si|wenn|если)\b|如果|假如|もし|만약|إذا|यदि|अगर",
)
DOUBTED = re.compile(  # `I do not think that it is 4`
    r"(?:\bnot|n't|\bnever|\bhardly)\b(?: \w+)? (?:think|thought|believe|say|sure|certain|claim|mean|agree"
    r"|convinced|true|clear|know|the case|correct|right)\b",
    re.IGNORECASE,
)
CANNOT = r"(?:(?:can|could) ?not|(?:ca|could)n't|(?:im|not )possible to|(?:un|not )able to|no way to)"
OPTIONS = r"(?:options?|choices?|answers?|alternatives?|candidates?|list)\b"
UNDECIDED = (  # `it cannot be determined`
    rf"{CANNOT} (?:\w+ ){{0,3}}?(?:determine|tell|answer|say|know|decide|told|known|said)d?\b"
    r"|(?:insufficient|not enough) (?:information|data|detail)|无法|不能确定"
)
DECLINED = any_of(UNDECIDED)
REFUSED = any_of(
    UNDECIDED,
    rf"{CANNOT} (?:\w+ )?(?:see|view|open|process|access|read|identify|help|assist|provide)\b",
    r"unknown\b|no (?:answer|information|image|picture)\b",
    r"i (?:cannot|can't|am (?:un|not )able|(?:do not|don't) (?:have|know))\b",
    r"(?:please|(?:could|can|would) you) (?:provide|give|send|share|upload|tell|attach|describe)\b",
    r"not (?:provided|given|enough|visible|sure|clear|specified|available)\b",
)
NO_FIT = any_of(
    rf"(?:none|neither|not? one|no(?! other))(?: (?:of|the|these|those|them|any))*(?: \w+){{0,2}} {OPTIONS}",
    r"(?:none|neither)(?: of)? (?:the|these|those|them)(?: \w+){0,2} (?:listed|match(?:es)?|fits?)\b",
    rf"not (?:\w+ ){{0,3}}(?:among|in|one of|any of|listed|offered|match)(?: \w+){{0,4}} {OPTIONS}",
    rf"(?:{CANNOT}|(?:does|do)(?: not|n't)|fails? to) (?:\w+ )?(?:match|fit) (?:any|one|the options)\b",
    r"not (?:listed|offered)\b",
    rf"all (?:of )?(?:the |these )?{OPTIONS} are (?:wrong|incorrect)\b",
)
RETRACTED = any_of(
    r"(?:wait|hold on|scratch that|strike that|on second thoughts?|my mistake|let me re\w+)\b",
    r"i (?:was|am) (?:wrong|mistaken)\b",
    r"(?:i|let me) (?:correct|retract|take (?:that|it) back|made an? (?:\w+ )?(?:mistake|error))\b",
    r"(?:that|this|it)(?:'s| is| was| must be| seems| answer is)? (?:wrong|incorrect|a mistake)\b",
    r"(?:(?:is|was|ca)n't|(?:is|was|can) ?not|(?:that|this|it)'s not) (?:be )?(?:it|right|correct|so)\b",
)


DOUBTED_AFTER = re.compile(r"^\s*\?[\W_]*no\b", re.IGNORECASE)  # `The answer is 42? No, 17`


def sentences(text: str) -> list[str]:
    """The sentences that say something, without the questions and courtesies at the end."""
    found = [part.strip() for part in SENTENCE.split(text[-LONGEST:].strip()) if any(map(str.isalnum, part))]
    while len(found) > 1 and COURTESY.search(found[-1]):
        found.pop()
    return found


def last_sentence(text: str) -> str:
    """The last sentence that may hold an answer; empty without one."""
    return next(reversed(sentences(text)), "")


def claims(sentence: str) -> list[str]:
    """What a sentence says that its subject is, the longest reading first.

    Of `X is the correct answer`, it is X. Empty if the sentence claims nothing, denies it or supposes it.
    """
    text = plain(ASIDE.split(sentence, maxsplit=1)[0]).strip(" .!")
    if len(text) > LONG or CONDITION.search(text) or DOUBTED.search(text):
        return []
    found = []
    for match in STATES.finditer(text):
        subject, predicate = text[: match.start()], text[match.end() :].strip(" :")
        if TITLE.match(predicate):
            predicate = LEAD.sub("", subject.strip(" ,"))
        elif UNSURE.search(subject):
            continue
        if predicate and not DENIED.match(predicate):
            found.append(predicate)
    return found


def conclusion(sentence: str) -> str | None:
    """What stands behind the last "so" or "hence" of a sentence; None without one."""
    inferred = INFERRED.match(sentence[-LONG:])
    return sentence[-LONG:][inferred.end() :].strip(" ,:.") or None if inferred else None


def claim(sentence: str) -> str | None:
    """The shortest of the claims of a sentence; None without one."""
    found = claims(sentence)
    return found[-1] if found and not DENIED.search(found[-1]) else None


def declines(text: str) -> str | None:
    """Why a text without a stated answer gives none: it refuses, asks, or says that no option fits."""
    if REFUSED.search(text.replace("’", "'")):
        return "the response declines to answer"
    return _no_fit(text)


def withdrawn(after: str) -> str | None:
    """Why what follows a stated answer takes it back; None if it does not."""
    after = after.replace("’", "'")
    if RETRACTED.search(after) or DOUBTED_AFTER.search(after):
        return "the response takes its answer back"
    return "the response says that it cannot be answered" if DECLINED.search(after) else _no_fit(after)


def _no_fit(text: str) -> str | None:
    return "the response says that no option fits" if NO_FIT.search(text.replace("’", "'")) else None
