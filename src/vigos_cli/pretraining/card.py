"""Write the model card of a base: what it was trained on, and how often it is right in every prompt mode.

`python -m vigos_cli.pretraining.card --model DIR` writes README.md and card.json beside the weights, from the
validation split alone. `--table DIR DIR ...` prints one table of several cards instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vigos_cli.ablation.teacher_card import CARD
from vigos_cli.config.compose import job
from vigos_cli.config.paths import TINY
from vigos_cli.pretraining.mode_accuracy import COLUMNS, DRAWS, ROWS, measure_modes
from vigos_cli.pretraining.teacher_accuracy import KINDS, measure_teachers
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.utils.quiet import quieten

WEIGHTS, LOG = "model.safetensors", "pretraining.jsonl"
STRUCTURED, PLAIN, CAPTIONS, READER = (
    "structured student",
    "plain student",
    "caption (perception teacher)",
    "reader of a true description",
)
WANTED = {  # what a base must meet, greedy and sampled: (mode, column) -> (relation, bound)
    (STRUCTURED, "asked look told, conflicts"): ("at least", 0.95),
    (STRUCTURED, "answer, conflicts"): ("at most", 0.3),
    (STRUCTURED, "answer, agrees"): ("at least", 0.95),
    (STRUCTURED, "answer, no prior"): ("at least", 0.9),
    (STRUCTURED, "format"): ("at least", 0.97),
    (PLAIN, "format"): ("at least", 0.97),
    (CAPTIONS, "asked look told, conflicts"): ("at least", 0.95),
    (READER, "answer, conflicts"): ("at least", 0.9),
}


def unmet(modes: dict[str, Any]) -> list[str]:
    """What is wanted of a base and not met, as `mode, column, greedy: 0.85, wanted at least 0.9`."""
    missed = []
    for (mode, column), (relation, bound) in WANTED.items():
        for how in ("greedy", "sampled"):
            mean = modes[mode][how][column]["mean"]
            if mean < bound if relation == "at least" else mean > bound:
                missed.append(f"{mode}, {column}, {how}: {mean:.2f}, wanted {relation} {bound}")
    return missed


def cell(figure: dict[str, Any] | None) -> str:
    """One figure with its interval."""
    if figure is None:
        return ""
    low, high = figure["interval"]
    return f"{figure['mean']:.2f} [{low:.2f}, {high:.2f}]"


def mode_table(modes: dict[str, Any], how: str) -> str:
    """One row a mode."""
    rows = [
        [mode, *(cell(figures[how].get(column)) for column in COLUMNS)] for mode, figures in modes.items()
    ]
    return markdown_table([how, *COLUMNS], rows)


def teacher_table(teachers: Sequence[dict[str, Any]]) -> str:
    """One row a teacher."""
    rows = [
        [entry["routing"], entry["teacher"], *(cell(entry["answers"].get(kind)) for kind in KINDS)]
        for entry in teachers
    ]
    return markdown_table(["routing", "teacher", *KINDS], rows)


def bases_table(folders: Sequence[Path]) -> str:
    """One column a base: what is wanted, greedy and sampled, and how much of it is not met."""
    cards = [json.loads((folder / CARD).read_text()) for folder in folders]
    rows = [["SHA-256 of the weights", *(card["sha256"][:16] for card in cards)]]
    for (mode, column), (relation, bound) in WANTED.items():
        shares = [
            " / ".join(f"{card['modes'][mode][how][column]['mean']:.2f}" for how in ("greedy", "sampled"))
            for card in cards
        ]
        rows.append([f"{mode}: {column} {relation} {bound}", *shares])
    rows.append(["not met", *(str(len(unmet(card["modes"]))) for card in cards)])
    return markdown_table(["wanted", *(f"seed {card['seed']}" for card in cards)], rows)


def weights_hash(folder: Path) -> str:
    """The SHA-256 of the weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def pretraining_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the pretraining."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


TEXT = """# The tiny model

A real `Qwen2VLForConditionalGeneration` of {parameters:,} parameters (bfloat16 on disk, {size:.1f} MB)
with its own tokenizer, pretrained on PriorWorld pictures of the training split. With it the whole method runs
offline in a few minutes. It knows nothing but PriorWorld, which is a constructed test bed: it shows what a
method does, and not how large an effect is on real models.

- Made by `python -m vigos_cli.pretraining.pretrain --seed {seed} --out bases`: {phases};
  {minutes} minutes on one core.
- {verdict} Other seeds of the same recipe: `bases/README.md` of the repository.
- Last training loss: {loss} nats a token, where every learned part of an answer weighs the same.
- SHA-256 of model.safetensors: `{sha}`.
- Questions about a picture have these modes: {modes}.
- Their families: {families}.
- No target contradicts its picture. A colour or a pattern of a picture is the usual one with
  probability {usual}. A student's question about a look has the usual look as its answer: it is about a
  thing that looks as usual, about an absent thing ({absent:.0%}), or about a picture that shows no look.

## What each prompt mode knows

Shares with 95 % intervals on the validation split: {rows} questions with a usual answer on three pictures
each, and as many questions without. One greedy answer an item, then {draws} sampled at temperature 1,
untruncated. `agrees` and `conflicts`: the picture against the usual look of the asked thing. `told`: the
description states it as it is. `follows reference`: the answer is the one given as the reference. The reader
of a true description is asked "By the description, which colour has the hat?" behind a given description.

{greedy}

{sampled}

## What each teacher knows in its own context

Greedy answers to the same questions, in the context that the routing gives to the teacher. A teacher that is
told a sibling is told the worked solution as a rollout.

{teachers}
"""


def write_card(folder: Path) -> None:
    """Measure a base, and write its card."""
    from vigos_cli.models.student_loading import load_student
    from vigos_cli.pretraining import documents, training_questions

    overrides = [f"model.path={folder}"]
    config: Any = job("distill", [*overrides, "out=unused"])
    student = load_student(config.model, config.adapter)
    modes, teachers = measure_modes(student, overrides), measure_teachers(student, overrides)
    log = pretraining_log(folder)
    ends = {line["phase"]: line for line in log}  # the last line of each phase
    missed = unmet(modes)
    seed, sha = log[-1]["seed"], weights_hash(folder)
    text = TEXT.format(
        parameters=sum(p.numel() for n, p in student.net.named_parameters() if n not in student.adapter),
        size=(folder / WEIGHTS).stat().st_size / 2**20,
        seed=seed,
        phases=", then ".join(f"{end['step'] + 1} steps of `{phase}`" for phase, end in ends.items()),
        minutes=round(sum(end["minutes"] for end in ends.values())),
        loss=log[-1]["loss"],
        sha=sha,
        modes=", ".join(f"{name} {share}" for name, share in documents.MODES.items()),
        families=", ".join(f"{name} {share}" for name, share in training_questions.FAMILIES.items()),
        usual=training_questions.USUAL_RATE,
        absent=documents.ABSENT,
        verdict="It does not meet: " + "; ".join(missed) + "." if missed else "It meets all that is wanted.",
        rows=ROWS,
        draws=DRAWS,
        greedy=mode_table(modes, "greedy"),
        sampled=mode_table(modes, "sampled"),
        teachers=teacher_table(teachers),
    )
    (folder / "README.md").write_text(text)
    card = {"seed": seed, "sha256": sha, "modes": modes, "teachers": teachers}
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    print(text)


def main() -> None:
    """Write the card, or print a table of several."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--table", type=Path, nargs="+", default=[])
    args = parser.parse_args()
    quieten()
    if args.table:
        print(bases_table(args.table))
    else:
        write_card(args.model)


if __name__ == "__main__":
    main()
