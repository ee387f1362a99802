"""Whether two texts are equal without case, surrounding blanks and a final stop."""

from __future__ import annotations


def normal_text(text: str) -> str:
    """The form in which two answers are compared."""
    return " ".join(text.casefold().split()).rstrip(". ")


def same_text(answer: str, reference: str) -> bool:
    """Whether two answers say the same; an empty one is never right."""
    return normal_text(answer) != "" and normal_text(answer) == normal_text(reference)
