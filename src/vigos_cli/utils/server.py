"""One question to an HTTP server, with patience: retries, waits, limits.

>>> async with Server("judge", config.judge, key) as server:
...     text = await server.ask("/chat/completions", {"messages": [...]}, read=text_of)

A request that times out, loses its connection, or is answered 408, 429 or 5xx is sent again, after a wait
that doubles each time and is no shorter than Retry-After; at most `TRIES` times, within `patience`. So is one
whose reply `read` calls cut short. The key goes into one header and nowhere else: what is raised here never
holds it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import os
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from vigos_cli.utils.errors import ConfigError

T = TypeVar("T")
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
LARGEST = 1 << 20  # bytes of a reply


class Address(Protocol):
    """Where a server is and how long it is waited for: a part of `JudgeConfig` and `RolloutConfig`."""

    url: str
    key_env: str | None
    concurrency: int
    timeout: float
    patience: float


class NoReply(Exception):
    """This question got no reply; another may."""


class CutShort(NoReply):
    """A reply that ends too early: worth asking again."""


class RequestRefused(NoReply):
    """The server will not answer this question as it is put; `status` is its code."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class NoServer(Exception):
    """No question will get a reply from this server; `status` is its code where it gave one."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class Server:
    """A connection pool; an async context manager. `group` is the configuration's name for it."""

    def __init__(self, group: str, config: Address, key: str | None):
        self._group, self._config, self._key = group, config, key
        self._turn = asyncio.Semaphore(config.concurrency)
        for name in ("httpx", "httpcore"):  # a line a request would fill the run's log
            logging.getLogger(name).setLevel(logging.WARNING)

    async def __aenter__(self) -> Server:
        # Plain bytes, or a small compressed reply could become a huge one.
        headers = {"accept-encoding": "identity"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        limits = httpx.Limits(max_connections=self._config.concurrency)
        try:
            self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=None)
        except (ValueError, ImportError, httpx.InvalidURL) as error:  # of a proxy in the environment
            raise NoServer(f"has no usable proxy: {self._clean(str(error))}") from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def ask(
        self, path: str, body: Mapping[str, Any], *, read: Callable[[bytes], T], largest: int = LARGEST
    ) -> T:
        """What `read` makes of the reply to a POST. Raises NoReply, NoServer, and what `read` raises."""
        url = self._config.url.rstrip("/")
        url = (url.removesuffix("/v1") if path.startswith("/inference/") else url) + path
        async with self._turn:
            return await self._ask(url, body, read, largest)

    async def _ask(self, url: str, body: Mapping[str, Any], read: Callable[[bytes], T], largest: int) -> T:
        config, clock = self._config, asyncio.get_running_loop().time
        deadline = clock() + config.patience
        failure: Exception = NoReply("timed out")
        for attempt in range(TRIES):
            asked_to_wait = 0.0
            try:
                async with asyncio.timeout_at(min(deadline, clock() + config.timeout)):
                    status, headers, content = await self._post(url, body, largest)
                if status == 200:
                    return read(content)
            except TimeoutError:
                if clock() < deadline:  # else what went wrong before patience ended says more
                    failure = NoReply("timed out")
            except (httpx.ConnectError, httpx.InvalidURL) as error:
                failure = NoServer(f"cannot be reached: {self._clean(str(error))}")
            except httpx.HTTPError:
                failure = NoReply("lost the connection")
            except CutShort as error:
                failure = error
            else:
                failure = self._refusal(status, content, body)
                if not passing(status):
                    raise failure
                asked_to_wait = retry_after(headers.get("retry-after", ""))
            own = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
            wait = max(own, asked_to_wait)
            if attempt == TRIES - 1 or clock() + wait >= deadline:
                raise failure
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, url: str, body: Any, largest: int) -> tuple[int, httpx.Headers, bytes]:
        async with self._client.stream("POST", url, json=body) as response:
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > largest:
                    raise NoReply("sent a reply that is too large")
            return response.status_code, response.headers, bytes(content)

    def _refusal(self, status: int, content: bytes, body: Mapping[str, Any]) -> Exception:
        if status in (401, 403):  # without the server's own words: they may repeat the key
            name, wanted = self._config.key_env, f"it wants a key, see {self._group}.key_env"
            return NoServer(
                f"answered {status}: {f'is the key in {name} good for it?' if self._key else wanted}"
            )
        said = self._clean(_error_text(content))
        said = f" ({said})" if said else ""
        if status == 404:
            named = f", and does it have {body['model']}" if "model" in body else ""
            return NoServer(f"answered 404{said}: is the address right{named}?", status)
        return RequestRefused(status, f"answered {status}{said}")

    def _clean(self, text: str) -> str:
        """Someone else's words for one line of ours: printable, short, without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        return "".join(c if c.isprintable() else " " for c in text)[:200].strip()


def passing(status: int) -> bool:
    """Whether what a status says is the server's trouble, which may pass, and not the question's fault."""
    return status in (408, 429) or status >= 500


def key_from_environment(group: str, config: Address) -> str | None:
    """The server's key; None where none is sent.

    Raises ConfigError where a server that is not local would be asked without one, or the key is none.
    """
    key = os.environ.get(config.key_env, "").strip() if config.key_env else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{group}: what {config.key_env} holds is no key (a space or an odd character)")
    if not key and config.key_env and not is_local(config.url):
        raise ConfigError(
            f"{group}: {config.key_env} is not set, the environment variable with the key for {config.url} "
            f"({group}.key_env=NAME: another variable; {group}.key_env=null: no key)"
        )
    return key or None


def is_local(url: str) -> bool:
    """Whether a URL is this machine's or a private network's by its address."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def retry_after(header: str) -> float:
    """The seconds that a Retry-After header asks for, as a number or as a date; 0 for anything else."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a zone
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _error_text(content: bytes) -> str:
    """A server's own words: `error.message` as OpenAI has it, `message` or `detail` as others."""
    try:
        reply = json.loads(content)
        error = reply.get("error", reply)
        text = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
