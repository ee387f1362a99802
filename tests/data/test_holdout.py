"""Rows that are held back: no picture on both sides, the same rows for the same data, at most a fifth."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.holdout import choose_holdout, grouped, read_holdout
from vigos_cli.data.load import TableData, load_data
from vigos_cli.utils.errors import ConfigError


def picture(folder: Path, number: int) -> str:
    name = f"{number}.png"
    if not (folder / name).exists():
        values = np.random.default_rng(number).integers(0, 256, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / name)
    return name


def table(folder: Path, rows: list[list[int]], **also: str) -> TableData:
    """A row for each list of picture numbers."""
    folder.mkdir(exist_ok=True)
    lines = [
        {
            "question": f"What is {i}?",
            "answer": "red",
            "images": [picture(folder, n) for n in numbers],
            **also,
        }
        for i, numbers in enumerate(rows)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = load_data(DataConfig(name="jsonl", path=str(folder / "rows.jsonl")), 0)
    assert isinstance(data, TableData)
    return data


def test_indices_with_a_common_key_are_one_group_however_long_the_chain():
    assert grouped([["c", "d"], ["a"], [], ["d", "e"], ["e", "b"], ["a"]]) == {"a": [1, 5], "b": [0, 3, 4]}


@pytest.mark.parametrize("seed", range(20))
def test_every_two_indices_with_a_common_key_are_in_one_group(seed):
    chance = random.Random(seed)
    keys = [[str(chance.randrange(15)) for _ in range(chance.randrange(4))] for _ in range(20)]
    groups = grouped(keys)
    place = {index: name for name, members in groups.items() for index in members}
    assert list(groups) == sorted(groups) and place.keys() == {i for i, own in enumerate(keys) if own}
    for i in place:
        assert groups[place[i]] == sorted(groups[place[i]])
        for j in place:
            if set(keys[i]) & set(keys[j]):
                assert place[i] == place[j]
    for name, members in groups.items():
        assert name == min(key for index in members for key in keys[index])


@pytest.mark.parametrize("seed", range(5))
def test_no_picture_is_on_both_sides_and_at_most_a_fifth_is_held_back(tmp_path, seed):
    chance = random.Random(seed)
    rows = [[chance.randrange(60) for _ in range(chance.choice((1, 1, 1, 2)))] for _ in range(50)]
    held = choose_holdout(table(tmp_path, rows), 200)
    assert 0 < len(held.rows) == len(held.left_out) <= 10
    inside = {n for row in held.left_out for n in rows[row]}
    outside = {n for row in set(range(50)) - set(held.left_out) for n in rows[row]}
    assert not inside & outside
    assert len(choose_holdout(table(tmp_path, rows), 3).left_out) <= 3


def test_the_choice_follows_the_content_and_not_the_place_or_the_name(tmp_path):
    one = choose_holdout(table(tmp_path / "a", [[n] for n in range(30)]), 4)
    shuffled = list(range(30))
    random.Random(1).shuffle(shuffled)
    for n in range(30):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / f"{n + 100}.png").write_bytes((tmp_path / "a" / f"{n}.png").read_bytes())
    two = choose_holdout(table(tmp_path / "b", [[n + 100] for n in shuffled]), 4)
    assert [row.keys for row in one.rows] == [row.keys for row in two.rows]
    assert [row.row for row in one.rows] == [shuffled[row.row] for row in two.rows]
    more = choose_holdout(one.data, 6)
    assert more.rows[:4] == one.rows, "more rows begin with the same ones"


def test_a_group_that_is_too_large_is_passed_over(tmp_path):
    held = choose_holdout(table(tmp_path, [[0]] * 20 + [[n] for n in range(1, 11)]), 200)
    assert len(held.rows) == 6 and all(row.row >= 20 for row in held.rows)
    with pytest.raises(ConfigError, match="none of the 20 rows can be held back"):
        choose_holdout(table(tmp_path, [[0]] * 20), 200)
    with pytest.raises(ConfigError, match="none of the 4 rows"):
        choose_holdout(table(tmp_path, [[n] for n in range(4)]), 200)


def test_an_unusable_row_is_not_asked_but_leaves_with_its_picture(tmp_path):
    data = table(tmp_path, [[n // 2] for n in range(40)])
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for line in lines[::2]:
        line["answer"] = ""
    for line in lines[:4]:
        line["images"] = ["missing.png"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.jsonl")), 0)
    assert isinstance(data, TableData)
    held = choose_holdout(data, 200)
    assert len(held.left_out) == 8 and len(held.rows) == 4
    assert min(held.left_out) >= 4, "a row whose picture cannot be read is not held back"
    assert {row.row for row in held.rows} == {row for row in held.left_out if row % 2}


def test_rows_without_pictures_count_by_their_question_if_they_are_used(tmp_path):
    rows = [{"question": f"What is {i // 2}?", "answer": "4", "images": []} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.jsonl"), text_only="keep"), 0)
    assert isinstance(data, TableData)
    held = choose_holdout(data, 200, text_only=True)
    assert len(held.rows) == 8
    assert all(row.row ^ 1 in held.left_out for row in held.rows), "equal questions stay together"
    with pytest.raises(ConfigError, match="none of the 40 rows"):
        choose_holdout(data, 200)
    for row in rows[:8]:
        row["images"] = [picture(tmp_path, rows.index(row))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.jsonl")), 0)
    assert isinstance(data, TableData)
    held = choose_holdout(data, 200)
    assert held.left_out == tuple(range(8)), "rows that are not used take no place"


def test_items_have_unique_ids_a_cluster_and_survive_the_file(tmp_path):
    data = table(tmp_path, [[n // 2] for n in range(40)], id="same")
    held = choose_holdout(data, 200)
    samples = list(held.samples())
    assert len({sample.id for sample in samples}) == 8 and samples[0].id == f"same (row {held.rows[0].row})"
    assert [len({s.group for s in samples}), len(samples[0].images)] == [4, 1]
    assert next(held.samples(images=False)).images == ()
    again = read_holdout(data, json.loads(json.dumps(held.content())))
    assert again == held
