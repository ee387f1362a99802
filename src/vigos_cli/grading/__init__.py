r"""Find the answer in a response and grade it; nothing here imports torch.

>>> extract(r"There are four. \boxed{4}")
'4'
>>> grade("12 cm", "The length is 120 mm.").verdict
'right'
>>> grade("(B)", "The answer is **B**.", choices=("red", "blue")).verdict
'right'
"""

from vigos_cli.grading.extract import extract
from vigos_cli.grading.grade import grade
from vigos_cli.grading.official import official_mathvista, official_mmmu

__all__ = ["extract", "grade", "official_mathvista", "official_mmmu"]
