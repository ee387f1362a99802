"""What is said to a vLLM server, and what is checked of its replies.

- It expands every picture to the slots that our processor gives it, no more and no fewer.
- It reads as many prompt tokens as it is sent, and their log-probabilities are those of our ids.
- No picture slot is drawn: the loss would look for a picture there.

Its own words where it refuses become a part of the one line that ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vigos_cli.generation.concurrent_requests import as_object, user_turn
from vigos_cli.generation.sampler import until_stop
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.server import CutShort, NoReply, NoServer, Server

LARGEST = 1 << 30  # bytes of a reply: it holds the pictures' features
RENDER, GENERATE = "/chat/completions/render", "/inference/v1/generate"
LOAD, UNLOAD = "/load_lora_adapter", "/unload_lora_adapter"
Features = dict[str, Any] | None  # as the server's processor gives them, their places those in our ids


async def image_features(server: Server, model: str, prompt: Prompt, slots: frozenset[int]) -> Features:
    """The pictures of a prompt as the server's processor sees them; None where there are none."""
    if not prompt.images:
        return None
    body = {"model": model, "messages": [user_turn(prompt.images, ".")], "max_tokens": 1}
    reply = await _ask(server, RENDER, body)
    try:
        features, rendered = reply["features"], reply["token_ids"]
        if None in (features.get("kwargs_data") or {"image": [None]})["image"]:
            raise UserError("rollout: vLLM keeps features to itself: start it with --mm-processor-cache-gb 0")
        places = _places(features["mm_placeholders"]["image"], rendered, prompt.ids, slots)
    except (LookupError, TypeError, AttributeError):
        raise UserError(f"rollout: {RENDER} gives no pictures: does the server's model take any?") from None
    return {**features, "mm_placeholders": {"image": places}}


def _places(
    ranges: Sequence[dict[str, Any]], rendered: Sequence[int], ids: Sequence[int], slots: frozenset[int]
) -> list[dict[str, Any]]:
    """Where the server's runs of slots stand in our ids."""
    places, at, theirs = [], 0, 0
    for found in ranges:
        run = tuple(rendered[found["offset"] : found["offset"] + found["length"]])
        theirs += sum(i in slots for i in run)
        starts = range(at, len(ids) - len(run) + 1)
        start = next((i for i in starts if tuple(ids[i : i + len(run)]) == run), None)
        if start is None:
            break
        places.append({**found, "offset": start})
        at = start + len(run)
    inside = {token for place in places for token in ids[place["offset"] : place["offset"] + place["length"]]}
    ours = sum(i in slots & inside for i in ids)
    if len(places) < len(ranges) or ours != theirs:
        raise UserError(
            "rollout: the server expands a picture to other slots than the processor of model.path: is it "
            "the same model, under the same bounds on pictures (vllm serve --mm-processor-kwargs)?"
        )
    return places


async def generate(
    server: Server, model: str, prompt: Prompt, features: Features, params: dict[str, Any]
) -> dict[str, Any]:
    """The reply to our ids."""
    body = {"model": model, "token_ids": list(prompt.ids), "features": features, "sampling_params": params}
    reply = await _ask(server, GENERATE, {**body, "stream": False})
    read = (reply.get("usage") or {}).get("prompt_tokens", len(prompt.ids))
    if read != len(prompt.ids):
        raise UserError(f"rollout: the server read {read} prompt tokens where {len(prompt.ids)} were sent")
    return reply


def completion_ids(reply: dict[str, Any], stop_ids: frozenset[int], slots: frozenset[int]) -> tuple[int, ...]:
    """The ids of a completion, to its end of turn."""
    choice = reply["choices"][0]
    ids = choice.get("token_ids")
    if ids is None:
        raise UserError(f"rollout: {GENERATE} gives no token ids: is it vLLM?")
    turn = until_stop(ids, stop_ids)
    if not slots.isdisjoint(turn):
        raise UserError("rollout: the server drew a picture slot: it does not heed logit_bias")
    return turn


async def prompt_logprobs(server: Server, model: str, prompt: Prompt, features: Features) -> list[float]:
    """The log-probability of every prompt token but the first, as the server has it."""
    params = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
    reply = await generate(server, model, prompt, features, params)
    given = reply.get("prompt_logprobs") or ()
    try:
        return [
            float(row[str(token)]["logprob"]) for row, token in zip(given[1:], prompt.ids[1:], strict=True)
        ]
    except (LookupError, TypeError, ValueError):
        raise UserError(
            "rollout: the server's prompt_logprobs are not of the ids that were sent: it read another prompt"
        ) from None


async def load_lora(server: Server, name: str, folder: Path) -> None:
    """Have the server read an adapter."""
    try:
        await server.ask(LOAD, {"lora_name": name, "lora_path": str(folder)}, read=bytes)
    except (NoReply, NoServer) as error:
        raise UserError(
            f"rollout: the server did not load the adapter in {folder}: it {error}. It must see that folder, "
            "and run with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora and --max-lora-rank"
        ) from error


async def unload_lora(server: Server, name: str) -> None:
    """Have the server forget an adapter; one that it does not know is forgotten already."""
    try:
        await server.ask(UNLOAD, {"lora_name": name}, read=bytes)
    except NoServer as error:
        if error.status != 404:
            raise


async def _ask(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return await server.ask(path, body, read=_whole, largest=LARGEST)
    except NoServer as error:
        if error.status != 404:
            raise
        raise UserError(
            f"rollout: the server {error} Newer vLLM has {path} with `vllm serve --enable-scale-out` alone"
        ) from error


def _whole(content: bytes) -> dict[str, Any]:
    """A reply that was not given up half way. Raises CutShort for any other."""
    reply = as_object(content)
    for choice in reply.get("choices", ()):
        if choice.get("finish_reason") not in ("stop", "length"):
            raise CutShort("gave a completion up")
    return reply
