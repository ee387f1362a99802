"""Send requests to a server, several at a time; the first failure ends the run.

    replies = ask_all(config.rollout, key, items, ask)     # `ask(server, item)` is a coroutine

A request without a reply is never counted as a wrong answer. What was written before the failure is kept, and
`resume=auto` sends the remaining requests.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from vigos_cli.config.schema import RolloutConfig
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.server import CutShort, NoReply, NoServer, Server, Unreachable

T = TypeVar("T")
U = TypeVar("U")


def ask_all(
    config: RolloutConfig, key: str | None, items: Sequence[T], ask: Callable[[Server, T], Awaitable[U]]
) -> list[U]:
    """Call `ask` for every item, `rollout.concurrency` at a time; return the results in order.

    Raises UserError if the server cannot be reached or refuses a request.
    """
    return asyncio.run(_ask_all(config, key, items, ask))


async def _ask_all(
    config: RolloutConfig, key: str | None, items: Sequence[T], ask: Callable[[Server, T], Awaitable[U]]
) -> list[U]:
    turn = asyncio.Semaphore(config.concurrency)

    async def in_turn(item: T) -> U:
        async with turn:
            return await ask(server, item)

    try:
        async with Server("rollout", config, key) as server:
            tasks = [asyncio.ensure_future(in_turn(item)) for item in items]
            try:
                return await asyncio.gather(*tasks)
            finally:  # after the first failure cancel the others
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    except Unreachable as error:
        raise UserError(
            f"rollout: no server answers at {config.url}: is it running, and is rollout.url its address? "
            f"(it {error}) The run stops; resume=auto continues it"
        ) from error
    except (NoReply, NoServer) as error:
        raise UserError(f"rollout: {config.url} {error}; the run stops; resume=auto continues it") from error


def data_url(image: Any) -> str:
    """An image as a PNG data URL, without loss."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def user_turn(images: Sequence[Any], texts: Sequence[str]) -> dict[str, Any]:
    """A user turn: the images before a single text, or one image between each two of several texts."""
    pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    if len(texts) == 1:
        return {"role": "user", "content": [*pictures, {"type": "text", "text": texts[0]}]}
    written = [{"type": "text", "text": text} for text in texts]
    content = [written[0], *(part for pair in zip(pictures, written[1:], strict=True) for part in pair)]
    return {"role": "user", "content": [part for part in content if part.get("text") != ""]}


def as_object(content: bytes) -> dict[str, Any]:
    """Parse a reply that is one JSON object. Raises CutShort for anything else."""
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise CutShort("sent a malformed reply")
    return reply
