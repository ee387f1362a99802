"""The instructions of student and teachers: read them, choose a teacher's template, fill in the data.

prompts = load_prompts(config.prompt)
text = instruction("reasoning", config.routing.teachers["reasoning"], "structured", prompts)
parts = fill_template(text, sample.question, "red")     # each part with whether it came from the data
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import yaml

from vigos_cli.config.schema import PromptConfig, RoutingConfig, TeacherContext
from vigos_cli.data.image_marks import split_at_marks
from vigos_cli.utils.errors import ConfigError, nearest

SLOT = re.compile(r"\{(question|reference)\}")
OLD_KEYS = {"plain": "think", "prefill_plain": "prefill_think"}
TEMPLATES = ("structured", "think", "perception", "reasoning", "reference")
KEYS = tuple(f.name for f in fields(PromptConfig) if f.name != "path")  # allowed in a file of prompts


# ---- the texts of a run


def load_prompts(config: PromptConfig) -> PromptConfig:
    """The prompts of a run: those of `config`; keys of the YAML file at `config.path` replace them.

    Raises ConfigError if the file or a prompt is not usable.
    """
    if config.path is not None:
        config = replace(config, **{"name": Path(config.path).stem} | _read(Path(config.path)))
    for key in ("structured", "think", "reasoning", "reference"):
        if "{question}" not in getattr(config, key):
            raise ConfigError(f"prompt.{key} does not contain {{question}}")
    for key in ("structured", "think", "perception"):
        if "{reference}" in getattr(config, key):
            raise ConfigError(f"prompt.{key} contains {{reference}}, which must not be seen there")
    return config


def _read(path: Path) -> dict[str, str]:
    try:
        texts = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"prompt.path={path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompt.path={path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(texts, dict):
        raise ConfigError(f"prompt.path={path} must map keys to texts; the keys are {', '.join(KEYS)}")
    for key, text in texts.items():
        if key in OLD_KEYS:
            raise ConfigError(f"prompt.path={path}: {key} is now {OLD_KEYS[key]}")
        if key not in KEYS:
            raise ConfigError(
                f"prompt.path={path}: {key}: {nearest(str(key), KEYS)}choose one of {', '.join(KEYS)}"
            )
        readable = isinstance(text, str)
        if key == "templates":
            readable = isinstance(text, dict) and all(isinstance(each, str) for each in text.values())
        if not readable:
            raise ConfigError(f"prompt.path={path}: {key} must be a text (quote it, or use a | block)")
    return texts


# ---- which template a teacher gets


def instruction(name: str, teacher: TeacherContext, form: str, prompt: PromptConfig) -> str:
    """The instruction of a teacher: the template that the routing names, or the one that fits `told`.

    Raises ConfigError if there is no such template, or if it does not say what the teacher is told.
    """
    asked = "question" in teacher.told
    informed = any(entry != "question" for entry in teacher.told)
    usual = {(False, False): "perception", (True, False): form, (False, True): "reference_alone"}
    which = teacher.prompt or usual.get(
        (asked, informed), "reference" if form == "structured" else "reasoning"
    )
    text = template_text(prompt, which, name) if which else ""
    for slot, told, what in (("question", asked, "question"), ("reference", informed, "reference")):
        key = f"routing.teachers.{name}.told={list(teacher.told)}"
        if told and f"{{{slot}}}" not in text:
            raise ConfigError(f"{key}, but its prompt {which or '(none)'} does not contain {{{slot}}}")
        if not told and f"{{{slot}}}" in text:
            raise ConfigError(f"{key}, but its prompt {which} contains {{{slot}}}: add the {what} to told")
    return text


def check_instructions(routing: RoutingConfig, prompt: PromptConfig) -> None:
    """Raise ConfigError if a teacher of the routing has no template that fits what it is told."""
    for name, teacher in routing.teachers.items():
        instruction(name, teacher, routing.student.format, prompt)


def template_text(prompt: PromptConfig, which: str, teacher: str) -> str:
    """A template of the prompt group by its name. Raises ConfigError if there is none."""
    known = {
        key: getattr(prompt, key) for key in ("structured", "think", "perception", "reasoning", "reference")
    }
    known |= prompt.templates
    if which not in known:
        raise ConfigError(
            f"routing.teachers.{teacher}.prompt={which}: {nearest(which, known)}"
            f"prompt={prompt.name} has the templates {', '.join(known)}"
        )
    return known[which]


def without_description(routing: RoutingConfig) -> RoutingConfig:
    """The routing of samples without pictures: no description, and no template that asks for one."""
    shorter = {"structured": "think", "reference": "reasoning"}
    teachers = {
        name: replace(teacher, prompt=shorter.get(teacher.prompt or "", teacher.prompt))
        for name, teacher in routing.teachers.items()
    }
    supervise = replace(routing.supervise, description=None)
    return replace(
        routing,
        student=replace(routing.student, format="think"),
        teachers=teachers,
        supervise=supervise,
    )


# ---- the data in a template


def fill_template(instruction: str, question: str, reference: str) -> list[tuple[str, bool]]:
    """Fill the slots of an instruction; return its parts, each with whether it came from the data.

    Slots in the data are not filled.
    """
    (whole,) = fill_and_cut(instruction, question, reference, ())
    return whole


def fill_and_cut(
    instruction: str, question: str, reference: str, places: Sequence[int]
) -> list[list[tuple[str, bool]]]:
    """Like `fill_template`, cut at the question's marks at `places`, which are left out.

    The result is one list of parts if the instruction does not hold the question, or if there are no places.
    Half of a surrogate pair, which no tokenizer and no server accepts, becomes a question mark.
    """
    question, reference = (text.encode("utf-8", "replace").decode() for text in (question, reference))
    cut = split_at_marks(question, places)
    messages: list[list[tuple[str, bool]]] = [[]]
    for i, part in enumerate(SLOT.split(instruction.strip())):  # text, name, text, name, ..., text
        if i % 2 == 0:
            messages[-1].append((part, False))
        elif part == "reference":
            messages[-1].append((reference, True))
        elif len(messages) == 1:
            messages[-1].append((cut[0], True))
            messages += [[(text, True)] for text in cut[1:]]
        else:  # the question again
            messages[-1].append(("".join(cut), True))
    return messages
