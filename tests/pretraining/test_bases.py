"""The cards of the bases say what they must, and the table in bases/README.md is made from them."""

import copy
import hashlib
import json
from pathlib import Path

import pytest

from vigos_cli.config.paths import TINY
from vigos_cli.pretraining.card import WANTED, bases_table, unmet

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "bases").glob("seed*/card.json"))
CARD = json.loads((TINY / "card.json").read_text())


def test_the_table_is_made_from_the_cards_of_all_seeds():
    text = (ROOT / "bases" / "README.md").read_text()
    shown = text.split("<!-- bases -->\n")[1].split("\n<!-- /bases -->")[0]
    cards = sorted(
        [TINY, *FOLDERS], key=lambda folder: json.loads((folder / "card.json").read_text())["seed"]
    )
    assert shown == bases_table(cards)


def test_the_shipped_base_is_the_lowest_seed_that_meets_all_that_is_wanted():
    assert unmet(CARD["modes"]) == []
    for folder in FOLDERS:
        card = json.loads((folder / "card.json").read_text())
        assert card["seed"] > CARD["seed"] or unmet(card["modes"])


def test_the_shipped_weights_are_those_of_their_card():
    assert hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest() == CARD["sha256"]


@pytest.mark.parametrize("wanted", WANTED)
def test_each_missed_share_is_named(wanted):
    mode, column = wanted
    relation, bound = WANTED[wanted]
    modes = copy.deepcopy(CARD["modes"])
    modes[mode]["sampled"][column]["mean"] = bound - 0.01 if relation == "at least" else bound + 0.01
    assert [line.startswith(f"{mode}, {column}, sampled:") for line in unmet(modes)] == [True]
    modes[mode]["sampled"][column]["mean"] = bound
    assert unmet(modes) == []
