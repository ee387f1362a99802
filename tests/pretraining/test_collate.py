"""Each learned part of a training text weighs the same in the loss, and what is given weighs nothing."""

import pytest
import torch
from conftest import make_student

from vigos_cli.pretraining.collate import Collator
from vigos_cli.pretraining.documents import Document
from vigos_cli.pretraining.language_phase import summed_loss

SHORT = ((" hat is", False), (" top left.", True))
LONG = (
    ("<description>", False),
    (" hat: red plain top left. </description> <think>", True),
    (" The hat is red. </think> \\boxed{red}", True),
)


@pytest.fixture(scope="module")
def model():
    return make_student().base.eval()


@pytest.fixture(scope="module")
def collator(model):
    return Collator(make_student().processor.tokenizer, model)


def test_the_learned_parts_weigh_the_same_and_the_mean_weight_is_one(collator):
    documents = [Document(0, "", SHORT), Document(0, "", LONG), Document(0, "", LONG, ends=False)]
    batch = collator.batch(documents)
    weights, learned = batch["weights"], batch["weights"] > 0
    assert weights[learned].mean().item() == pytest.approx(1)
    for row, document in enumerate(documents):
        at = 0
        tokens, shares = batch["ids"][row][learned[row]], weights[row][learned[row]]
        for number, (part, is_learned) in enumerate(document.answer, 1):
            if not is_learned:
                continue
            wanted = collator.encode(part)
            if number == len(document.answer) and document.ends:
                wanted = [*wanted, collator.stop]
            assert tokens[at : at + len(wanted)].tolist() == wanted
            assert shares[at : at + len(wanted)].sum().item() == pytest.approx(learned.sum().item() / 5)
            at += len(wanted)
        assert at == len(tokens)


def test_the_loss_is_the_mean_over_parts_of_their_mean_cross_entropies(collator, model):
    batch = collator.batch([Document(0, "", SHORT), Document(0, "", LONG)])
    looks = torch.randn(
        1, 9, model.config.text_config.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        whole = summed_loss(model, looks, batch) / batch["weights"].count_nonzero()
        parts = []
        for answer in (SHORT, LONG[:2], LONG):
            alone = collator.batch([Document(0, "", answer, ends=answer != LONG[:2])])
            last = torch.tensor(len(collator.encode(answer[-1][0])) + (answer != LONG[:2]))
            keep = torch.zeros_like(alone["weights"])
            keep[0, alone["ids"].shape[1] - last :] = 1 / last
            parts.append(summed_loss(model, looks, alone | {"weights": keep}))
    assert whole.item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-5)
