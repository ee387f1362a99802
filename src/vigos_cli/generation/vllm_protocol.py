"""The requests to a vLLM server, and the checks of its replies.

The run ends with an error unless
- the server expands every image to the same placeholder tokens (slots) as the processor here;
- it reads as many prompt tokens as were sent, and its log-probabilities belong to these tokens;
- it samples no image placeholder, for which the loss would expect an image.

Pictures are sent in one of two ways, and both give the same answers:

    content_parts   the picture itself, and one slot for it in the ids, which the server expands
    features        the server's processor is asked first (`RENDER`); its features go with all slots

The first is one request instead of two, and smaller. Servers older than vLLM 0.32 may not have it.
If the server refuses a request, its message is part of the error that ends the run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from vigos_cli.generation.concurrent_requests import as_object, data_url, user_turn
from vigos_cli.generation.sampler import until_stop
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.server import CutShort, NoModel, NoReply, NoServer, RequestRefused, Server, Unreachable

RENDER, GENERATE = "/chat/completions/render", "/inference/v1/generate"
LARGEST = {RENDER: 1 << 30, GENERATE: 1 << 26}  # bytes of a reply; that of RENDER has the features of images
LOAD, UNLOAD = "/load_lora_adapter", "/unload_lora_adapter"
ADAPTER = "vigos-"  # how the names of our adapters on the server begin
SCALE_OUT = "`vllm serve --enable-scale-out`"
Shown = dict[str, Any]  # the fields of a request that hold the prompt: its ids and its images


class OtherPrompt(UserError):
    """The server read another prompt than ours."""


async def takes_content_parts(server: Server, model: str) -> bool:
    """Whether the generate route has the field `content_parts`.

    The field is sent with a value of a wrong type, which only a server that has the field refuses. It is not
    tried with a picture: a server without the field would run the model on a slot that has no image.
    """
    params = {"max_tokens": 1, "temperature": 0.0}
    body = {"model": model, "token_ids": [0], "sampling_params": params, "stream": False}
    try:
        await _ask(server, GENERATE, {**body, "content_parts": 0})
    except RequestRefused as error:
        return "content_parts" in str(error)
    return False


async def shown_prompt(
    server: Server, model: str, prompt: Prompt, slots: frozenset[int], *, content_parts: bool
) -> Shown:
    """The fields of a request that hold the prompt, with its images as `content_parts` or as features."""
    if prompt.images and content_parts:
        collapsed = one_slot_each(prompt, slots)
        if collapsed:
            parts = [{"type": "image_url", "url": data_url(image)} for image in prompt.images]
            return {"token_ids": collapsed, "content_parts": parts, "return_token_ids": True}
    features = await _image_features(server, model, prompt, slots) if prompt.images else None
    return {"token_ids": list(prompt.ids), "features": features}


def one_slot_each(prompt: Prompt, slots: frozenset[int]) -> list[int] | None:
    """The ids with one slot for each image; None if the slots of each image are not one run of one token."""
    counts = Counter(token for token in prompt.ids if token in slots)
    slot = counts.most_common(1)[0][0] if counts else None
    ids, runs = [], 0
    for token, run in groupby(prompt.ids):
        runs += token == slot
        ids += [token] if token == slot else run
    return ids if runs == len(prompt.images) else None


async def _image_features(
    server: Server, model: str, prompt: Prompt, slots: frozenset[int]
) -> dict[str, Any]:
    """The features of a prompt's images from the server's processor, with their positions in our ids."""
    body = {"model": model, "messages": [user_turn(prompt.images, ["."])], "max_tokens": 1}
    reply = await _ask(server, RENDER, body)
    try:
        features, rendered = reply["features"], reply["token_ids"]
        if None in (features.get("kwargs_data") or {"image": [None]})["image"]:
            raise UserError("rollout: vLLM returns no features: start it with --mm-processor-cache-gb 0")
        places = _places(features["mm_placeholders"]["image"], rendered, prompt.ids, slots)
    except (LookupError, TypeError, AttributeError):
        raise UserError(f"rollout: {RENDER} returns no images: does its model accept images?") from None
    return {**features, "mm_placeholders": {"image": places}}


def _places(
    ranges: Sequence[dict[str, Any]], rendered: Sequence[int], ids: Sequence[int], slots: frozenset[int]
) -> list[dict[str, Any]]:
    """The positions in our ids of the server's ranges of slots."""
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
            "rollout: the server expands an image to other slots than the processor of model.path: is it "
            "the same model, with the same bounds on image size (vllm serve --mm-processor-kwargs)?"
        )
    return places


async def generate(
    server: Server, model: str, prompt: Prompt, shown: Shown, params: dict[str, Any]
) -> dict[str, Any]:
    """Sample after our ids; return the reply. Raises OtherPrompt if the server read other tokens."""
    body = {"model": model, **shown, "sampling_params": params, "stream": False}
    reply = await _ask(server, GENERATE, body)
    read = (reply.get("usage") or {}).get("prompt_tokens", len(prompt.ids))
    if read != len(prompt.ids):
        raise OtherPrompt(f"rollout: the server read {read} prompt tokens, but {len(prompt.ids)} were sent")
    if "content_parts" in shown and tuple(reply.get("prompt_token_ids") or ()) != prompt.ids:
        raise OtherPrompt(
            "rollout: the server expanded the images of a prompt to other tokens than the processor of "
            "model.path: is it the same model?"
        )
    return reply


def completion_ids(
    reply: dict[str, Any], stop_ids: frozenset[int], slots: frozenset[int], *, vocabulary: int, most: int
) -> tuple[int, ...]:
    """The sampled ids, up to the end of the turn.

    Raises UserError for an image slot, an id outside the vocabulary, or more tokens than were asked for.
    """
    ids = (reply.get("choices") or [{}])[0].get("token_ids")
    if not isinstance(ids, list):
        raise UserError(f"rollout: {GENERATE} returns no token ids: is the server vLLM?")
    if others := [i for i in ids if type(i) is not int or not 0 <= i < vocabulary]:
        raise UserError(
            f"rollout: the server sampled the token {others[0]!r:.20}, but model.path has the ids 0 to "
            f"{vocabulary - 1}: does the server have the same model?"
        )
    if len(ids) > most:
        raise UserError(
            f"rollout: the server sampled {len(ids)} tokens, although at most {most} were asked for"
        )
    turn = until_stop(ids, stop_ids)
    if not slots.isdisjoint(turn):
        raise UserError("rollout: the server sampled an image slot: it ignores logit_bias")
    return turn


def completion_log_probs(reply: dict[str, Any], ids: Sequence[int]) -> list[float]:
    """The server's log-probabilities of the sampled ids, before temperature and cuts; [] if it sends none.

    Raises UserError if they belong to other tokens or are no finite numbers.
    """
    entries = (reply["choices"][0].get("logprobs") or {}).get("content") or ()
    if not entries:
        return []
    try:
        if any(entry["token_id"] != token for entry, token in zip(entries, ids, strict=False)):
            raise UserError(f"rollout: the log-probabilities in the reply of {GENERATE} are of other tokens")
        found = [float(entry["logprob"]) for entry in entries[: len(ids)]]
    except (LookupError, TypeError, ValueError):
        return []
    if not all(map(math.isfinite, found)):
        raise UserError(
            "rollout: the server's log-probabilities are no finite numbers (such as NaN): its model computes "
            "none; give it another precision (vllm serve --dtype)"
        )
    return found if len(found) == len(ids) else []


async def prompt_logprobs(server: Server, model: str, prompt: Prompt, shown: Shown) -> list[float]:
    """The server's log-probability of every prompt token except the first."""
    params = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
    reply = await generate(server, model, prompt, shown, params)
    given = reply.get("prompt_logprobs") or ()
    try:
        return [
            float(row[str(token)]["logprob"]) for row, token in zip(given[1:], prompt.ids[1:], strict=True)
        ]
    except (LookupError, TypeError, ValueError):
        raise OtherPrompt(
            "rollout: the server's prompt_logprobs are of other tokens than were sent: it read another prompt"
        ) from None


async def load_lora(server: Server, name: str, folder: Path) -> None:
    """Load an adapter on the server from `folder`."""
    try:
        await server.ask(LOAD, {"lora_name": name, "lora_path": str(folder)}, read=bytes)
    except Unreachable:
        raise
    except (NoReply, NoServer) as error:
        raise UserError(
            f"rollout: the server did not load the adapter in {folder}: it {error}. It needs access to "
            "that folder, and the settings VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora and "
            "--max-lora-rank"
        ) from error


async def unload_lora(server: Server, name: str) -> None:
    """Unload an adapter on the server; ignore one that it does not know."""
    try:
        await server.ask(UNLOAD, {"lora_name": name}, read=bytes)
    except NoServer as error:
        if error.status != 404:
            raise


async def _ask(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return await server.ask(path, body, read=_whole, largest=LARGEST[path])
    except NoModel as error:
        if not error.model.startswith(ADAPTER):
            raise
        raise UserError(
            f"rollout: the server no longer has the adapter {error.model} of this run: was it started again? "
            "resume=auto continues the run and loads the adapter again"
        ) from error
    except NoServer as error:
        if error.status not in (403, 404):
            raise
        if "scale-out" in str(error):
            raise UserError(
                f"rollout: the server has {path} switched off: start it with {SCALE_OUT}"
            ) from error
        raise UserError(
            f"rollout: the server {error}. Newer vLLM has {path} only with {SCALE_OUT}"
        ) from error


def _whole(content: bytes) -> dict[str, Any]:
    """Parse a reply whose completions are finished. Raises CutShort for any other."""
    reply = as_object(content)
    choices = reply.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise CutShort("sent a malformed reply")
    for name, kind in (("usage", dict), ("prompt_token_ids", list), ("prompt_logprobs", list)):
        if not isinstance(reply.get(name), kind | None):
            raise CutShort("sent a malformed reply")
    for choice in choices:
        if choice.get("finish_reason") not in ("stop", "length"):
            raise CutShort("aborted a completion")
    return reply
