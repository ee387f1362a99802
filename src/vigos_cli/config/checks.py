"""Checks of configuration values; each raises a ConfigError that names the key."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from vigos_cli.config.choices import CHOICES
from vigos_cli.utils.errors import ConfigError, nearest


def check_choice(key: str, value: str) -> None:
    """Check for one of the key's values; the error names the most similar one."""
    if value not in CHOICES[key]:
        raise ConfigError(
            f"{key}={value}: {nearest(value, CHOICES[key])}choose one of {', '.join(CHOICES[key])}"
        )


def check_at_least(low: float, **values: float | None) -> None:
    """Check that no number is below `low`; `__` in a name stands for the dot of its key."""
    for name, value in values.items():
        if value is not None and value < low:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must be at least {low:g}")


def check_share(**values: float) -> None:
    """Check that all numbers lie in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must lie between 0 and 1")


def check_positive(**values: float | None) -> None:
    """Check that all numbers are greater than 0."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must be greater than 0")


def check_server(group: str, url: str, key_env: str | None) -> None:
    """Check the address of a server and the name of the variable with its key."""
    # The message does not repeat key_env: the user may have put the key itself there.
    if key_env is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", key_env):
        raise ConfigError(
            f"{group}.key_env must be the name of an environment variable, such as OPENAI_API_KEY: "
            "the variable that holds the key, not the key itself"
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[@?#\s]", url):
        raise ConfigError(
            f"{group}.url must have the form http(s)://HOST[:PORT]/PATH, without user, key or query"
        )


def is_number(value: Any) -> bool:
    """Whether a value that a YAML file may give in any type is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_count(value: Any) -> bool:
    """Whether such a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
