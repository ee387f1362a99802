"""Read a row that is a conversation as one question with its answer and pictures.

    {"messages": [{"role": "user", "content": "<image>How many?"}, {"role": "assistant", "content": "4"}],
     "images": ["cups.png"]}
    {"conversations": [{"from": "human", "value": "<image>\\nHow many?"}, {"from": "gpt", "value": "4"}],
     "image": "cups.png"}

ms-swift, LLaMA-Factory and TRL write `messages`; LLaVA and ShareGPT write `conversations`. A content may also
be a list of parts: `{"type": "text", "text": ...}` and `{"type": "image", ...}`. A part with a picture inside
brings its own picture; one without takes the next picture of the row's column.

The last turn of the assistant is the answer. A system turn is put before the question. A row that cannot be
asked as one question raises BadRow:

    chat_unreadable   the turns are not a list of objects with a role and a text
    chat_no_question  no turn of the user stands before the last turn of the assistant
    chat_many_turns   there is more than one exchange
    chat_tools        a turn calls a tool or holds its result
    chat_not_picture  a turn holds a video or a sound
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigos_cli.data.image_marks import MARK, read_marks, without_leading
from vigos_cli.data.images import BadRow

CHATS = ("messages", "conversations")  # the columns that hold a conversation
OTHER_MEDIA = ("videos", "video", "audios", "audio")
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
ROLES = {
    **dict.fromkeys(("user", "human"), USER),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot"), ASSISTANT),
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(
        ("tool", "function", "function_call", "tool_call", "observation", "tool_response"), "tool"
    ),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question of a conversation. `places` are the positions of its pictures; see `image_marks`.

    `answer` is as the row has it, and None if a conversation ends with the question.
    """

    question: str
    places: tuple[int, ...]
    images: tuple[Any, ...]  # as the row has them, not yet read
    answer: Any


def chat_of(row: Mapping[str, Any]) -> Any:
    """The conversation of a row; None if it has none."""
    return next((row[name] for name in CHATS if row.get(name) is not None), None)


def read_chat(row: Mapping[str, Any], images: Sequence[Any]) -> Exchange:
    """The exchange of a row with a conversation; `images` are the values of its column of pictures."""
    if any(row.get(name) for name in OTHER_MEDIA):
        raise BadRow("chat_not_picture")
    turns = [_turn(turn) for turn in _listed(chat_of(row))]
    system = [("system", row["system"])] if isinstance(row.get("system"), str) else []
    turns = [(role, content) for role, content in [*system, *turns] if not _blank(content)]
    if any(role == "tool" for role, _ in turns):
        raise BadRow("chat_tools")
    before = [content for role, content in turns if role == SYSTEM]
    asked = [(role, content) for role, content in turns if role != SYSTEM]
    roles = [role for role, _ in asked]
    if roles[:1] != [USER] or roles[1:] not in ([], [ASSISTANT]):
        raise BadRow("chat_no_question" if USER not in roles[:-1] else "chat_many_turns")
    question, places, shown = _question([*before, asked[0][1]], list(images))
    answer = _text(asked[1][1]) if len(asked) == 2 else None
    return Exchange(question, places, tuple(shown), answer)


def _listed(turns: Any) -> list[Any]:
    if not isinstance(turns, list) or not turns:
        raise BadRow("chat_unreadable")
    return turns


def _turn(turn: Any) -> tuple[str, Any]:
    """The role and the content of a turn."""
    if not isinstance(turn, Mapping):
        raise BadRow("chat_unreadable")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if turn.get("tool_calls"):
        raise BadRow("chat_tools")
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise BadRow("chat_unreadable")
    return ROLES[role.lower()], content


def _blank(content: Any) -> bool:
    return content is None or content == [] or (isinstance(content, str) and not content.strip())


def _question(contents: Sequence[Any], images: list[Any]) -> tuple[str, tuple[int, ...], list[Any]]:
    """The contents as one question, the positions of its pictures, and these pictures in order."""
    if all(isinstance(content, str) for content in contents):
        question, places = read_marks("\n\n".join(text.strip() for text in contents), len(images))
        return question, places, images
    question, places, shown, rest = "", [], [], list(images)
    for part in _parts(contents):
        if isinstance(part, str):
            question += part
            continue
        picture = _picture(part)
        if picture is None and not rest:
            raise BadRow("image_marks")
        places.append(len(question))
        shown.append(rest.pop(0) if picture is None else picture)
        question += MARK
    if places and rest:
        raise BadRow("image_marks")
    spaces = len(question) - len(question.lstrip())
    question, places = question.strip(), [place - spaces for place in places]
    return (*without_leading(question, tuple(places)), shown) if places else (question, (), rest)


def _parts(contents: Sequence[Any]) -> list[str | Mapping[str, Any]]:
    """The texts and pictures of all contents in order, with an empty line between two contents."""
    parts: list[str | Mapping[str, Any]] = []
    for i, content in enumerate(contents):
        parts += ["\n\n"] if i else []
        for part in [content] if isinstance(content, str) else _listed(content):
            kind = part.get("type") if isinstance(part, Mapping) else None
            if isinstance(part, str):
                parts.append(part)
            elif kind == "text" and isinstance(part.get("text"), str):
                parts.append(part["text"])
            elif kind in ("image", "image_url"):
                parts.append(part)
            else:
                raise BadRow(
                    "chat_not_picture" if isinstance(kind, str) and kind != "text" else "chat_unreadable"
                )
    return parts


def _picture(part: Mapping[str, Any]) -> Any:
    """The picture inside a part; None if it only marks a place."""
    for name in ("image", "image_url", "url", "path", "bytes"):
        value = part.get(name)
        if isinstance(value, Mapping) and value.get("url"):
            value = value["url"]
        if value is not None:
            return value
    return None


def _text(content: Any) -> str:
    """The text of an answer."""
    if isinstance(content, str):
        return content
    if any(not isinstance(part, str) for part in _parts([content])):
        raise BadRow("chat_unreadable")  # a picture in the answer
    return "".join(str(part) for part in _parts([content]))
