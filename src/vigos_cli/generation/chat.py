"""`rollout=openai`: any server with OpenAI's chat completions that takes pictures (vLLM, SGLang, ...).

No weights and no processor are loaded here. The student's pre-fill goes along as the head of the assistant's
turn where the server can continue one. Whether it can is asked once a run: it must take the fields, and count
fewer prompt tokens than for the same turn closed (one that ignores them counts the same). Otherwise the rule
is: no pre-fill is sent, the text is taken as it comes, and its format is judged as it stands.

Replies are streamed. Servers split a chain of thought off as `reasoning_content`, and some then drop what
stood before it; in a stream each piece still stands in its place, and the tags go back around it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import EvalRun, PromptConfig, RolloutConfig, RoutingConfig
from vigos_cli.generation.engine import served_name
from vigos_cli.generation.requests import ask_all, user_turn
from vigos_cli.generation.sampler import Done, Request, Sampling
from vigos_cli.method.prompts import EncodedImages, fill_template
from vigos_cli.method.segments import THINK, THINK_END
from vigos_cli.types import Prompt, Role, Rollout
from vigos_cli.utils import rng
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import write_json
from vigos_cli.utils.server import CutShort, NoReply, RequestRefused, Server, key_from_environment, passing

FILE = "engine.json"  # what was found out about the server, beside the responses
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}  # as vLLM and SGLang call it
LARGEST = 1 << 26  # bytes of a reply
REFUSALS = 4  # in a row that are taken for the questions' own fault


class TextPrompter:
    """The student's prompt as text and pictures; stands where a Prompter stands, without a processor."""

    def __init__(self, prompt: PromptConfig, routing: RoutingConfig):
        self._instruction = getattr(prompt, routing.student)
        self._opening = getattr(prompt, f"prefill_{routing.student}")

    def encode(self, images: Sequence[Any]) -> EncodedImages:
        """The pictures as they are."""
        return EncodedImages((), (), (), (), {}, images=tuple(images))

    def render(self, role: Role, images: EncodedImages, *, question: str = "", reference: str = "") -> Prompt:
        """The prompt of the student, the only role that is asked here."""
        assert role is Role.STUDENT
        message = "".join(text for text, _ in fill_template(self._instruction, question, reference))
        return Prompt(role, (), (), images=images.images, message=message, opening=self._opening)


@dataclass(frozen=True, slots=True)
class Manner:
    """How the server is asked: which fields beyond the common ones it takes."""

    prefill: str  # "continued", "not sent" (with the reason), or "none" where there is none
    top_k: bool

    def fields(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """Of one request."""
        extra: dict[str, Any] = {"messages": [user_turn(request.prompt.images, request.prompt.message)]}
        if self.prefill == "continued":
            extra["messages"].append({"role": "assistant", "content": request.prompt.opening})
            extra |= CONTINUE
        if self.top_k and sampling.temperature > 0 and sampling.top_k:
            extra["top_k"] = sampling.top_k
        return extra


class Chat:
    """The engine."""

    def __init__(self, config: EvalRun):
        if config.adapter.path and not Path(config.adapter.path).is_dir():
            raise UserError(f"adapter.path={config.adapter.path}: no such folder (its prompt is asked under)")
        self._config: RolloutConfig = config.rollout
        self._model, self._file = served_name(config), Path(config.out) / FILE
        self._key = key_from_environment("rollout", self._config)
        self._before = json.loads(self._file.read_text()) if self._file.is_file() else None
        self._manner: Manner | None = None
        self._refused = 0  # in a row

    def roll_out(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        key: tuple[object, ...],
        batch: int,
        done: Done | None = None,
    ) -> list[Rollout]:
        """See Engine. The seeds are ours: a run that goes on asks what the run would have asked.

        A question that the server refuses is named and has no answer; where it refuses several in a row
        it is not the question, and the run ends.
        """
        if not requests:
            return []
        if self._manner is None:
            (self._manner,) = ask_all(self._config, self._key, [requests[0]], self._find_out)
            self._same_as_before()

        async def ask(server: Server, numbered: tuple[int, Request]) -> Rollout:
            number, request = numbered
            try:
                rollout = await complete(server, request)
                self._refused = 0
            except RequestRefused as error:
                self._refused += 1
                if self._refused > REFUSALS or passing(error.status):
                    raise
                print(f"rollout: item {request.sample_id}: the server {error}", file=sys.stderr)
                rollout = Rollout(
                    request.sample_id, request.draw, request.prompt, (), "", (), False, refused=str(error)
                )
            if done:
                done(number, rollout)
            return rollout

        async def complete(server: Server, request: Request) -> Rollout:
            assert self._manner
            body = {
                "model": self._model,
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "seed": rng.key(*key, request.sample_id, request.draw) % 2**31,
                "stream": True,
                "stream_options": {"include_usage": True},
                **({"top_p": sampling.top_p} if sampling.temperature > 0 else {}),
                **self._manner.fields(request, sampling),
            }
            opening = request.prompt.opening if self._manner.prefill == "continued" else ""
            said = await server.ask("/chat/completions", body, read=Said.read, largest=LARGEST)
            text = said.text(opening)
            ends = (len(text),) if said.pieces else ()
            return Rollout(
                request.sample_id, request.draw, request.prompt, (), text, ends, said.finished, said.tokens
            )

        return ask_all(self._config, self._key, list(enumerate(requests)), ask)

    def facts(self) -> dict[str, Any]:
        """The rule that was applied; of the earlier part of the run where nothing was left to ask."""
        if self._manner is None:
            return self._before or {}
        return {"name": "openai", "url": self._config.url, "model": self._model, **asdict(self._manner)}

    def close(self) -> None:
        """Nothing to leave."""

    def _same_as_before(self) -> None:
        """A run has one rule: stop where the server that goes on takes another one than it did."""
        facts = self.facts()
        for name in ("prefill", "top_k"):
            if self._before and self._before[name] != facts[name]:
                raise UserError(
                    f"rollout: {name} was {self._before[name]} for the answers in {self._file.parent}, this "
                    f"server makes it {facts[name]}: ask in another out="
                )
        write_json(self._file, facts)

    async def _find_out(self, server: Server, request: Request) -> Manner:
        """Ask for one token with all fields, and without those that the server does not take."""
        wish = self._config.prefill if request.prompt.opening else "none"
        continues = {"auto": (True, False), "continue": (True,), "none": (False,)}[wish]
        refused: NoReply = NoReply("")
        probe = Sampling(1, temperature=1.0, top_k=20)
        for top_k, continued in product((True, False), continues):
            manner = Manner("continued" if continued else "not sent", top_k)
            try:
                tokens = await self._prompt_tokens(server, manner.fields(request, probe))
            except RequestRefused as error:
                refused = error
                continue
            if not continued:
                none = not request.prompt.opening
                reason = "by choice" if wish == "none" else "the server cannot continue a turn"
                return Manner("none" if none else f"not sent: {reason}", top_k)
            if wish == "continue" or await self._continued(server, manner, request, probe, tokens):
                return manner
        if wish == "continue":
            raise UserError(
                f"rollout.prefill=continue: {self._config.url} {refused}; auto or none sends none"
            )
        raise refused

    async def _continued(
        self, server: Server, manner: Manner, request: Request, probe: Sampling, tokens: int | None
    ) -> bool:
        """Whether the fields had an effect: the same turn closed, and another begun, is longer."""
        closed = {k: v for k, v in manner.fields(request, probe).items() if k not in CONTINUE}
        try:
            longer = await self._prompt_tokens(server, closed)
        except RequestRefused:
            return False
        return tokens is not None and longer is not None and tokens < longer

    async def _prompt_tokens(self, server: Server, fields: dict[str, Any]) -> int | None:
        body = {"model": self._model, "max_tokens": 1, "temperature": 1.0, "seed": 0, **fields}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        said = await server.ask("/chat/completions", body, read=Said.read, largest=LARGEST)
        return said.prompt_tokens


@dataclass(slots=True)
class Said:
    """A streamed reply: its pieces in order, each with whether it was thought rather than said."""

    pieces: list[tuple[bool, str]]
    finished: bool
    tokens: int = 0
    prompt_tokens: int | None = None

    @classmethod
    def read(cls, content: bytes) -> Said:
        """Of the events, or of one JSON object. Raises CutShort for a stream without its end."""
        text = content.decode("utf-8", "replace")
        lines = re.split(r"\r\n|\r|\n", text)  # and no other: JSON may hold U+2028 as it is
        events = [line[5:].strip() for line in lines if line.startswith("data:")] or [text]
        said, reason = cls([], finished=False), None
        try:
            for event in events:
                if event == "[DONE]":
                    break
                reply = json.loads(event)
                if "error" in reply:
                    raise CutShort("broke its reply off with an error")
                usage = reply.get("usage") or {}
                said.tokens = usage.get("completion_tokens", said.tokens)
                said.prompt_tokens = usage.get("prompt_tokens", said.prompt_tokens)
                for choice in reply["choices"][:1]:
                    said._add(choice.get("delta") or choice.get("message") or {})
                    reason = choice.get("finish_reason") or reason
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise CutShort("sent a malformed reply") from None
        if reason is None:
            raise CutShort("sent a part of a reply")
        said.finished = reason != "length"
        return said

    def _add(self, delta: dict[str, Any]) -> None:
        for thought, names in ((True, ("reasoning_content", "reasoning")), (False, ("content",))):
            piece = next((delta[name] for name in names if delta.get(name)), "")
            if piece:
                self.pieces.append((thought, str(piece)))

    def text(self, opening: str) -> str:
        """The whole turn, what was sent of it first, the thoughts between their tags again."""
        text, inside = opening, opening.rstrip().endswith(THINK)
        for i, (thought, piece) in enumerate(self.pieces):
            if thought and not inside:
                text += THINK
            elif inside and not thought and i:  # with i = 0 the opening's tag is closed in the piece itself
                text += THINK_END
            inside = thought
            text += piece
        return text
