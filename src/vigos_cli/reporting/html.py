"""The Jinja environment of the HTML pages; their templates are in `templates/`."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.utils.control_characters import KEPT, visible

if TYPE_CHECKING:
    from jinja2 import Environment


def html_environment() -> Environment:
    """A new environment in which every value is escaped and an undefined name is an error.

    Invisible characters of a text, and those that change the direction of what follows, become their numbers.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """A value as a page shows it; markup, which is escaped already, and numbers stay as they are."""
    return visible(value, keep=KEPT) if type(value) is str else value


def page_environment() -> Environment:
    """An environment for pages whose texts are in a JSON island, and that name their script by its digest."""
    environment = html_environment()
    # `tojson` escapes what could end the island. The rest is ASCII, so lone surrogates are valid as well.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["digest"] = lambda text: b64encode(sha256(str(text).encode()).digest()).decode()
    return environment
