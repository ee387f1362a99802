"""The GPU checks: one function a check; each puts its figures into the report and raises what is wrong.

    python -m gpu.check_gpu                # in tests/: on the first visible CUDA device, at most ten minutes
    python -m gpu.check_gpu twin           # the same on the CPU with a twin of four layers

Every command runs in a process of its own. A check that fails does not stop those after it.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gpu.gpu_report import GRADIENTS, MACHINE, MEMORY, OTHER, PHASES, SPEED, SPEEDS, TEACHERS, Report
from gpu.session import Checks, figures, need
from gpu.sizes import KILLED_AFTER, SIZES, STEPS, TWIN, Size
from gpu.small_checks import moment_dtypes

from vigos_cli.models.peak_memory import GIB
from vigos_cli.utils.files import read_lines, read_tensors

PLANNED = {"rollout": "rollout", "learn": "learn", "evaluate": "evaluation"}  # phase -> part of the plan
# Five times the largest differences of bfloat16 from float32 on the CPU, over five seeds of the twin: 0.8 %
# of a loss and 1.4 % of the gradient's norm. float16 differed by a tenth of that.
LOSSES, GRADIENT = 0.04, 0.07


def prepare(checks: Checks) -> None:
    """The card, its driver and bitsandbytes answer, and models with random weights are written."""
    size, device = checks.size, checks.size.device
    free = shutil.disk_usage(checks.folder).free / GIB
    need(
        free > size.disk,
        f"{checks.folder} has {free:.1f} GiB free, {size.disk} are needed: set TMPDIR to another folder",
    )
    folders = {key: str(checks.folder / key) for key in {size.key, TWIN.key}}
    found = checks.child(
        ("machine", {"device": device}), ("weights", {"folders": folders, "device": device}), name="prepare"
    )
    facts = figures(found, "machine")
    for name, value in facts.items():
        checks.report.put(MACHINE, name, value=value)
    written = figures(found, "weights")
    checks.report.put(OTHER, "parameters", value=f"{written[size.key]:,}")
    need(
        device == "cpu" or facts["bitsandbytes computes with"] == "CUDA",
        "bitsandbytes has no library for this CUDA: `python -m bitsandbytes` says why",
    )


def dry_run(checks: Checks) -> None:
    """`plan=true` and `trainer.dry_run=true`: two steps of the largest size and one batch of answers."""
    out = f"out={checks.folder / 'dry'}"
    seen = checks.vigos("distill", *checks.recipe, out, "trainer.dry_run=true", name="dry-run")
    plan, phases = seen["plan"], seen["phases"]
    base = plan["weights"] + plan["optimizer"]
    planned = {"weights": plan["weights"] + plan["adapter"]}
    planned |= {phase: base + 1.1 * plan[part] for phase, part in PLANNED.items()}
    rows = {row: (planned.get(phase), phases.get(phase)) for phase, row in PHASES.items()}
    largest = max(phases.values(), default=0)
    rows["largest phase"] = plan["peak"] - plan["context"], largest
    rows["context and libraries"] = plan["context"], seen["context"]
    rows["together"] = plan["peak"], largest + seen["context"]
    for row, (estimate, measured) in rows.items():
        need(measured is not None, f"the dry run has no figure for {row}")
        checks.report.put(
            MEMORY,
            row,
            planned="in the student's" if estimate is None else estimate / GIB,
            dry_run=measured / GIB,
            dry_run_by_planned="-" if not estimate else measured / estimate,
        )
    for phase in SPEEDS:
        need(seen["seconds"].get(phase, 0) > 0, f"the dry run took no time for {phase}")
        checks.report.put(SPEED, phase, seconds_dry_run=seen["seconds"][phase])


def killed_run(checks: Checks) -> None:
    """Two steps of `vigos distill` with all teachers, a checkpoint after each, and a kill."""
    options = {"turns": True, "peaks": True, "kill_after": KILLED_AFTER}
    seen = checks.vigos("distill", *checks.recipe, f"out={checks.run}", name="killed", **options)
    for phase, row in PHASES.items():
        checks.report.put(MEMORY, row, run=seen["phases"][phase] / GIB)
    checks.report.put(MEMORY, "context and libraries", run=seen["context"] / GIB)
    checks.hashes["start of the killed run"] = seen["frozen"]
    lines = checks.metrics()
    need(len(lines) == KILLED_AFTER, f"metrics.jsonl has {len(lines)} steps after the kill")
    last = checks.run / "checkpoints" / f"step-{KILLED_AFTER:06}"
    need(last.is_dir(), f"there is no {last.name} after the kill")
    for line in lines:
        need(line["valid_rate"] == 0.5, f"valid rate {line['valid_rate']}: half of the turns were valid")
        for teacher in TEACHERS:
            need(line.get(f"loss/{teacher}", 0) > 0, f"the loss of the {teacher} teacher is not above 0")
        need(line["grad_norm"] and line["grad_norm"] > 0, f"gradient norm {line['grad_norm']}")
    for phase in SPEEDS:
        first, second = (line[f"seconds/{phase}"] for line in lines)
        rate = lines[-1][f"tokens_per_second/{phase}"]
        checks.report.put(
            SPEED, phase, seconds_first_step=first, seconds_second_step=second, sampled_tokens_a_second=rate
        )
    norms = ", ".join(f"{line['grad_norm']:.4g}" for line in lines)
    checks.report.put(OTHER, "gradient norm", value=norms)
    kinds = moment_dtypes(last)
    checks.report.put(OTHER, "dtypes of the optimizer's moments", value=", ".join(kinds))
    need("uint8" in kinds, f"no moment of the optimizer has 8 bits: {kinds}")
    checks.report.put(OTHER, "dtype of the model", value=seen["dtype"])


def resumed_run(checks: Checks) -> None:
    """The same command with `resume=auto` takes the last step, evaluates and ends."""
    before = checks.metrics()
    seen = checks.vigos(
        "distill", *checks.recipe, f"out={checks.run}", "resume=auto", name="resumed", turns=True
    )
    summary, lines = json.loads((checks.run / "summary.json").read_text()), checks.metrics()
    checks.report.put(MEMORY, "largest phase", run=seen["peak"] / GIB)
    checks.report.put(MEMORY, "together", run=(seen["peak"] + seen["context"]) / GIB)
    losses = ", ".join(f"{line['loss']:.4g}" for line in lines)
    checks.report.put(OTHER, "loss of the three steps", value=losses)
    checks.report.put(OTHER, "4-bit layers", value=summary["quantised_modules"])
    checks.hashes |= {
        "start of the resumed run": summary["frozen_hash"]["start"],
        "end of the resumed run": summary["frozen_hash"]["end"],
    }
    saved = read_tensors(checks.run / "adapter" / "adapter_model.safetensors")
    largest = {name: float(p.abs().max()) for name, p in saved.items() if "lora_B" in name}
    row = "largest weight of the adapter that started at 0"
    checks.report.put(OTHER, row, value=max(largest.values(), default=math.nan))
    need(lines[:KILLED_AFTER] == before, "the lines of the steps before the kill have changed")
    need([line["step"] for line in lines] == list(range(1, STEPS + 1)), f"{len(lines)} steps, not {STEPS}")
    need(lines[-1]["grad_norm"], f"the gradient norm of the last step is {lines[-1]['grad_norm']}")
    need(summary["quantised_modules"] > 0, "no layer has 4-bit weights")
    still = [name for name, value in largest.items() if not (math.isfinite(value) and value > 0)]
    need(largest and not still, f"of {len(largest)} matrices that started at 0, {len(still)} did not change")


def frozen_weights(checks: Checks) -> None:
    """The frozen weights have one hash: at the start of both processes and at the end."""
    need(len(checks.hashes) == 3, f"there are hashes of {', '.join(checks.hashes) or 'no moment'} only")
    found = set(checks.hashes.values())
    checks.report.put(OTHER, "frozen weights, sha256", value=" and ".join(sorted(found)))
    need(len(found) == 1, f"they differ: {checks.hashes}")


def evaluation(checks: Checks) -> None:
    """`vigos eval` with the saved adapter gives the answers that the run gave at its end."""
    out = checks.folder / "eval"
    own = [one for one in checks.recipe if one.startswith(("model", "bench"))]
    checks.vigos("eval", *own, checks.adapter, f"out={out}", name="eval")
    answers, known = (
        {line["sample_id"]: line["text"] for line in read_lines(folder / "responses.jsonl")}
        for folder in (out, checks.run)
    )
    equal = sum(answers[key] == text for key, text in known.items() if key in answers)
    checks.report.put(
        OTHER, "answers of `vigos eval` equal to those of the run", value=f"{equal} of {len(known)}"
    )
    need(known, "the run has no answers")
    need(answers.keys() == known.keys(), f"vigos eval has {len(answers)} answers, the run {len(known)}")
    # On a card the last bits may differ, and an answer of random weights turns at the first near tie.
    need(equal == len(known) or checks.size.device != "cpu", f"{equal} of {len(known)} answers are equal")


def merging(checks: Checks) -> None:
    """`vigos merge` writes a model that equals base and adapter; it checks this itself."""
    out = checks.folder / "merged"
    own = [one for one in checks.recipe if one.startswith("model")]
    checks.vigos("merge", *own, checks.adapter, f"out={out}", name="merge")
    found = json.loads((out / "merge.json").read_text())
    checks.report.put(OTHER, "merge: nats per token, mean", value=f"{found['mean_kl']:.2g}")
    need(found["tokens"] > 0, "no token was compared")
    need((out / "config.json").is_file() and list(out.glob("*.safetensors")), f"{out.name} is not complete")


def optimizer_state(checks: Checks) -> None:
    """The 8-bit optimizer goes on from a checkpoint exactly as without one."""
    found = checks.small_checks
    seen = figures(found, "optimizer")
    name = "optimizer: largest difference after a resume"
    checks.report.put(OTHER, name, value=seen["largest_difference"])
    checks.report.put(OTHER, "paged tensors of the optimizer", value=seen["paged"])
    need(seen["largest_difference"] == 0, f"weights differ by up to {seen['largest_difference']:.2g}")
    need("uint8" in seen["moments"], f"no moment has 8 bits: {seen['moments']}")
    need(seen["paged"] or checks.size.device == "cpu", "no tensor of the optimizer is paged")


def gradients(checks: Checks) -> None:
    """Loss and gradient of one step of the twin equal those in float32 on the CPU, up to rounding."""
    seen = figures(checks.small_checks, "gradients")
    for teacher in TEACHERS:
        here, there = (seen[side]["loss"][teacher] for side in ("here", "cpu"))
        differs = abs(here / there - 1)
        checks.report.put(
            GRADIENTS, teacher, here=here, float32_on_the_CPU=there, relative_difference=differs
        )
    here, there = seen["here"]["norm"], seen["cpu"]["norm"]
    row = "gradient, its norm"
    checks.report.put(
        GRADIENTS, row, here=here, float32_on_the_CPU=there, relative_difference=seen["difference"]
    )
    checks.report.put(OTHER, "gradient: cosine with that of the CPU", value=f"{seen['cosine']:.6f}")
    checks.report.put(OTHER, "dtype of the twin", value=seen["here"]["dtype"])
    need(
        seen["losses"] < LOSSES, f"a loss differs by {seen['losses']:.1%}, at most {LOSSES:.0%} are rounding"
    )
    need(
        seen["difference"] < GRADIENT,
        f"the gradient differs by {seen['difference']:.1%} of its norm, at most {GRADIENT:.0%} are rounding",
    )


CHECKS: dict[str, Callable[[Checks], None]] = {
    "machine and random weights": prepare,
    "plan and dry run": dry_run,
    "two steps, checkpoint, kill": killed_run,
    "resume": resumed_run,
    "frozen weights": frozen_weights,
    "eval": evaluation,
    "merge": merging,
    "state of the 8-bit optimizer": optimizer_state,
    "loss and gradient": gradients,
}


def run_checks(size: Size, report: Path, folder: Path | None = None) -> Report:
    """Run all checks, write the report after each, and remove the folder of models and runs at the end."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vigos-gpu-", dir=folder) as temporary:
        checks = Checks(size, Path(temporary), report)
        for name, function in CHECKS.items():
            with checks.check(name):
                function(checks)
        checks.report.put(OTHER, "seconds in all", value=f"{time.monotonic() - began:.0f}")
        report.write_text(checks.report.markdown(), encoding="utf-8")
    return checks.report


def main() -> None:
    """Run the checks of the size that the command line names; the exit code is the number of failed ones."""
    size = SIZES[sys.argv[1] if len(sys.argv) > 1 else "true"]
    found = run_checks(size, Path("gpu-report.md"))
    print(f"{Path('gpu-report.md').absolute()}: {len(found.failed)} of {len(found.outcomes)} checks failed")
    sys.exit(len(found.failed))


if __name__ == "__main__":
    main()
