"""`rollout=openai`: sample from any server with OpenAI's chat completions and images.

No weights and no processor are loaded here. The student's pre-fill is sent as the start of the assistant's
turn if the server can continue a turn. This is tested once in a run: the server must accept the fields, and
must count fewer prompt tokens than if the same turn is closed (a server that ignores the fields counts the
same number). Otherwise no pre-fill is sent, and the format of the text is judged as the server returns it.

A server may fill in what a request leaves open from the model's generation config: a top_k of 1 makes every
draw the greedy answer, and a repetition penalty also changes greedy answers. So all such fields are sent,
with values that change nothing (`NEUTRAL`). The fields that the server refuses are recorded, because its own
values hold for them.

Replies are streamed. Servers return a chain of thought separately as `reasoning_content`, and some then drop
the text before it. In a stream the order of all pieces is known, so the thinking tags can be put back.

    {"reasoning_content": "so"}, {"content": "\\boxed{1}"}    ->    <think>so</think>\\boxed{1}
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.run_folder import has_results
from vigos_cli.config.schema import EvalRun, PromptConfig, RolloutConfig, RoutingConfig
from vigos_cli.generation.concurrent_requests import ask_all, user_turn
from vigos_cli.generation.engine import served_name
from vigos_cli.generation.job_progress import JobProgress
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob
from vigos_cli.method.instructions import fill_and_cut
from vigos_cli.method.prompts import EncodedImages
from vigos_cli.method.segments import THINK, THINK_END
from vigos_cli.types import Prompt, Rollout
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import write_json
from vigos_cli.utils.server import CutShort, NoReply, RequestRefused, Server, key_from_environment, passing

FILE = "engine.json"  # the fields that the server accepts; written beside the responses
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}  # fields of vLLM and SGLang
# What vLLM and SGLang take from a generation config, besides temperature and top_p, which are always sent.
NEUTRAL = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
OF_SAMPLING = ("top_k", "min_p")  # greedy choices do not depend on them
LARGEST = 1 << 26  # bytes of a reply
REFUSALS = 4  # refusals in a row that are still attributed to the questions; one more ends the run


class TextPrompter:
    """Builds the student's prompt as text and images; replaces a Prompter where no processor is loaded."""

    def __init__(self, prompt: PromptConfig, routing: RoutingConfig):
        self._instruction = getattr(prompt, routing.student.format)
        self._opening = getattr(prompt, f"prefill_{routing.student.format}")

    def encode(self, images: Sequence[Any], places: Sequence[int] = ()) -> EncodedImages:
        """Keep the images and their places in the question; the server encodes them."""
        return EncodedImages(None, None, {}, tuple(images), tuple(places))

    def render(
        self, context: str, images: EncodedImages, *, question: str = "", reference: str = ""
    ) -> Prompt:
        """The student's prompt; a chat server is asked in no other context."""
        assert context == STUDENT
        parts = fill_and_cut(self._instruction, question, reference, images.places)
        message = tuple("".join(text for text, _ in part) for part in parts)
        if not images.images:
            message = ("".join(message),)
        return Prompt(context, (), (), images=images.images, message=message, opening=self._opening)


@dataclass(frozen=True, slots=True)
class AcceptedFields:
    """Which fields beyond the common ones the server accepts."""

    prefill: str  # "continued", "not sent" with the reason, or "none" if the student has no pre-fill
    defaults_not_excluded: tuple[str, ...] = ()  # refused fields of `NEUTRAL`: the server's own values hold

    def of_request(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """The messages of one request and its optional fields."""
        extra: dict[str, Any] = {"messages": [user_turn(request.prompt.images, request.prompt.message)]}
        if self.prefill == "continued":
            extra["messages"].append({"role": "assistant", "content": request.prompt.opening})
            extra |= CONTINUE
        neutral = NEUTRAL | ({"top_k": sampling.top_k} if sampling.top_k else {})
        unsent = {*self.defaults_not_excluded, *(() if sampling.temperature > 0 else OF_SAMPLING)}
        return extra | {name: value for name, value in neutral.items() if name not in unsent}


class ChatEngine:
    """The engine of `rollout=openai`; see `Engine`."""

    def __init__(self, config: EvalRun):
        if config.adapter.path and not Path(config.adapter.path).is_dir():
            raise UserError(f"adapter.path={config.adapter.path}: no such folder (to read its prompt)")
        self._config: RolloutConfig = config.rollout
        self._top_k = config.bench.top_k
        self._model, self._file = served_name(config), Path(config.out) / FILE
        self._key = key_from_environment("rollout", self._config)
        known = self._file.is_file() and has_results(Path(config.out))
        self._before = json.loads(self._file.read_text()) if known else None
        self._accepted: AcceptedFields | None = None
        self._refused = 0  # refusals in a row
        self._cut_short = False  # whether the server's own limit has ended an answer

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """Sample on the server. Seeds come from the job, so a resumed run sends the same requests.

        A request that the server refuses is printed and gets no answer. After more than `REFUSALS` refusals
        in a row the run ends.
        """
        if not job.requests:
            return []
        if self._accepted is None:
            (self._accepted,) = ask_all(self._config, self._key, [job.requests[0]], self._find_accepted)
            self._check_unchanged()
        accepted, progress = self._accepted, JobProgress()

        async def ask(server: Server, numbered: tuple[int, Request]) -> Rollout:
            number, request = numbered
            try:
                rollout = await self._complete(server, request, job, accepted)
                self._refused = 0
            except RequestRefused as error:
                self._refused += 1
                if self._refused > REFUSALS or passing(error.status):
                    raise
                print(f"rollout: item {request.sample_id}: the server {error}", file=sys.stderr)
                rollout = Rollout(
                    request.sample_id, request.draw, request.prompt, (), "", (), False, refused=str(error)
                )
            progress.finished(rollout)
            if job.done:
                job.done(number, rollout)
            return rollout

        return ask_all(self._config, self._key, list(enumerate(job.requests)), ask)

    async def _complete(
        self, server: Server, request: Request, job: SamplingJob, accepted: AcceptedFields
    ) -> Rollout:
        sampling = job.sampling
        body = {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": job.server_seed(request),
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"top_p": sampling.top_p} if sampling.temperature > 0 else {}),
            **accepted.of_request(request, sampling),
        }
        opening = request.prompt.opening if accepted.prefill == "continued" else ""
        reply = await server.ask("/chat/completions", body, read=StreamedReply.read, largest=LARGEST)
        text = reply.text(opening)
        ends = (len(text),) if reply.pieces else ()
        if not self._cut_short and not reply.finished and 0 < reply.tokens < sampling.max_new_tokens:
            self._cut_short = True
            print(
                f"rollout: the server ended an answer after {reply.tokens} tokens, although "
                f"{sampling.max_new_tokens} are allowed: its own limit on answers or on the context is lower",
                file=sys.stderr,
            )
        return Rollout(
            request.sample_id, request.draw, request.prompt, (), text, ends, reply.finished, reply.tokens
        )

    def facts(self) -> dict[str, Any]:
        """Server, model and accepted fields; those of the earlier run if nothing was asked now."""
        if self._accepted is None:
            return self._before or {}
        accepted = {
            **asdict(self._accepted),
            "defaults_not_excluded": [*self._accepted.defaults_not_excluded],
        }
        return {"name": "openai", "url": self._config.url, "model": self._model, **accepted}

    def close(self) -> None:
        """Nothing to remove: this engine puts nothing on the server."""

    def _check_unchanged(self) -> None:
        """Write `engine.json`. Refuse to resume if the server accepts other fields than before."""
        facts = self.facts()
        for name in ("prefill", "defaults_not_excluded"):
            before = self._before.get(name, "not recorded") if self._before else facts[name]
            if before != facts[name]:
                raise UserError(
                    f"rollout: {name} was {_listed(before)} for the answers in {self._file.parent}, but is "
                    f"{_listed(facts[name])} with this server: choose another out="
                )
        write_json(self._file, facts)

    async def _find_accepted(self, server: Server, request: Request) -> AcceptedFields:
        """Find the accepted fields: ask for one token with all of them, then with fewer."""
        wish = self._config.prefill if request.prompt.opening else "none"
        continues = {"auto": (True, False), "continue": (True,), "none": (False,)}[wish]
        refused: NoReply = NoReply("")
        for every in (True, False):
            unsent = () if every else await self._refused_fields(server, request)
            for continued in continues:
                accepted = AcceptedFields("continued" if continued else "not sent", unsent)
                try:
                    tokens = await self._prompt_tokens(server, accepted, request)
                except RequestRefused as error:
                    refused = error
                    continue
                if not continued:
                    none = not request.prompt.opening
                    reason = "by choice" if wish == "none" else "the server cannot continue a turn"
                    return AcceptedFields("none" if none else f"not sent: {reason}", unsent)
                if wish == "continue" or await self._continued(server, accepted, request, tokens):
                    return accepted
        if wish == "continue":
            raise UserError(
                f"rollout.prefill=continue: {self._config.url} {refused}; use rollout.prefill=auto or none"
            )
        raise refused

    async def _refused_fields(self, server: Server, request: Request) -> tuple[str, ...]:
        """The fields of `NEUTRAL` that the server refuses, each asked for alone."""
        await self._prompt_tokens(server, AcceptedFields("not sent", tuple(NEUTRAL)), request)
        refused = []
        for name in NEUTRAL:
            alone = AcceptedFields("not sent", tuple(other for other in NEUTRAL if other != name))
            try:
                await self._prompt_tokens(server, alone, request)
            except RequestRefused:
                refused.append(name)
        return tuple(refused)

    async def _continued(
        self, server: Server, accepted: AcceptedFields, request: Request, tokens: int | None
    ) -> bool:
        """Whether the server continued the turn: with the turn closed the prompt must be longer."""
        try:
            longer = await self._prompt_tokens(server, accepted, request, closed=True)
        except RequestRefused:
            return False
        return tokens is not None and longer is not None and tokens < longer

    async def _prompt_tokens(
        self, server: Server, accepted: AcceptedFields, request: Request, *, closed: bool = False
    ) -> int | None:
        """Ask for one token; the number of prompt tokens that the server counts."""
        fields = accepted.of_request(request, Sampling(1, temperature=1.0, top_k=self._top_k))
        if closed:
            fields = {name: value for name, value in fields.items() if name not in CONTINUE}
        body = {"model": self._model, "max_tokens": 1, "temperature": 1.0, "seed": 0, **fields}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        reply = await server.ask("/chat/completions", body, read=StreamedReply.read, largest=LARGEST)
        return reply.prompt_tokens


def _listed(value: Any) -> str:
    """A value of `facts` for an error message."""
    return ", ".join(value) or "empty" if isinstance(value, list) else str(value)


@dataclass(slots=True)
class StreamedReply:
    """The pieces of a reply in order, each with whether it is thinking."""

    pieces: list[tuple[bool, str]]
    finished: bool
    tokens: int = 0
    prompt_tokens: int | None = None

    @classmethod
    def read(cls, content: bytes) -> StreamedReply:
        """Read a stream of events, or one JSON object. Raises CutShort if the stream has no end."""
        text = content.decode("utf-8", "replace")
        lines = re.split(r"\r\n|\r|\n", text)  # not splitlines(): JSON may contain U+2028 unescaped
        events = [line[5:].strip() for line in lines if line.startswith("data:")] or [text]
        reply, reason = cls([], finished=False), None
        try:
            for event in events:
                if event == "[DONE]":
                    break
                part = json.loads(event)
                if "error" in part:
                    raise CutShort("broke its reply off with an error")
                usage = part.get("usage") or {}
                reply.tokens = int(usage.get("completion_tokens") or reply.tokens)
                reply.prompt_tokens = usage.get("prompt_tokens", reply.prompt_tokens)
                for choice in part["choices"][:1]:
                    reply._add(choice.get("delta") or choice.get("message") or {})
                    reason = choice.get("finish_reason") or reason
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise CutShort("sent a malformed reply") from None
        if reason is None:
            raise CutShort("sent only a part of a reply")
        reply.finished = reason != "length"
        return reply

    def _add(self, delta: dict[str, Any]) -> None:
        for thought, names in ((True, ("reasoning_content", "reasoning")), (False, ("content",))):
            piece = next((delta[name] for name in names if delta.get(name)), "")
            if piece:
                self.pieces.append((thought, str(piece)))

    def text(self, opening: str) -> str:
        """The whole turn: the pre-fill that was sent, then the pieces, with the thinking tags put back."""
        text, inside = opening, opening.rstrip().endswith(THINK)
        for i, (thought, piece) in enumerate(self.pieces):
            if thought and not inside:
                text += THINK
            elif inside and not thought and i:  # the first piece closes the pre-fill's tag itself
                text += THINK_END
            inside = thought
            text += piece
        return text
