r"""Find the statements of an answer in a response.

>>> extract("<think> 2 + 2 </think> \\boxed{4}")
'4'
>>> extract("Four boxes, so:\nAnswer: **4**")
'**4**'
>>> extract("答えはBです。")
'B'
>>> extract("4 boxes")
'4 boxes'

A statement is a balanced `\boxed{}`, an `<answer>` tag, a JSON object with one answer, or what follows
"answer:" or "the answer is" in one of twelve languages. The last statement counts. A box or tag is preferred
to a sentence before it; `Found.stated` is a sentence after it. Without a statement the whole text is the
answer. If a structure was begun and not finished (a thought or a box that never closes), there is no answer.
A response ends at an end-of-turn token, and in front of another question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vigos_cli.grading.prose import CONDITION, DENIED
from vigos_cli.method.segments import BOX, DESCRIPTION, DESCRIPTION_END, THINK, THINK_END, boxes

ANSWER, ANSWER_END = "<answer>", "</answer>"
TAIL = 20_000  # number of characters at the end of a response in which statements are looked for
SHORT = 120  # number of characters in front of another question that are an answer by themselves
OBJECTS = 50  # number of braces at which a JSON object is tried
DEEPEST = 5  # number of objects and lists inside one another

BEGUN = re.compile(r"^\s*(?:<\|[a-z_]+\|>\s*(?:assistant\s*\n)?|<s>|<bos>)+", re.IGNORECASE)
ENDED = re.compile(
    r"</s>|<\|(?:im_end|endoftext|eot_id|end|end_of_text|end_of_turn|return)\|>|<end_of_turn>|<eos>"
)
NEXT_QUESTION = re.compile(  # a line such as `Question: ...`, `Hint: ...` and `Question: ...`, or `Problem 2`
    r"^[ \t*#>-]{0,10}(?:Hint:[^\n]{0,300}\n[ \t*#>-]{0,10})?"
    r"(?:(?:(?:(?:next|new|another|follow-up) )?question|q|user|human|instruction|问题|問題|问)"
    r"[ *]{0,4}\d{0,3}[ *]{0,4}[:：]|(?:question|problem|exercise|example) \d{1,3}\W{0,4}$)",
    re.IGNORECASE | re.MULTILINE,
)
SPACED_BOX = re.compile(r"\\f?boxed\s*\{")

# The words for "answer" and for "is" in languages with blanks between words, and in other languages
SPACED = {
    "English": (
        "answers?|(?:correct|right|best) (?:option|choice)",
        "is|are|(?:would|should|must|will) be",
    ),
    "Spanish": ("respuesta|opción correcta", "es|sería|debe ser"),
    "French": ("réponse|bonne option|option correcte", "est|serait|c'est"),
    "German": ("antwort|lösung|richtige option", "ist|lautet|wäre"),
    "Portuguese": ("resposta|alternativa correta|opção correta", "é|seria|será"),
    "Italian": ("risposta|opzione corretta", "è|sarebbe"),
    "Russian": ("ответ(?:ом)?|вариант", "это|является|—|–|-"),
}
JOINED = {
    "Chinese": ("答案|正确选项|故选|应选|選項|选项", "应该是|应为|是|为|為"),
    "Japanese": ("答え|解答|正解|回答|答", "は|が"),
    "Korean": ("정답|답변|답", "은|는|이|가"),
    "Arabic": ("الإجابة|الاجابة|الجواب|إجابة|جواب", "هي|هو|هى"),
    "Hindi": ("उत्तर|जवाब", "है|हैं|—"),
}
BETWEEN = (  # words between "answer" and "is"
    "to (?:the|this|your) (?:question|problem)|option|choice|letter"
    "|here|therefore|thus|then|simply|clearly|definitely|final"
    "|correcta|correcte|correta|corretta|définitive|finale|definitiva|auf die frage|a la pregunta"
    "|à la question|alla domanda|para a pergunta|на вопрос|الصحيحة|الصحيح|النهائية|النهائي"
)
SPACED_ANSWER, SPACED_IS = ("|".join(words) for words in zip(*SPACED.values(), strict=True))
JOINED_ANSWER, JOINED_IS = ("|".join(words) for words in zip(*JOINED.values(), strict=True))
HEAD = re.compile(  # `Final answer:`, a heading `Answer`, `the answer to the question is`; `答案是`, `答案 B`
    rf"(?<![^\W_])(?:{SPACED_ANSWER})(?![^\W_])(?:[\s*_]+(?:{BETWEEN})(?![^\W_])){{0,3}}[*_\"']*"
    r"(?P<colon>\s*[:：]|\]|[*_#\s]*\n+)?"
    rf"(?(colon)|(?:\s+(?:{SPACED_IS})(?![^\W_])(?:\s+(?:{BETWEEN})(?![^\W_]),?)?|\s*=(?=\s)))"
    rf"|(?:{JOINED_ANSWER})(?:\s*(?:{BETWEEN}))?[*_\"'）)」』]*(?P<mark>\s*[:：])?"
    rf"(?(mark)|\s*(?:{JOINED_IS}|(?=[(（\[]?[A-Za-zＡ-Ｚａ-ｚ０-９\d$\\-])))",
    re.IGNORECASE,
)
STOP = re.compile(r"[.!?](?=[*_\"')\]]*(?:\s|$))|[。।؟۔\n]|，(?=[^\W\d_a-zA-Z])")
UNPAIRED = re.compile(r"\$+(?!\s?-?[\d.])[^$]*$|[^$]*\$$")
SURROUNDED = re.compile(  # belongs to the words in front; `> 42` in a line is an inequality
    r"^(?:[\s:：}]|(?<=\n)>|>(?!=?\s*[-+−$\\]*[\d.])|\*\*(?=[\s:：])|[*_](?=\s))*"
)
NOT_BUT = re.compile(r"^not [^.]{1,60}? but (?:rather )?", re.IGNORECASE)  # `not (D) but (B)`
BULLET = re.compile(r"^[-*•]\s+(?=[*(])")
ALTERNATIVE = re.compile(r"[\s$,*]*\b(?:or|and|或|oder|ou|o)\b[\s$*]*$", re.IGNORECASE)  # between two boxes
INFERRED = re.compile(r"[;:]\s|\b(?:so|thus|hence|therefore|consequently)\b", re.IGNORECASE)
FINAL_VERB = re.compile(r"\s*(?:です|である|でしょう|だ|입니다|이다|이에요|예요|है|हैं)[\s。．.।!！]*$")
KEYS = re.compile(
    r"(?:final|correct|predicted|the|my|your)?[ _-]*"
    rf"(?:{SPACED_ANSWER}|{JOINED_ANSWER}|prediction|choice|option)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer as the response states it, and what the response says after it."""

    text: str
    after: str = ""
    box: bool = False  # in a box or a tag, which holds nothing but the answer


@dataclass(frozen=True, slots=True)
class Found:
    """The readings of a response: a box or tag, and the last sentence after it that states an answer.

    `whole` is the text to read if both are None; it is empty if a structure was never finished.
    """

    framed: Statement | None
    stated: Statement | None
    whole: str


NOTHING = Found(None, None, "")


def extract(text: str, *, answer: str = "") -> str | None:
    """The answer in a response, stripped but otherwise as written; None if there is none.

    `answer` is that of an already parsed structured response. It wins if it is not blank. Never raises.
    """
    if answer.strip():
        return answer.strip()
    found = find(text)
    statement = found.framed or found.stated
    return (statement.text if statement else found.whole) or None


def framed(text: str) -> str | None:
    """The answer of a structured response: in a box, in a tag, or behind the thought.

    Empty if the structure was begun and not finished, None if there is no structure.
    """
    found = find(text)
    if found.framed:
        return found.framed.text
    return found.whole if not found.whole or THINK_END in text or DESCRIPTION_END in text else None


def find(response: str) -> Found:
    """Find the statements of an answer in a response."""
    text = SPACED_BOX.sub(lambda _: BOX, ended(response))
    structured = False
    for opening, closing in ((THINK, THINK_END), (DESCRIPTION, DESCRIPTION_END)):
        if closing in text:
            structured = True
            behind = text.rpartition(closing)[2]
            text = behind if BOX in behind or BOX not in text else text
        elif opening in text and BOX not in text and ANSWER not in text:
            return NOTHING
    if BOX in text:
        spans = boxes(text)
        start, end = spans[-1] if spans else (0, 0)
        said, after = text[start:end].strip(), text[end + 1 :]
        if len(spans) > 1 and ALTERNATIVE.match(text[spans[-2][1] + 1 : start - len(BOX)]):
            said = f"{text[slice(*spans[-2])].strip()} or {said}"
    elif ANSWER in text:
        said, _, after = text.rpartition(ANSWER)[2].partition(ANSWER_END)
        said = said.strip()
    else:
        return Found(None, _last(text[-TAIL:]), text.strip())
    if not said:
        return NOTHING
    if structured:
        return Found(Statement(said, box=True), None, text.strip())
    return Found(Statement(said, after, box=True), _last(after[-TAIL:]), text.strip())


def ended(response: str) -> str:
    """The response up to its end-of-turn token, or to where it asks itself another question."""
    response = ENDED.split(BEGUN.sub("", response), maxsplit=1)[0]
    start = len(response) - len(response.lstrip())
    following = NEXT_QUESTION.search(response, start + 1)  # one at the very beginning is the item's own
    if following is None:
        return response
    before = response[: following.start()]
    answered = len(before) < SHORT or HEAD.search(before[-TAIL:]) or BOX in before or ANSWER in before
    return before if answered else response


def _last(text: str) -> Statement | None:
    """The last statement outside of boxes; None without one."""
    objects = list(_objects(text))
    for match in reversed(list(HEAD.finditer(text))):
        if objects and match.start() < objects[-1][1]:
            break
        if statement := _statement(text, match):
            return statement
    if not objects:
        return None
    start, end, answers = objects[-1]
    return Statement(answers.pop() if len(answers) == 1 else text[start:end], text[end:])


def _statement(text: str, match: re.Match[str]) -> Statement | None:
    """What follows the words "the answer is"; None if it is denied, conditional or empty."""
    before = STOP.split(text[max(0, match.start() - 300) : match.start()])[-1]
    clause = INFERRED.split(before)[-1]
    if CONDITION.search(clause) or DENIED.search(clause.rsplit(",", 1)[-1]):
        return None
    colon = match["colon"] or match["mark"]
    if colon and not colon.strip("*_# \t\n") and len(before.split()) > 2:
        return None  # a line break after the word "answer" counts in a heading only
    rest = SURROUNDED.sub("", text[match.end() :], count=1)
    stop = re.search(r"\n", rest) if colon else STOP.search(rest)
    end = stop.start() if stop else len(rest)
    said = _clean(rest[:end])
    return Statement(said, rest[end:]) if said and BOX not in said else None


def _clean(said: str) -> str:
    r"""A statement without what belongs to its surroundings: `C} \]`, `$B`, a verb at the end."""
    said = FINAL_VERB.sub("", said.strip(" \t\r\n»」』】#").rstrip(" \t\r\n>»」』】#"))
    said = BULLET.sub("", NOT_BUT.sub("", said))
    for opening, closing in (("{", "}"), ("\\[", "\\]"), ("\\(", "\\)")):
        while said.endswith(closing) and said.count(opening) < said.count(closing):
            said = said[: -len(closing)].rstrip()
    return (said.strip("$") if UNPAIRED.match(said) else said).strip()


def _objects(text: str) -> Iterator[tuple[int, int, set[str]]]:
    """JSON objects with an answer: start, end, and the different answers."""
    at, decoder = 0, json.JSONDecoder()
    for _ in range(OBJECTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
            answers = set(_answers([value]))
        except (ValueError, RecursionError):
            at += 1
            continue
        if answers:
            yield at, end, answers
        at = end


def _answers(values: list[Any], depth: int = 0) -> Iterator[str]:
    """The values of the keys that are called `answer` or the like, also in nested objects."""
    for value in values if depth <= DEEPEST else ():
        if isinstance(value, list):
            yield from _answers(value, depth + 1)
        for key, inner in value.items() if isinstance(value, dict) else ():
            parts = inner if isinstance(inner, list) else [inner]
            if KEYS.fullmatch(key.strip()) and not any(isinstance(part, dict) for part in parts):
                yield ", ".join(map(str, parts))
            else:
                yield from _answers(parts, depth + 1)
