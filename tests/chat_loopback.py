"""A local server with chat completions for the tests of `rollout=openai`."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from loopback import Loopback, Reply, as_json


class FakeChat(Loopback):
    """Chat completions, streamed. `says` is the text of a whole turn, as pieces (thought, text).

    `continues`: it continues the last turn of the assistant if the request says so. `fields`: which of the
    fields beyond OpenAI's common ones it knows. `strict`: it refuses fields that it does not know, as
    transformers serve does; otherwise it ignores them. `defaults`: the sampling values of a generation
    config, which hold unless the request has the field.
    """

    FIELDS = frozenset(
        ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "stream", "stream_options")
    )
    CONTINUE = frozenset(("add_generation_prompt", "continue_final_message"))
    MORE = ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    COLOURS: ClassVar = {"red": 2.0, "blue": 1.6, "green": 1.2, "black": 0.8, "white": 0.4}  # with logits

    def __init__(
        self,
        *,
        continues: bool = True,
        strict: bool = False,
        fields: Sequence[str] = MORE,
        defaults: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.continues, self.strict, self.fields = continues, strict, fields
        self.defaults = dict(defaults or {})
        self.models = ["NAME"]
        self.says: Callable[[dict[str, Any]], list[tuple[bool, str]]] = lambda body: [(False, "hello")]

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/v1/models":
            return as_json({"object": "list", "data": [{"id": name} for name in self.models]})
        assert path == "/v1/chat/completions"
        known = self.FIELDS | (self.CONTINUE if self.continues else set()) | {*self.fields}
        if self.strict and (other := body.keys() - known):
            return Reply(json.dumps({"detail": f"Unexpected fields in the request: {other}"}).encode(), 422)
        prompt = sum(len(str(turn["content"])) + 4 for turn in body["messages"]) + 4
        if self.continues and body.get("continue_final_message"):
            prompt -= 8  # no end of this turn and no start of another
        events: list[dict[str, Any]] = [{"role": "assistant"}]
        events += [
            {"reasoning_content" if thought else "content": piece} for thought, piece in self.says(body)
        ]
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in events]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 7}})
        stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return Reply(stream.encode())

    def colours(self, body: dict[str, Any]) -> list[tuple[bool, str]]:
        """A turn of eight colours, sampled as the request says; `defaults` hold for what it leaves open."""
        known = {name: body[name] for name in (*self.FIELDS, *self.fields) if name in body}
        params = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        params |= {"presence_penalty": 0.0, "frequency_penalty": 0.0} | self.defaults | known
        draws, said = random.Random(params["seed"]), []
        for _ in range(8):
            logits = {}
            for word, logit in self.COLOURS.items():
                if word in said:
                    penalty = params["repetition_penalty"]
                    logit = logit / penalty if logit > 0 else logit * penalty
                    logit -= params["presence_penalty"] + params["frequency_penalty"] * said.count(word)
                logits[word] = logit
            order = sorted(logits, key=lambda word: -logits[word])
            if not params["temperature"]:
                said.append(order[0])
                continue
            weights = [math.exp(logits[word] / params["temperature"]) for word in order]
            shares = [weight / sum(weights) for weight in weights]
            kept = [
                share if sum(shares[:i]) < params["top_p"] and share >= params["min_p"] * shares[0] else 0.0
                for i, share in enumerate(shares)
            ]
            kept = kept[: params["top_k"]] if params["top_k"] > 0 else kept
            said += draws.choices(order[: len(kept)], kept)
        return [(False, f"a cup. </description> <think> {' '.join(said)} </think> \\boxed{{red}}")]
