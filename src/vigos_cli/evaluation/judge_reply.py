"""One question to the judge, and the text of its reply.

>>> async with Server("judge", config, key) as server:
...     text = await reply(server, config, [{"role": "user", "content": "..."}])
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vigos_cli.config.schema import JudgeConfig
from vigos_cli.utils.server import NoReply, Server


async def reply(server: Server, config: JudgeConfig, messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the model's reply. Raises NoReply, NoServer."""
    body = {**config.options, "model": config.model, "messages": messages, "stream": False}
    return await server.ask("/chat/completions", body, read=content)


def content(body: bytes) -> str:
    """The text in a chat completion. Raises NoReply for anything else."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise NoReply("sent a malformed reply")
    return text
