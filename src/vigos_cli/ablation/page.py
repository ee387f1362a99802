"""report.html: one file, no script, nothing fetched; all text is escaped, since models and data wrote some.

render(context, plots)  ->  the page (templates/report.html.j2)
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vigos_cli.reporting.embedded_images import data_uri
from vigos_cli.reporting.html import html_environment


def render(context: Mapping[str, Any], plots: Path) -> str:
    """The page as text; `plots` is the folder of the figures, which are put inside."""
    environment = html_environment()
    environment.filters["picture"] = data_uri

    def figure(name: str) -> str:
        return "data:image/svg+xml;base64," + b64encode((plots / f"{name}.svg").read_bytes()).decode()

    return environment.get_template("report.html.j2").render(**context, figure=figure)
