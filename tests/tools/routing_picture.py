"""Draw docs/routing.svg from conf/routing: which teacher supervises which part of the student's turn.

`nox -s reference` runs it.
"""

from __future__ import annotations

from pathlib import Path

from vigos_cli.config.compose import job
from vigos_cli.reporting.routing_picture import routing_picture

PICTURE = Path(__file__).parents[2] / "docs" / "routing.svg"
TITLES = {
    "vigos": "ViGOS (routing=vigos): one teacher for the picture, another for the reference",
    "opsd_structured": "OPSD, same prompt (routing=opsd_structured): one teacher for everything",
}


def drawing() -> str:
    """The picture of the two routings as SVG."""
    routings = {
        title: job("distill", ["out=unused", f"routing={name}"]).routing for name, title in TITLES.items()
    }
    return routing_picture(routings)


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
