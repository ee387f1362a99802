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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar

from vigos_cli.config.schema import RolloutConfig
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.server import CutShort, NoReply, NoServer, Server, Unreachable

T = TypeVar("T")
U = TypeVar("U")
_why_stop: ContextVar[Callable[[], str | None]] = ContextVar("why_stop", default=lambda: None)


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
            watch = asyncio.ensure_future(_until(_why_stop.get()))
            replies = asyncio.gather(*tasks)
            try:
                await asyncio.wait((replies, watch), return_when=asyncio.FIRST_COMPLETED)
                return await replies if replies.done() else await watch
            finally:  # after the first failure cancel the others
                for task in (*tasks, watch):
                    task.cancel()
                await asyncio.gather(*tasks, watch, return_exceptions=True)
                await asyncio.gather(replies, return_exceptions=True)
    except Unreachable as error:
        raise UserError(
            f"rollout: no server answers at {config.url}: is it running, and is rollout.url its address? "
            f"(it {error}) The run stops; resume=auto continues it"
        ) from error
    except (NoReply, NoServer) as error:
        raise UserError(f"rollout: {config.url} {error}; the run stops; resume=auto continues it") from error


@contextmanager
def stopping_if(why: Callable[[], str | None]) -> Iterator[None]:
    """Inside the block, `ask_all` raises a UserError with this text as soon as `why` returns one.

    For a server that this program watches: no request has to be repeated before it is known to be gone.
    """
    token = _why_stop.set(why)
    try:
        yield
    finally:
        _why_stop.reset(token)


async def _until(why: Callable[[], str | None]) -> NoReturn:
    while not (text := why()):
        await asyncio.sleep(0.2)
    raise UserError(text)


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
