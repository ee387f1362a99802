"""One question to an OpenAI-compatible server, with patience: retries, waits, limits.

>>> async with Server(config, key) as server:
...     text = await server.reply([{"role": "user", "content": "..."}])

A request that times out, loses its connection, or is answered 408, 429 or 5xx is sent again, after a wait
that doubles each time and is no shorter than Retry-After; at most `TRIES` times, within `judge.patience`.
The key goes into one header and nowhere else: what is raised here never holds it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import os
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from vigos_cli.config import ConfigError, JudgeConfig

TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
LARGEST = 1 << 20  # bytes of a reply


class NoReply(Exception):
    """This question got no reply; another may."""


class NoServer(Exception):
    """No question will get a reply from this server."""


class Server:
    """A connection pool to the judge; an async context manager."""

    def __init__(self, config: JudgeConfig, key: str | None):
        self._config, self._key = config, key
        self._url = config.url.rstrip("/") + "/chat/completions"
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

    async def reply(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text of the model's reply. Raises NoReply, NoServer."""
        config, clock = self._config, asyncio.get_running_loop().time
        deadline = clock() + config.patience
        for attempt in range(TRIES):
            asked_to_wait = 0.0
            try:
                async with asyncio.timeout_at(min(deadline, clock() + config.timeout)):
                    status, headers, body = await self._post(messages)
            except TimeoutError:
                failure: Exception = NoReply("timed out")
            except (httpx.ConnectError, httpx.InvalidURL) as error:
                failure = NoServer(f"cannot be reached: {self._clean(str(error))}")
            except httpx.HTTPError:
                failure = NoReply("lost the connection")
            else:
                if status == 200:
                    return content(body)
                failure = self._refusal(status, body)
                if status not in (408, 429) and status < 500:
                    raise failure
                asked_to_wait = retry_after(headers.get("retry-after", ""))
            own = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
            wait = max(own, asked_to_wait)
            if attempt == TRIES - 1 or clock() + wait >= deadline:
                raise failure
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, httpx.Headers, bytes]:
        body = {**self._config.options, "model": self._config.model, "messages": messages, "stream": False}
        async with self._client.stream("POST", self._url, json=body) as response:
            read = bytearray()
            async for chunk in response.aiter_raw():
                read += chunk
                if len(read) > LARGEST:
                    raise NoReply("sent a reply that is too large")
            return response.status_code, response.headers, bytes(read)

    def _refusal(self, status: int, body: bytes) -> Exception:
        if status in (401, 403):  # without the server's own words: they may repeat the key
            name = self._config.key_env
            hint = f"is the key in {name} good for it?" if self._key else "it wants a key, see judge.key_env"
            return NoServer(f"answered {status}: {hint}")
        if status == 404:
            return NoServer(f"answered 404: is the address right, and does it have {self._config.model}?")
        said = self._clean(_error_text(body))
        return NoReply(f"answered {status}" + (f" ({said})" if said else ""))

    def _clean(self, text: str) -> str:
        """Someone else's words for one line of ours: printable, short, without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        return "".join(c if c.isprintable() else " " for c in text)[:200].strip()


def key_from_environment(config: JudgeConfig) -> str | None:
    """The judge's key; None where none is sent.

    Raises ConfigError where a server that is not local would be asked without one, or the key is none.
    """
    key = os.environ.get(config.key_env, "").strip() if config.key_env else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"judge: what {config.key_env} holds is no key (a space or an odd character)")
    if not key and config.key_env and not is_local(config.url):
        raise ConfigError(
            f"judge: {config.key_env} is not set, the environment variable with the key for {config.url} "
            "(judge.key_env=NAME: another variable; judge.key_env=null: no key)"
        )
    return key or None


def is_local(url: str) -> bool:
    """Whether a URL is this machine's or a private network's by its address."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def content(body: bytes) -> str:
    """The text in a chat completion. Raises NoReply for anything else."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise NoReply("sent a malformed reply")
    return text


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


def _error_text(body: bytes) -> str:
    try:
        text = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
