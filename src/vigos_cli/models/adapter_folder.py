"""Write and read an adapter's folder: its weights, its prompt and its model card.

adapter/vigos.json      base, student form, prompt texts and pre-fill, bounds on image size
adapter/README.md       how it was trained, its scores, and how to load it without vigos
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DistillRun, PromptConfig, RolloutRun, RunConfig
from vigos_cli.method.instructions import OLD_KEYS, check_instructions, load_prompts
from vigos_cli.method.routing import check_targets
from vigos_cli.models.student import Student
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.reporting.measures import before_and_after
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import drafted, drafted_folder, write_json

PROMPT_FILE = "vigos.json"
CARD = """---
base_model: {base}
library_name: peft
tags: [vigos, lora]
---
# A LoRA adapter trained by vigos

Base: `{base}`{revision}. Routing `{routing}`, loss `{loss}`, teacher `{teacher}`, {steps} steps of {batch}
rollouts on `{data}`, learning rate {lr:g}, LoRA rank {r} on {modules} layers, seed {seed}. {notes}

The adapter was trained with the prompt in `{file}`. Use the same prompt, and start the model's turn with
`{prefill}`. The table shows how often its answers are right.

{table}

Shares with 95 % intervals over questions. The licences of the base model and of the training data apply to
the adapter; see their cards.

## Use

```python
{example}
```

With vigos: `vigos eval adapter.path=FOLDER model={model}`. As one model:
`vigos merge adapter.path=FOLDER model={model}`.

## Configuration

```json
{config}
```
"""
EXAMPLE = """import json
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

base, folder, question, picture = {base}, "adapter", "What is in the picture?", Image.open("picture.png")
told = json.load(open(f"{{folder}}/{file}"))
processor = AutoProcessor.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base, dtype="auto"), folder)
text = told["instruction"].replace("{{question}}", question)
turn = [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": text}}]}}]
head = processor.apply_chat_template(turn, add_generation_prompt=True) + told["prefill"]
inputs = processor(text=[head], images=[picture], return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=1024, do_sample=False, repetition_penalty=1.0)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def save_adapter(student: Student, place: Path, config: DistillRun, facts: Mapping[str, Any]) -> None:
    """Write weights, prompt and card to `place`, completely or not at all.

    `facts` holds `steps` and `adapter_modules`, and after the evaluations also `before` and `after`. The text
    `chosen` says why this step was chosen, if it is not the last one.
    """
    with drafted_folder(place) as draft:
        _save(student, draft, config)
        write_card(draft, config, facts)


def adapter_modules(student: Student) -> int:
    """The number of layers that have an adapter."""
    return sum("lora_A" in name for name in student.adapter)


def _save(student: Student, folder: Path, config: DistillRun) -> None:
    form = config.routing.student.format
    student.net.save_pretrained(str(folder), safe_serialization=True)
    shape = json.loads((folder / "adapter_config.json").read_text())
    # Store the name that the user gave, not the folder on this machine.
    write_json(folder / "adapter_config.json", shape | {"base_model_name_or_path": config.model.path})
    write_json(
        folder / PROMPT_FILE,
        {
            "base": config.model.path,
            "revision": config.model.revision,
            "student": form,
            "instruction": getattr(config.prompt, form),
            "prefill": getattr(config.prompt, f"prefill_{form}"),
            "prompt": asdict(config.prompt),
            "max_pixels": config.model.max_pixels,
        },
    )


def write_card(folder: Path, config: DistillRun, facts: Mapping[str, Any]) -> None:
    """Write the model card README.md next to the weights; `facts` are those of `save_adapter`."""
    with drafted(folder / "README.md") as draft:
        draft.write_text(_card(config, facts), encoding="utf-8")


def _card(config: DistillRun, facts: Mapping[str, Any]) -> str:
    rows = [["not measured", "-", "-", "-"]]  # until the final evaluation has ended
    if "after" in facts:
        rows = before_and_after(facts["before"], facts["after"])
    tiny = config.model.path == "builtin:tiny"
    base = "str(__import__('vigos_cli.config.paths').config.paths.TINY)" if tiny else repr(config.model.path)
    nf4 = config.adapter.quantise == "nf4"
    quantised = "The base was quantised to 4 bits (nf4) during training." if nf4 else ""
    return CARD.format(
        base=config.model.path,
        revision=f" at `{config.model.revision}`" if config.model.revision else "",
        routing=config.routing.name,
        loss=config.loss.name,
        teacher=config.teacher.name,
        steps=facts["steps"],
        batch=config.trainer.batch,
        data=config.data.name,
        lr=config.trainer.lr,
        r=config.adapter.r,
        modules=facts["adapter_modules"],
        seed=config.seed,
        notes=" ".join(filter(None, (quantised, facts.get("chosen")))),
        file=PROMPT_FILE,
        prefill=getattr(config.prompt, f"prefill_{config.routing.student.format}"),
        table=markdown_table((", ".join(config.bench.tasks), "answers", "before", "after"), rows),
        example=EXAMPLE.format(base=base, file=PROMPT_FILE),
        model=config.model.name,
        config=json.dumps(asdict(config), indent=1, default=str),
    )


def settle_prompts(config: RunConfig) -> None:
    """Load a run's prompts into its configuration, before the configuration is compared or recorded.

    Raises ConfigError if a prompt does not fit the routing, or a divergence does not fit its target.
    """
    use_trained_prompt(config, named_groups())
    config.prompt = load_prompts(config.prompt)
    check_instructions(config.routing, config.prompt)
    if isinstance(config, DistillRun | RolloutRun):
        check_targets(config.routing, config.loss)


def use_trained_prompt(config: RunConfig, named: frozenset[str]) -> None:
    """Use the prompt that the adapter was trained under, unless the user names `prompt` or `routing`."""
    if config.adapter.path is None or named & {"prompt", "routing"}:
        return
    file = Path(config.adapter.path) / PROMPT_FILE
    if (Path(config.adapter.path) / "state.json").is_file():  # a checkpoint of a run
        file = Path(config.adapter.path).parents[1] / "config.json"
    if not file.is_file():
        return
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        known = {f.name for f in fields(PromptConfig)}
        texts = {OLD_KEYS.get(k, k): v for k, v in saved["prompt"].items()}
        config.prompt = PromptConfig(**{k: v for k, v in texts.items() if k in known})
        student = saved["student"] if "student" in saved else saved["routing"]["student"]
        form = student["format"] if isinstance(student, dict) else student
        config.routing.student.format = str(OLD_KEYS.get(form, form))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} is damaged ({error}): set prompt= and routing= yourself") from error


def named_groups() -> frozenset[str]:
    """The groups named on the command line in any form (`prompt=`, `prompt.path=`, `+routing=`)."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return frozenset()
    task = HydraConfig.get().overrides.task
    return frozenset(override.lstrip("+~").split("=")[0].split(".")[0] for override in task)
