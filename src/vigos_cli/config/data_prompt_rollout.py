"""The groups `data`, `prompt` and `rollout`."""

from __future__ import annotations

from dataclasses import dataclass, field

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_server, check_share
from vigos_cli.utils.errors import ConfigError

DEFAULT_URL = "http://localhost:8000/v1"
NOT_FOR_USERS = {  # flags of `vllm serve` that rollout.serve_flags must not have, and why
    "--host": "the server is for this machine only",
    "--port": "vigos chooses a free port",
    "--uds": "vigos chooses a free port",
    "--config": "write the flags of that file into rollout.serve_flags",
    "--api-key": "set rollout.key_env, whose key the server then asks for",
    "--trust-remote-code": "vigos runs no code of a model's repository",
}
_PATHS = {"jsonl": "a JSON lines or parquet file, or a folder", "hub": "a Hugging Face id such as OWNER/NAME"}


@dataclass
class DataConfig:
    """The training samples. `vigos rollout` samples from them too."""

    name: str = "priorworld"  # priorworld, vision_sr1, jsonl, hub
    path: str | None = None  # a JSON lines or parquet file, a folder, or a Hugging Face id
    revision: str | None = None  # commit or tag on the Hugging Face hub
    split: str = "train"  # split of a data set from the hub
    size: int = 4096  # priorworld: number of pictures in the training split
    conflict: float = 0.5  # priorworld: share of training pictures that contradict the usual look
    wrong_reference: float = 0.0  # priorworld: share of training samples whose reference is wrong
    text_only: str = "skip"  # rows without pictures: skip (left out and counted), keep (asked as text)
    decontaminate: bool = False  # distill: leave out the rows that are also in a benchmark of the run
    columns: dict[str, str] = field(default_factory=dict)  # name -> column of the data: data.columns.id=KEY

    def __post_init__(self) -> None:
        check_choice("data.text_only", self.text_only)
        check_at_least(1, data__size=self.size)
        check_share(data__conflict=self.conflict, data__wrong_reference=self.wrong_reference)
        if self.wrong_reference and self.name != "priorworld":
            raise ConfigError("data.wrong_reference: only data=priorworld can make wrong references")
        if self.decontaminate and self.name == "priorworld":
            raise ConfigError(
                "data.decontaminate: the rows of data=priorworld are drawn, so no benchmark has them"
            )
        if self.name in ("jsonl", "hub") and not self.path:
            raise ConfigError(f"data.path is missing: set it to {_PATHS[self.name]}")


@dataclass
class PromptConfig:
    """The instructions; {question} and {reference} are replaced by the sample's texts."""

    name: str = "vigos"  # name of the option; appears in reports
    path: str | None = None  # a YAML file with some of the keys below; its texts replace them
    structured: str = ""  # the structured student: describe, think, answer
    think: str = ""  # the student with routing.student.format=think (OPSD): think, answer
    perception: str = ""  # the request for a caption (routing=two_pass); empty: only the image
    reasoning: str = ""  # a teacher that is told question and reference: think, answer
    reference: str = ""  # a teacher that is told question and reference: describe, think, answer
    templates: dict[str, str] = field(default_factory=dict)  # further ones, for routing.teachers.*.prompt
    prefill_structured: str = "<description>"  # given start of the structured student's turn
    prefill_think: str = "<think>"  # given start of the other student's turn


@dataclass
class RolloutConfig:
    """The engine that samples, and how training rollouts are sampled."""

    name: str = "hf"  # engine: hf (in process), vllm (over HTTP), openai (for vigos eval only)
    temperature: float = 1.1  # sampling temperature
    top_p: float = 0.95  # nucleus sampling; 1 keeps all tokens
    top_k: int = 20  # number of most probable tokens kept; 0 keeps all
    n: int = 1  # rollouts per prompt; trainer.batch must be a multiple of it
    max_new_tokens: int = 4096  # greatest number of sampled tokens
    batch: int = 32  # hf: number of rows generated at once
    teachers: bool = True  # rollout: the teachers score the rollouts too; false: only sample and grade
    url: str = DEFAULT_URL  # openai, vllm: address of the server
    model: str | None = None  # openai, vllm: the server's name for the model; null: model.path
    key_env: str | None = None  # openai, vllm: environment variable with the server's key; null: none
    concurrency: int = 32  # openai, vllm: number of requests at the same time
    timeout: float = 600.0  # openai, vllm: seconds until a request is given up
    patience: float = 1800.0  # openai, vllm: seconds for one completion, and for the start of a server
    prefill: str = "auto"  # openai: the server continues a given turn: auto (if it can), continue, none
    serve: bool = False  # vllm: start a server on this machine, and end it with the run
    serve_command: list[str] = field(  # serve: the program: [vllm], a path to one, or [uvx,vllm]
        default_factory=lambda: ["vllm"]
    )
    serve_flags: list[str] = field(default_factory=list)  # serve: more flags of `vllm serve`; override ours

    def __post_init__(self) -> None:
        check_choice("rollout.name", self.name)
        check_choice("rollout.prefill", self.prefill)
        check_positive(rollout__temperature=self.temperature, rollout__top_p=self.top_p)
        check_share(rollout__top_p=self.top_p)
        check_at_least(0, rollout__top_k=self.top_k)
        check_at_least(1, rollout__n=self.n, rollout__batch=self.batch)
        check_at_least(1, rollout__max_new_tokens=self.max_new_tokens, rollout__concurrency=self.concurrency)
        check_positive(rollout__timeout=self.timeout, rollout__patience=self.patience)
        if self.name != "hf":
            check_server("rollout", self.url, self.key_env)
        if self.serve:
            self._check_serve()
        elif self.serve_flags or self.serve_command != ["vllm"]:
            raise ConfigError("rollout.serve_command and rollout.serve_flags need rollout.serve=true")

    def _check_serve(self) -> None:
        """Raise a ConfigError if no server can be started, or if a flag is not for the user to set."""
        if self.name != "vllm":
            raise ConfigError(f"rollout.serve=true starts a vLLM server: use rollout=vllm, not {self.name}")
        if self.url != DEFAULT_URL:
            raise ConfigError(
                f"rollout.serve=true starts a server, and rollout.url={self.url} names another one: "
                "leave out one of them"
            )
        if not self.serve_command or "" in self.serve_command:
            raise ConfigError(
                "rollout.serve_command is empty: name the program, such as [vllm] or [uvx,vllm]"
            )
        for flag in self.serve_flags:
            name = flag.partition("=")[0].replace("_", "-")
            for known, why in NOT_FOR_USERS.items():  # vLLM also accepts the beginning of a flag's name
                if len(name) > 2 and name.startswith("--") and known.startswith(name):
                    raise ConfigError(f"rollout.serve_flags: {name} is not yours to set: {why}")

    def needs_tokens(self, command: str) -> None:
        """Raise a ConfigError if the engine returns only text, which this command cannot use."""
        if self.name == "openai":
            raise ConfigError(
                f"rollout=openai: vigos {command} needs token ids, which such a server does not return; "
                "use rollout=hf (in process) or rollout=vllm (over HTTP)"
            )
