"""Requests to an HTTP server, with retries, waiting times and limits.

>>> async with Server("judge", config.judge, key) as server:
...     text = await server.ask("/chat/completions", {"messages": [...]}, read=text_of)

A request is sent again if it times out, loses its connection, gets the status 408, 429 or 5xx, or if
`read` raises CutShort for its reply. The waiting time doubles each time and is at least that of the
Retry-After header. There are at most `TRIES` attempts, within `patience`. The key is sent in one header;
no error message contains it. If the server does not have the model of a request, the error names the models
that it has.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import os
import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from difflib import SequenceMatcher
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from vigos_cli.utils.errors import ConfigError

T = TypeVar("T")
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
LARGEST = 1 << 20  # bytes of a reply
LISTING = 5.0  # seconds for the list of the server's models, which only makes an error message better
LISTED = 6  # names of models in an error message
# What vLLM, OpenAI and Ollama say about a model that they do not have; other 404s are about the address.
UNKNOWN_MODEL = re.compile(r"\bmodel\b.*\b(?:does not exist|not found)", re.IGNORECASE)


class Address(Protocol):
    """The keys of `JudgeConfig` and `RolloutConfig` that describe a server."""

    url: str
    key_env: str | None
    concurrency: int
    timeout: float
    patience: float


class NoReply(Exception):
    """The server did not reply to this request; it may reply to others."""


class CutShort(NoReply):
    """The reply is incomplete; the request is sent again."""


class RequestRefused(NoReply):
    """The server refused this request with the HTTP status `status`."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class NoServer(Exception):
    """The server will reply to no request; `status` is its HTTP status, or 0 if it sent none."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class Unreachable(NoServer):
    """No server answers at the address."""


class NoModel(NoServer):
    """The server does not have the model `model`."""

    def __init__(self, message: str, model: str):
        super().__init__(message, 404)
        self.model = model


class Server:
    """A pool of connections to a server, as an async context manager; `group` is its config group."""

    def __init__(self, group: str, config: Address, key: str | None):
        self._group, self._config, self._key = group, config, key
        self._turn = asyncio.Semaphore(config.concurrency)
        for name in ("httpx", "httpcore"):  # they would log one line per request
            logging.getLogger(name).setLevel(logging.WARNING)

    async def __aenter__(self) -> Server:
        # No compression: a small compressed reply could become a very large one.
        headers = {"accept-encoding": "identity"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        limits = httpx.Limits(max_connections=self._config.concurrency)
        try:
            self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=None)
        except (ValueError, ImportError, httpx.InvalidURL) as error:  # from a proxy in the environment
            raise NoServer(
                f"cannot be reached through the proxy in the environment: {self._clean(str(error))}"
            ) from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def ask(
        self, path: str, body: Mapping[str, Any], *, read: Callable[[bytes], T], largest: int = LARGEST
    ) -> T:
        """Send a POST request and return `read(reply)`. Raises NoReply, NoServer and errors of `read`."""
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
                    status, headers, content = await self._send("POST", url, body, largest)
                if status == 200:
                    return read(content)
            except TimeoutError:
                if clock() < deadline:  # otherwise the error before the end of patience says more
                    failure = NoReply("timed out")
            except (httpx.ConnectError, httpx.InvalidURL) as error:
                failure = Unreachable(f"cannot be reached: {self._clean(str(error))}")
            except httpx.HTTPError:
                failure = NoReply("lost the connection")
            except CutShort as error:
                failure = error
            else:
                failure = self._refusal(status, content, body)
                if isinstance(failure, NoModel):
                    raise self._no_model(failure.model, await self._models())
                if not passing(status):
                    raise failure
                asked_to_wait = retry_after(headers.get("retry-after", ""))
            own = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
            wait = max(own, asked_to_wait)
            if attempt == TRIES - 1 or clock() + wait >= deadline:
                raise failure
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, method: str, url: str, body: Any, largest: int) -> tuple[int, httpx.Headers, bytes]:
        async with self._client.stream(method, url, json=body) as response:
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > largest:
                    raise NoReply("sent a reply that is too large")
            return response.status_code, response.headers, bytes(content)

    def _refusal(self, status: int, content: bytes, body: Mapping[str, Any]) -> Exception:
        if status == 401:  # without the server's message, which may repeat a part of the key
            wrong = f"check the key in {self._config.key_env}"
            missing = f"it needs a key, see {self._group}.key_env"
            return NoServer(f"answered 401: {wrong if self._key else missing}", status)
        said = self._clean(_error_text(content))
        if status == 404 and "model" in body and UNKNOWN_MODEL.search(said):
            return NoModel(said, body["model"])
        said = f" ({said})" if said else ""
        if status == 403:
            wrong = f"or the key in {self._config.key_env} does not allow it"
            missing = f"or it needs a key, see {self._group}.key_env"
            return NoServer(
                f"answered 403{said}: it forbids this request, {wrong if self._key else missing}", status
            )
        if status == 404:
            named = f", and does it have {body['model']}" if "model" in body else ""
            return NoServer(f"answered 404{said}: is the address right{named}?", status)
        return RequestRefused(status, f"answered {status}{said}")

    def _no_model(self, model: str, names: list[str]) -> NoModel:
        """The error for a model that the server does not have, with the names that it has."""
        said = f"has no model {model}"
        if not names:
            return NoModel(f"{said}: set {self._group}.model to a name that the server has", model)
        nearest, *others = sorted(names, key=lambda name: _likeness(name, model), reverse=True)
        more = f" (and {len(names) - LISTED} more)" if len(names) > LISTED else ""
        listed = ", ".join([nearest, *others][:LISTED]) + more
        best = f"the nearest is {nearest}, of: {listed}" if others else f"it has only {nearest}"
        return NoModel(f"{said}: set {self._group}.model ({best})", model)

    async def _models(self) -> list[str]:
        """The names of the server's models; empty if it does not list them."""
        url = f"{self._config.url.rstrip('/')}/models"
        try:
            async with asyncio.timeout(LISTING):
                status, _, content = await self._send("GET", url, None, LARGEST)
            listed = json.loads(content)["data"] if status == 200 else []
            return [self._clean(one["id"]) for one in listed]
        except (TimeoutError, NoReply, httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            return []

    def _clean(self, text: str) -> str:
        """Text of a server, made safe for an error message: printable, short, without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        return "".join(c if c.isprintable() else " " for c in text)[:200].strip()


def _likeness(name: str, wanted: str) -> float:
    """How alike two names of models are, from 0 to 1; the folder or owner before the name may be missing."""
    name, wanted = name.lower(), wanted.lower()
    pairs = ((name, wanted), (name.rstrip("/").split("/")[-1], wanted.rstrip("/").split("/")[-1]))
    return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)


def passing(status: int) -> bool:
    """Whether an HTTP status means a temporary problem of the server and not a wrong request."""
    return status in (408, 429) or status >= 500


def key_from_environment(group: str, config: Address) -> str | None:
    """The server's key from the environment; None if no key is sent.

    Raises a ConfigError if the variable is not set and the server is not local, or if the value cannot be
    a key.
    """
    key = os.environ.get(config.key_env, "").strip() if config.key_env else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{group}: the value of {config.key_env} is not a key (it has a space or a special character)"
        )
    if not key and config.key_env and not is_local(config.url):
        raise ConfigError(
            f"{group}: the environment variable {config.key_env} with the key for {config.url} is not set "
            f"({group}.key_env=NAME uses another variable, {group}.key_env=null sends no key)"
        )
    return key or None


def is_local(url: str) -> bool:
    """Whether a URL is on this machine or has an address in a private network."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def retry_after(header: str) -> float:
    """The seconds in a Retry-After header, given as a number or a date; 0 for any other value."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # not a date, or a date without time zone
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _error_text(content: bytes) -> str:
    """The error message in a reply: `error.message` (OpenAI), `message` or `detail` (others)."""
    try:
        reply = json.loads(content)
        error = reply.get("error", reply)
        text = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
