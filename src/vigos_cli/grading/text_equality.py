"""Compare two texts without regard to case, extra blanks and a final full stop."""

from __future__ import annotations


def normal_text(text: str) -> str:
    """The form in which two answers are compared."""
    return " ".join(text.casefold().split()).rstrip(". ")


def same_text(answer: str, reference: str) -> bool:
    """Whether two answers are the same text in this form; an empty answer is never right."""
    return normal_text(answer) != "" and normal_text(answer) == normal_text(reference)
