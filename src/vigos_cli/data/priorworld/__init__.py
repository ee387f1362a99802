"""PriorWorld: drawn pictures of things that have a usual look, and questions about them.

A picture is a grid of 3 x 3 cells with two to four things, all of different kinds. Every kind has a usual
colour and a usual pattern (bananas are yellow and plain). A sample *agrees* with the prior when the asked
thing looks as usual, and *conflicts* with it otherwise: then the answer must be read off the picture.

    >>> world = PriorWorld(split="train", size=1000, seed=0, conflict=0.5)
    >>> sample = world[7]                       # drawn on demand from the seed and the index
    >>> sample.question, sample.answer, sample.prior
    ('Bananas are usually yellow. What colour is the banana?', 'yellow', Prior(usual='yellow', ...))

    looks -> scene -> picture
                   -> captions, questions -> dataset

PriorWorld is a constructed test bed. It shows what a method does, but not how large an effect is on real
models. The generator is frozen: the shipped model was trained on exactly these texts and pictures.
"""

from vigos_cli.data.priorworld.captions import asked_attribute_is_true, is_caption
from vigos_cli.data.priorworld.dataset import PriorWorld, question_rows
from vigos_cli.data.priorworld.questions import vocabulary

__all__ = ["PriorWorld", "asked_attribute_is_true", "is_caption", "question_rows", "vocabulary"]
