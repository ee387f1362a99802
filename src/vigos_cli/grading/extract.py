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
"answer:" or "the answer is" in one of twelve languages. The last one counts. A box or tag is preferred to a
sentence before it, and `Found.stated` keeps a sentence after it. Without a statement it is the whole text.
A structure that was begun and not finished (a thought or a box that never closes) has no answer. A response
ends at an end-of-turn token, and where it goes on to another question.
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
TAIL = 20_000  # characters at the end of a response in which statements are looked for
OBJECTS = 50  # braces at which a JSON object is tried

BEGUN = re.compile(r"^\s*(?:<\|[a-z_]+\|>\s*(?:assistant\s*\n)?|<s>|<bos>)+", re.IGNORECASE)
ENDED = re.compile(
    r"</s>|<\|(?:im_end|endoftext|eot_id|end|end_of_text|end_of_turn|return)\|>|<end_of_turn>|<eos>"
)
NEXT_QUESTION = re.compile(
    r"^[ \t*#>-]{0,10}(?:Hint:[^\n]{0,300}\n[ \t*#>-]{0,10})?"
    r"(?:(?:(?:(?:next|new|another|follow-up) )?question|q|user|human|instruction|问题|問題|问)"
    r"[ *]{0,4}\d{0,3}[ *]{0,4}[:：]|(?:question|problem|exercise|example) \d{1,3}\W{0,4}$)",
    re.IGNORECASE | re.MULTILINE,
)
SPACED_BOX = re.compile(r"\\f?boxed\s*\{")

# Of each language: the words for "answer" and for "is"
LANGUAGES = {
    "English": (
        r"answers?|(?:correct|right|best) (?:option|choice|response)",
        "is|are|would be|should be|must be|will be",
    ),
    "Spanish": ("respuesta|opción correcta", "es|sería|debe ser"),
    "French": ("réponse|bonne option|option correcte", "est|serait|c'est"),
    "German": ("antwort|lösung|richtige option", "ist|lautet|wäre"),
    "Portuguese": ("resposta|alternativa correta|opção correta", "é|seria|será"),
    "Italian": ("risposta|opzione corretta", "è|sarebbe"),
    "Russian": ("ответ(?:ом)?|вариант", "это|является|—|–|-"),
    "Chinese": ("答案|正确选项|故选|应选|選項|选项", "应该是|应为|是|为|為"),
    "Japanese": ("答え|解答|正解|回答|答", "は|が"),
    "Korean": ("정답|답변|답", "은|는|이|가"),
    "Arabic": ("الإجابة|الاجابة|الجواب|إجابة|جواب", "هي|هو|هى"),
    "Hindi": ("उत्तर|जवाब", "है|हैं|—"),
}
SPACED = ("English", "Spanish", "French", "German", "Portuguese", "Italian", "Russian")
BETWEEN = (  # words between "answer" and "is"
    "to (?:the|this|your) (?:question|problem)|option|choice|letter"
    "|here|therefore|thus|then|simply|clearly|definitely|final"
    "|correcta|correcte|correta|corretta|définitive|finale|definitiva|auf die frage|a la pregunta"
    "|à la question|alla domanda|para a pergunta|на вопрос|الصحيحة|الصحيح|النهائية|النهائي"
)


def _head() -> re.Pattern[str]:
    spaced = "|".join(LANGUAGES[name][0] for name in SPACED)
    verbs = "|".join(LANGUAGES[name][1] for name in SPACED)
    joined = "|".join(words for name, (words, _) in LANGUAGES.items() if name not in SPACED)
    marks = "|".join(verb for name, (_, verb) in LANGUAGES.items() if name not in SPACED)
    said = rf"(?:\s+(?:{verbs})(?![^\W_])(?:\s+(?:{BETWEEN})(?![^\W_]),?)?|\s*=(?=\s))"
    answer_like = r"(?=[(（\[]?[A-Za-zＡ-Ｚａ-ｚ０-９\d$\\-])"
    return re.compile(
        rf"(?<![^\W_])(?:{spaced})(?![^\W_])(?:[\s*_]+(?:{BETWEEN})(?![^\W_])){{0,3}}[*_\"']*"
        rf"(?P<colon>\s*[:：]|[*_#\s]*\n+)?(?(colon)|{said})"
        rf"|(?:{joined})(?:\s*(?:{BETWEEN}))?[*_\"'）)」』]*(?P<mark>\s*[:：])?"
        rf"(?(mark)|(?:\s*(?:{marks})|\s*{answer_like}))",
        re.IGNORECASE,
    )


HEAD = _head()
STOP = re.compile(r"[.!?](?=[*_\"')\]]*(?:\s|$))|[。।؟۔\n]|，(?=[^\W\d_a-zA-Z])|(?<=[.!?])\s+(?=[A-Z])")
UNPAIRED = re.compile(r"\$+(?!\s?-?[\d.])[^$]*$|[^$]*\$$")
SURROUNDED = re.compile(
    r"^(?:[\s:：>}]|\*\*(?=[\s:：])|[*_](?=\s))*"
)  # what still belongs to the words before
ALTERNATIVE = re.compile(r"[\s$,*]*\b(?:or|and|或|oder|ou|o)\b[\s$*]*$", re.IGNORECASE)  # between two boxes
INFERRED = re.compile(r"[;:]\s|\b(?:so|thus|hence|therefore|consequently)\b", re.IGNORECASE)
FINAL_VERB = re.compile(r"\s*(?:です|である|でしょう|だ|입니다|이다|이에요|예요|है|हैं)[\s。．.।!！]*$")
KEYS = re.compile(
    r"(?:final|correct|predicted|the|my|your)?[ _-]*"
    rf"(?:{'|'.join(words for words, _ in LANGUAGES.values())}|prediction|choice|option)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer as the response states it, and what the response says after it."""

    text: str
    after: str = ""
    box: bool = False  # in a box or a tag, where nothing but the answer stands


@dataclass(frozen=True, slots=True)
class Found:
    """The readings of a response: a box or tag, and the last sentence after it that states an answer.

    `whole` is the text to read where both are None; `broken` says that a structure was never finished.
    """

    framed: Statement | None
    stated: Statement | None
    whole: str
    broken: bool = False


def extract(text: str, *, answer: str = "") -> str | None:
    """The answer in a response, stripped but otherwise as written; None where there is none.

    `answer` is that of an already parsed structured response, and wins when it is not blank. Never raises.
    """
    if answer.strip():
        return answer.strip()
    found = find(text)
    statement = found.framed or found.stated
    return (statement.text if statement else found.whole) or None


def framed(text: str) -> str | None:
    """What stands where a structured response has its answer: in a box, a tag, or behind the thought.

    Empty where the structure was begun and not finished, None where there is no structure.
    """
    found = find(text)
    if found.broken:
        return ""
    if found.framed:
        return found.framed.text
    return found.whole if THINK_END in text or DESCRIPTION_END in text else None


def find(response: str) -> Found:
    """All that a response states as its answer."""
    text = SPACED_BOX.sub(lambda _: BOX, ended(response))
    structured = THINK_END in text or DESCRIPTION_END in text
    for opening, closing in ((THINK, THINK_END), (DESCRIPTION, DESCRIPTION_END)):
        if closing in text:
            start = text.rindex(closing) + len(closing)
            text = text[start:] if BOX in text[start:] or BOX not in text else text
        elif opening in text and BOX not in text and ANSWER not in text:
            return Found(None, None, "", broken=True)
    if BOX in text:
        spans = boxes(text)
        start, end = spans[-1] if spans else (0, 0)
        framed, shell = text[start:end].strip(), (start - len(BOX), end + 1)
        if len(spans) > 1 and ALTERNATIVE.match(text[spans[-2][1] + 1 : shell[0]]):
            framed = f"{text[slice(*spans[-2])].strip()} or {framed}"
    elif ANSWER in text:
        start = text.rindex(ANSWER)
        inside, _, after = text[start + len(ANSWER) :].partition(ANSWER_END)
        framed, shell = inside.strip(), (start, len(text) - len(after))
    else:
        return Found(None, _last(text[-TAIL:]), text.strip())
    if not framed:
        return Found(None, None, "", broken=True)
    after = text[shell[1] :]
    box = Statement(framed, "" if structured else after, box=True)
    return Found(box, None if structured else _last(after[-TAIL:]), text.strip())


def ended(response: str) -> str:
    """The response up to its end-of-turn token, or to where it asks itself another question."""
    response = BEGUN.sub("", response)
    if end := ENDED.search(response):
        response = response[: end.start()]
    start = len(response) - len(response.lstrip())
    following = NEXT_QUESTION.search(response, start + 1)  # one at the very beginning is the item's own
    return response[: following.start()] if following else response


def _last(text: str) -> Statement | None:
    """The last statement outside of boxes; None without one."""
    objects = list(_objects(text))
    for match in reversed(list(HEAD.finditer(text))):
        if objects and match.start() < objects[-1][1]:
            break
        if statement := _statement(text, match):
            return statement
    if objects:
        start, end, answers = objects[-1]
        said = answers.pop() if len(answers) == 1 else text[start:end]
        return Statement(said, text[end:])
    return None


def _statement(text: str, match: re.Match[str]) -> Statement | None:
    """What follows the words "the answer is"; None where it is denied, conditional or empty."""
    before = STOP.split(text[max(0, match.start() - 300) : match.start()])[-1]
    clause = INFERRED.split(before)[-1]
    if CONDITION.search(clause) or DENIED.search(clause.rsplit(",", 1)[-1]):
        return None
    colon = match["colon"] or match["mark"]
    if colon and ":" not in colon and "：" not in colon and len(before.split()) > 2:
        return None  # a line break after the word "answer" counts in a heading only
    rest = SURROUNDED.sub("", text[match.end() :], count=1)
    line = bool(colon)
    stop = re.search(r"\n", rest) if line else STOP.search(rest)
    said, after = (rest[: stop.start()], rest[stop.start() :]) if stop else (rest, "")
    said = _clean(said)
    return Statement(said, after) if said and BOX not in said else None


def _clean(said: str) -> str:
    r"""A statement without what belongs to its surroundings: `C} \]`, `$B`, a verb at the end."""
    said = FINAL_VERB.sub("", said.strip(" \t\r\n>»」』】#"))
    for opening, closing in (("{", "}"), ("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$")):
        while said.endswith(closing) and said.count(opening) < said.count(closing) + (opening == closing):
            said = said[: -len(closing)].rstrip()
    if UNPAIRED.match(said):
        said = said.strip("$")
    return said.strip()


def _objects(text: str) -> Iterator[tuple[int, int, set[str]]]:
    """JSON objects with an answer: start, end, and the different answers."""
    at, decoder = 0, json.JSONDecoder()
    for _ in range(OBJECTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if answers := set(_answers(value)):
            yield at, end, answers
        at = end


def _answers(value: Any, depth: int = 0) -> Iterator[str]:
    """The values of the keys that are called `answer` or so, in nested objects too."""
    if isinstance(value, list) and depth < 5:
        for part in value:
            yield from _answers(part, depth + 1)
    if not isinstance(value, dict) or depth > 5:
        return
    for key, inner in value.items():
        if isinstance(inner, dict) or (isinstance(inner, list) and any(isinstance(x, dict) for x in inner)):
            yield from _answers(inner, depth + 1)
        elif KEYS.fullmatch(key.strip()):
            parts = inner if isinstance(inner, list) else [inner]
            yield ", ".join(str(part) for part in parts)
