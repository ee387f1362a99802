"""Compare `plan=true` with the measured memory of one step on the CPU, for two random models.

python tests/benchmarks/plan.py            # a table: phase, measured and planned memory, seconds
python tests/benchmarks/plan.py 360        # only the sizes whose name contains this text

Memory is resident memory minus that of the process before it loads the weights, which takes the place of the
CUDA context. Seconds are the time of the phase in one step.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = {  # hidden width, MLP, layers, heads, vocabulary; width, depth and heads of the vision tower
    "60 M": (512, 1536, 8, 8, 32_000, 128, 3, 4),
    "360 M": (1024, 2816, 10, 16, 151_936, 768, 12, 12),
}
CASES = {
    "checkpointed": ("trainer.gradient_checkpointing=true",),
    "activations kept": ("trainer.gradient_checkpointing=false",),
    "micro-batch 1": ("trainer.gradient_checkpointing=true", "trainer.micro_batch=1"),
}
PIXELS = 200_704  # of each picture: the generated pictures are scaled up to this size
RUN = (
    "trainer=gpu24",
    "trainer.optimizer=adamw",
    "trainer.batch=8",
    "trainer.micro_batch=4",
    "rollout.batch=8",
    "rollout.max_new_tokens=128",
    "bench.batch=8",
    "bench.max_new_tokens=128",
    f"model.max_pixels={PIXELS}",
)


def save_model(folder: Path, size: tuple[int, ...]) -> None:
    """Random weights in the shape of a Qwen2-VL, with the embedded model's processor."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    from vigos_cli.config.paths import TINY

    hidden, mlp, layers, heads, vocabulary, width, depth, vision_heads = size
    config = AutoConfig.from_pretrained(TINY)
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = hidden, mlp, layers
    text.num_attention_heads, text.num_key_value_heads, text.vocab_size = heads, heads // 4, vocabulary
    text.layer_types = ["full_attention"] * layers
    rotary = hidden // heads // 2
    text.rope_parameters["mrope_section"] = [
        rotary // 4,
        rotary // 8 * 3,
        rotary - rotary // 4 - rotary // 8 * 3,
    ]
    vision = config.vision_config
    vision.hidden_size, vision.embed_dim, vision.depth, vision.num_heads = hidden, width, depth, vision_heads
    vision.mlp_ratio = 4
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    processor = AutoProcessor.from_pretrained(TINY)
    processor.image_processor.size["shortest_edge"] = PIXELS
    processor.save_pretrained(folder)


def measure(overrides: list[str], results: Any) -> None:
    """Put (measured bytes, planned bytes, seconds) of each phase into `results`."""
    import io
    from contextlib import redirect_stdout
    from dataclasses import replace

    import torch

    from vigos_cli.config.compose import job
    from vigos_cli.data.priorworld import PriorWorld
    from vigos_cli.method.prompts import Prompter
    from vigos_cli.models.memory_plan import estimate_memory, shape_of
    from vigos_cli.models.peak_memory import PhasePeaks
    from vigos_cli.models.student_loading import load_student
    from vigos_cli.training.dry_run import dry_run
    from vigos_cli.training.learner import make_learner

    tiny = job("distill", ["out=unused"])
    load_student(tiny.model, tiny.adapter)  # torch and transformers allocate memory when they first run
    before = PhasePeaks(torch.device("cpu"))
    with before.of("before"):
        pass
    config = job("distill", overrides)
    config.model = replace(config.model, device="cpu")
    student = load_student(config.model, config.adapter)
    learner = make_learner(student, config)
    with redirect_stdout(io.StringIO()):
        dry_run(
            learner, PriorWorld(size=8), Prompter(student.processor, config.prompt, config.routing), config
        )
    assert learner.peaks
    base = before.bytes["before"]
    shape = shape_of(config)
    found = estimate_memory(config, shape, context=0)
    # The adapter is loaded with the weights; in the second step a rollout also finds the optimizer's state.
    expected = {"weights": found.weights + 4 * shape.adapter_weights}
    expected["rollout"] = found.weights + found.optimizer + 1.1 * found.rollout
    expected["learn"] = found.weights + found.optimizer + 1.1 * found.learn
    results.put(
        {
            name: (learner.peaks.bytes[name] - base, value, learner.seconds[name])
            for name, value in expected.items()
        }
    )


def main() -> None:
    """Print one line for each size and case."""
    # Without this, glibc keeps freed memory, and the size of the process would depend on earlier work.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    context = multiprocessing.get_context("spawn")
    print("| weights | case | phase | measured GiB | planned GiB | planned / measured | seconds |")
    print("|---|---|---|---|---|---|---|")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as temporary:
        for size, numbers in ((size, numbers) for size, numbers in SIZES.items() if wanted in size):
            folder = Path(temporary) / size.replace(" ", "")
            save_model(folder, numbers)
            for case, overrides in CASES.items():
                results = context.Queue()
                command = [*RUN, f"model.path={folder}", "out=unused", *overrides]
                process = context.Process(target=measure, args=(command, results))
                process.start()
                for phase, (measured, planned, seconds) in results.get(timeout=1800).items():
                    ratio = planned / measured
                    gib = f"{measured / 2**30:.2f} | {planned / 2**30:.2f}"
                    print(f"| {size} | {case} | {phase} | {gib} | {ratio:.2f} | {seconds:.1f} |", flush=True)
                process.join()


if __name__ == "__main__":
    main()
