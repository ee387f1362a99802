"""Rows like those of the benchmarks' data sets: the same columns and types, and their difficult cases.

The texts are our own. Pictures are 32 pixels wide, each in a different colour, so that tests see their order.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from vigos_cli.config.paths import config_dir
from vigos_cli.config.schema import BenchTask

Row = dict[str, Any]


def task_of(name: str, **keys: Any) -> BenchTask:
    """The task of `bench=NAME` with these keys changed."""
    option = "mmmu_pro_standard" if name == "mmmu_pro" else name  # the option mmmu_pro has both parts
    file = config_dir() / "bench" / f"{option}.yaml"
    return BenchTask(**{**yaml.safe_load(file.read_text())["tasks"][name], **keys})


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


def stored(colour: str) -> bytes:
    file = io.BytesIO()
    picture(colour).save(file, "PNG")
    return file.getvalue()


def cell(colour: str) -> Row:
    """A picture as stored in a parquet row."""
    return {"bytes": stored(colour), "path": None}


def colour_of(image: Image.Image) -> tuple[int, ...]:
    pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return tuple(int(value) for value in pixel)


RED, GREEN, BLUE = (colour_of(picture(name)) for name in ("red", "green", "blue"))


# ---------------------------------------------------------------- mathvista


def mathvista(
    pid: str, question_type: str = "multi_choice", answer_type: str = "text", **columns: Any
) -> Row:
    return {
        "pid": pid,
        "question": "Which colour is least saturated?",
        "image": f"images/{pid}.jpg",
        "decoded_image": cell("red"),
        "choices": None,
        "unit": None,
        "precision": None,
        "answer": "",
        "question_type": question_type,
        "answer_type": answer_type,
        "metadata": {
            "split": "testmini",
            "language": "english",
            "source": "SciBench",
            "category": "general-vqa",
            "task": "textbook question answering",
            "context": "scientific figure",
            "grade": "college",
            "skills": ["scientific reasoning", "arithmetic reasoning"],
            "img_height": 32,
            "img_width": 32,
        },
        "query": "Hint: ...",
        **columns,
    }


MATHVISTA = [
    mathvista("168", choices=["(c)", "(a)", "(e)", "(d)", "(b)"], answer="(b)"),
    mathvista("740", choices=["15", "100", "50", "50"], answer="50"),
    mathvista("2", choices=["145°", "125°", "35°"], answer="125°"),
    mathvista("1", "free_form", "float", precision=1.0, unit="g", answer="1.2"),
    mathvista("7", "free_form", "integer", answer="3000"),
    mathvista("506", "free_form", "list", answer="[2014, 2016]"),
]


# ---------------------------------------------------------------- mmmu


def mmmu(name: str, question: str, options: str, answer: Any, *pictures: str | None, **columns: Any) -> Row:
    cells = [cell(colour) if colour else None for colour in pictures] + [None] * (7 - len(pictures))
    return {
        "id": name,
        "question": question,
        "options": options,
        "explanation": "",
        **{f"image_{i}": image for i, image in enumerate(cells, 1)},
        "img_type": "['Tables']",
        "answer": answer,
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice" if options != "[]" else "open",
        "subfield": "Managerial Accounting",
        **columns,
    }


MMMU = [
    mmmu("validation_Accounting_1", "<image 1> What is the cost?", "['$6', '$7', \"it's $8\"]", "B", "red"),
    mmmu(
        "validation_Art_Theory_2",
        "Compare <image 2> with <image 1>, and <image 2> again.",
        "['<image 3>', 'neither']",
        "A",
        "red",
        "green",
        "blue",
    ),
    mmmu("validation_Math_3", "<image 1> Name the limit.", "[]", "['1.06', '1.0600']", "red"),
    mmmu("validation_Biology_4", "Which in <image 1>?", str([f"part {c}" for c in "abcdefghi"]), "I", "red"),
    mmmu("validation_Music_5", "<image 1> Broken?", "['a', __import__('os').getcwd()]", "A", "red"),
    mmmu("validation_Music_6", "<image 1> Which?", "['do', 're']", "C", "red"),
]
MMMU_PRO = [
    mmmu("test_History_1", "<image 1> Only one?", "['this']", "A", "red", subject="History"),
    mmmu(
        "test_Art_2",
        "<image 2>, then <image 1>?",
        str(list("lkjihgfedcba")),
        "L",
        "red",
        "green",
        subject="Art",
    ),
]
MMMU_PRO_VISION = [
    {
        "id": "test_History_1",
        "options": "['red', 'blue']",
        "image": cell("red"),
        "answer": "B",
        "subject": "History",
    },
]


# ---------------------------------------------------------------- mathverse


def mathverse(index: int, problem: int, version: str, question: str, answer: str, **columns: Any) -> Row:
    multiple = "Choices:" in columns.get("question_for_eval", question)
    return {
        "sample_index": str(index),
        "problem_index": str(problem),
        "problem_version": version,
        "question": question,
        "image": cell("red"),
        "answer": answer,
        "question_type": "multi-choice" if multiple else "free-form",
        "metadata": {
            "split": "testmini",
            "source": "GeoQA",
            "subject": "Plane Geometry",
            "subfield": "Angle",
        },
        "query_wo": "Please directly answer ...",
        "query_cot": "Please first conduct reasoning ...",
        "question_for_eval": question,
        **columns,
    }


ANGLE = "As shown, angle 2 is equal to ()\nChoices:\nA:50°\nB:60°\nC:65°\nD:90°"
MATHVERSE = [
    mathverse(6, 2, "Text Dominant", "AB parallel CD, EG bisects BEF. " + ANGLE, "C"),
    mathverse(7, 2, "Text Lite", ANGLE, "(C)"),
    mathverse(8, 2, "Vision Intensive", ANGLE, "C"),
    mathverse(9, 2, "Vision Dominant", ANGLE, "C"),
    mathverse(10, 2, "Vision Only", "", "C", question_for_eval=ANGLE),
    mathverse(11, 3, "Text Dominant", ANGLE, "C\nD"),
    mathverse(16, 4, "Text Lite", "Find the parabola's equation.", "y = x^2 + 1"),
    mathverse(21, 5, "Text Lite", "When does it rise?", "between 2 and 4 seconds"),
]
MATHVERSE_TEXT_ONLY = [mathverse(1, 2, "Text Only", ANGLE, "C", image=None)]


# ---------------------------------------------------------------- mmvet, mmsi, realworldqa, cvbench


def mmvet(index: int, answer: str, capability: Any) -> Row:
    return {
        "question_id": f"v1_{index}",
        "image": cell("red"),
        "question": "What is x in the equation?",
        "answer": answer,
        "image_source": "web",
        "capability": capability,
    }


MMVET = [
    mmvet(0, "-1<AND>-5", "ocr,math"),
    mmvet(1, "Alan Turing<OR>Turing", ["know", "rec"]),
    mmvet(2, "2", "ocr"),
]


def mmsi(index: int, answer: str, kind: str = "Positional Relationship (Cam.–Cam.)", **columns: Any) -> Row:
    return {
        "id": index,
        "images": [stored("red"), stored("green"), stored("blue")],
        "question_type": kind,
        "question": "The first picture faces north. Where was the second taken?\n"
        "Options: A: To the north, or nearly so, B: Southwest, C: Northwest, D: Southeast",
        "answer": answer,
        "thought": "The second picture ...",
        "mean_normed_duration_seconds": 1.0,
        "difficulty": "easy",
        **columns,
    }


MMSI = [mmsi(0, "B"), mmsi(1, "A", "Motion (Cam.)"), mmsi(2, "D", "Positional Relationship (Cam.-Cam.)")]
LETTER = "Please answer directly with only the letter of the correct option and nothing else."
REALWORLDQA = [
    {
        "image": cell("red"),
        "question": f"Which way?\n\nA. Left\nB. Straight\nC. Right\n{LETTER}",
        "answer": "C",
    },
    {
        "image": cell("green"),
        "question": "How many lights? Please answer directly with a single word or number.",
        "answer": "2",
    },
    {
        "image": cell("blue"),
        "question": "Is there a stop sign? Please answer with a single word.",
        "answer": "Yes.",
    },
]


def cvbench(index: int, source: str, answer: str, choices: list[str]) -> Row:
    listing = " ".join(f"({chr(65 + i)}) {choice}" for i, choice in enumerate(choices))
    return {
        "idx": index,
        "type": "3D" if source == "Omni3D" else "2D",
        "task": "Depth" if source == "Omni3D" else "Count",
        "image": cell("red"),
        "question": "How many chairs are in the image?",
        "choices": choices,
        "answer": answer,
        "prompt": f"How many chairs? Select from the following choices.\n{listing}",
        "filename": f"img/2D/count/{index}.png",
        "source": source,
        "source_dataset": f"{source} Dataset",
        "source_filename": f"{index}.jpg",
        "target_class": None,
        "target_size": None,
        "bbox": None,
    }


CVBENCH = [
    cvbench(0, "ADE20K", "(C)", ["2", "3", "1", "0"]),
    cvbench(1, "COCO", "(A)", ["2", "3"]),
    cvbench(2, "Omni3D", "(B)", ["table", "door"]),
]


# ---------------------------------------------------------------- vilp, vlind, hallusion


def vilp(question: str, *answers: str) -> Row:
    images = {f"image{i}": stored(name) for i, name in enumerate(("red", "green", "blue"), 1)}
    return {"question": question, **images, **{f"answer{i}": answer for i, answer in enumerate(answers, 1)}}


VILP = [
    vilp(
        "Fish live in 3.5 metres of water. From the image, where is the fish?", "water", "tree", "Two leaves"
    ),
    vilp("How many legs does the dog have?", "four", "six", "2"),
]


def vlind(index: int, votes: dict[str, int], best: int = 0, concept: str = "habitat") -> Row:
    return {
        "context_id": index,
        "context": "Polar bears in the desert",
        "factual_context": "Polar bears on the ice",
        "concept": concept,
        "true_statement": "Polar bears live in the desert.",
        "false_statement": "Polar bears live on the ice.",
        "existent_noun": "polar bear",
        "non-existent_noun": "snow",
        "best_img_id": best,
        "aggregated_human_label_good_images": votes,
    }


VLIND = [vlind(0, {"0": 3, "1": 1, "4": 2}), vlind(1, {"0": 1, "1": 0}), vlind(2, {"2": 2}, best=2)]


def write_vlind(folder: Path) -> Path:
    """Write the folder of the data set: data.json, and a picture for every question."""
    (folder / "VLind-Bench Dataset").mkdir(parents=True)
    root = folder / "VLind-Bench Dataset"
    (root / "data.json").write_text(json.dumps(VLIND))
    for row in VLIND:
        for kind, context, names in (
            ("factual", row["factual_context"], ["0"]),
            ("counterfactual", row["context"], list(row["aggregated_human_label_good_images"])),
        ):
            place = root / "images" / kind / row["concept"] / f"{row['context_id']}_{context}"
            place.mkdir(parents=True)
            for name in names:
                picture("red" if kind == "factual" else "green").save(place / f"{name}.jpg", quality=95)
    return folder


def hallusion(category: str, subcategory: str, number: str, figure: str, question: str, gold: str) -> Row:
    none = category == "VS" and figure == "0"
    return {
        "category": category,
        "subcategory": subcategory,
        "visual_input": "0" if none else "1" if figure in ("0", "1") else "2",
        "set_id": number,
        "figure_id": figure,
        "sample_note": "",
        "question_id": question,
        "question": "Is the left circle larger?",
        "gt_answer_details": "They are equal.",
        "gt_answer": gold,
        "filename": None if none else f"./{category}/{subcategory}/{number}_{figure}.png",
        "image": None if none else cell("red"),
    }


HALLUSION = [
    hallusion("VD", "figure", "0", "0", "0", "0"),
    hallusion("VD", "figure", "0", "0", "1", "1"),
    hallusion("VD", "figure", "0", "1", "0", "1"),
    hallusion("VD", "figure", "0", "1", "1", "0"),
    hallusion("VS", "chart", "0", "0", "0", "1"),
    hallusion("VS", "chart", "0", "1", "0", "1"),
    hallusion("VS", "chart", "0", "1", "1", "0"),
]


# ---------------------------------------------------------------- mathvision, plain


def mathvision(name: str, question: str, options: list[str], answer: str) -> Row:
    return {
        "id": name,
        "question": question,
        "options": options,
        "image": f"images/{name}.jpg",
        "decoded_image": cell("red"),
        "answer": answer,
        "solution": None,
        "level": 2,
        "subject": "counting",
    }


MATHVISION = [
    mathvision("4", "<image1>\nWhich piece fits <image1>?", ["A", "B", "C", "D", "E"], "C"),
    mathvision("5", "How long is the side in <image1>?", ["$\\frac{1}{2}$", "1", "2"], "A"),
    mathvision("6", "How many cubes?\n<image1>", [], "12"),
]
PLAIN = [
    {"problem": "<image><image>How many?", "answer": "4", "images": [cell("red"), cell("green")]},
    {"problem": "Name it. <image>", "answer": ["car", "automobile"], "image": picture("red"), "id": "q1"},
    {"problem": "Which?", "answer": "B", "image": stored("blue"), "id": "q2", "choices": ["red", "blue"]},
    {"problem": "Which?\n(A) red\n(B) blue", "answer": "B", "image": stored("blue"), "id": "q3"},
]
PLAIN_TEXT = [{"problem": "2 + 2?", "answer": 4, "id": "q4"}]

ROWS = {
    "mathvista": MATHVISTA,
    "mmmu": MMMU,
    "mmmu_pro": MMMU_PRO,
    "mmmu_pro_vision": MMMU_PRO_VISION,
    "mathverse": MATHVERSE,
    "mathverse_text_only": MATHVERSE_TEXT_ONLY,
    "mmvet": MMVET,
    "mmsi": MMSI,
    "realworldqa": REALWORLDQA,
    "cvbench": CVBENCH,
    "vilp_f": VILP,
    "vilp_p": VILP,
    "hallusion": HALLUSION,
    "mathvision": MATHVISION,
    "plain": PLAIN,
}  # the rows of each benchmark by its name
