"""Print how each benchmark asks two rows, to check prompts by eye.

    PYTHONPATH=tests python tests/tools/benchmark_prompts.py            # all benchmarks
    PYTHONPATH=tests python tests/tools/benchmark_prompts.py mmmu vilp_p

The rows have the columns of the data sets and their difficult forms. Their texts are our own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import bench_fixtures as data
from bench_fixtures import Row, cell

from vigos_cli.evaluation import registry
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.types import Sample

LETTER = "Please answer directly with only the letter of the correct option and nothing else."
SPRING = (
    "A block of mass $m=0.40 \\mathrm{~kg}$ compresses a spring. By what distance is the spring compressed?"
)
CIRCLE = "As shown in the figure, AB is a diameter of circle O and angle ACD = 25.0. Then angle BAD is ()"
VILP = "A cup is usually made of glass. From the image, what is the cup made of?"

ROWS: dict[str, list[Row]] = {
    "mathvista": [
        data.mathvista("1", "free_form", "float", question=SPRING, precision=1.0, unit="m", answer="0.1"),
        data.mathvista(
            "740", question="Find $m\\angle H$", choices=["15°", "50°", "100°", "50°"], answer="50°"
        ),
    ],
    "mmmu": [
        data.mmmu(
            "validation_Art_Theory_8", "<image 1> is a symbol of", "['war', 'peace', 'trade']", "B", "red"
        ),
        data.mmmu(
            "validation_Biology_14",
            "In which of these does <image 3> stand behind <image 1>?",
            "['<image 3>', '<image 4>', 'Neither <image 3> nor <image 4>']",
            "A",
            *("red", None, "blue", "green"),
        ),
    ],
    "mmmu_pro": [
        data.mmmu(
            "test_Chemistry_12", "Which part of <image 1> is the anode?", str(list("ECDAB")), "A", "red",
            subject="Chemistry",
        ),
        data.mmmu(
            "test_Music_3", "<image 1><image 2>", "['A fifth', 'A third']", "B", "red", "blue",
            subject="Music",
        ),
    ],
    "mmmu_pro_vision": [data.MMMU_PRO_VISION[0], {**data.MMMU_PRO_VISION[0], "id": "validation_History_2"}],
    "mathverse": [
        data.mathverse(1, 1, "Text Dominant", f"{CIRCLE}\nChoices:\nA:60°\nB:65°\nC:70°\nD:75°", "B"),
        data.mathverse(5, 1, "Vision Only", "", "y = 2x", question_for_eval="Find the line's equation."),
    ],
    "mathverse_text_only": [
        data.mathverse(1, 1, "Text_Only", f"{CIRCLE}\nChoices:\nA:60°\nB:65°\nC:70°\nD:75°", "B", image=None),
        data.mathverse(2, 2, "Text_Only", "Find the area of a circle of radius 3.", "9\\pi", image=None),
    ],
    "mmvet": [data.MMVET[0], data.MMVET[1]],
    "mmsi": [
        data.mmsi(0, "B"),
        data.mmsi(1, "C", "Motion (Cam.)", question="<image>\n<image>\nHow did the camera of <image> move?\n"
                  "Options: A: Up, B: Down, C: Left, D: Right"),
    ],
    "realworldqa": [
        {
            "image": cell("red"),
            "question": f"Which slope are we facing?\n\nA. Uphill\nB. Downhill\nC. Flat\n{LETTER}",
            "answer": "Uphill",
        },
        {
            "image": cell("red"),
            "question": f"Who may use this lane?\n\nA. All vehicles\nB Only cars\nC. Nobody\n{LETTER}",
            "answer": "B",
        },
    ],
    "cvbench": [data.CVBENCH[0], data.CVBENCH[2]],
    "vilp_f": [data.vilp(VILP, "glass", "paper", "wood")],
    "vilp_p": [data.vilp(VILP, "glass", "paper", "wood")],
    "vlind": [data.VLIND[2]],
    "hallusion": [data.HALLUSION[4], data.HALLUSION[5]],
    "mathvision": [
        data.mathvision(
            "8", "Which piece completes the square?\n<image1>", [f"<image{i}>" for i in range(2, 7)], "D"
        ),
        data.mathvision("9", "How large is the angle in <image1>, in degrees?", [], "69{degrees}"),
    ],
    "easyvqa": [
        {"question": "what is the red shape?", "answer": "triangle", "image": cell("red"), "image_id": 0},
        {"question": "is there not a black shape?", "answer": "yes", "image": cell("red"), "image_id": 0},
    ],
    "plain": [data.PLAIN[2], data.PLAIN[3]],
}  # fmt: skip


def shown(name: str, sample: Sample) -> str:
    """The prompt of an item below its id, its pictures (sizes and first pixel) and its gold answers."""
    bench = registry.get(name)
    colours = ", ".join(str(data.colour_of(image)) for image in sample.images) or "none"
    golds = " or ".join(bench.golds(sample)) or "none"
    return f"== {name} {sample.id} | pictures: {colours} | gold: {golds}\n{bench.prompt(sample)}\n"


def first_two(name: str) -> list[Sample]:
    """The items of the rows above, at most the first two. Raises AssertionError if a row is left out."""
    with tempfile.TemporaryDirectory() as folder:
        reader = RowReader(data.write_vlind(Path(folder)) / "VLind-Bench Dataset")
        items = list(registry.get(name).samples(ROWS[name], reader))
        assert not reader.left_out, (name, reader.left_out)
        return items[:2]


def main(names: list[str] | None = None) -> None:
    """Print the prompts of these benchmarks, or of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *ROWS], help="benchmarks; none means all")
    for name in parser.parse_args(names).names or ROWS:
        for sample in first_two(name):
            print(shown(name, sample))


if __name__ == "__main__":
    main()
