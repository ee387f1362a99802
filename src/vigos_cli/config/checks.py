"""Checks of configuration values; each raises a ConfigError that names the key."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from vigos_cli.config.choices import CHOICES
from vigos_cli.utils.errors import ConfigError, nearest


def check_choice(key: str, value: str) -> None:
    """A wrong choice is a ConfigError with the nearest right word."""
    if value not in CHOICES[key]:
        raise ConfigError(f"{key}={value}: {nearest(value, CHOICES[key])}one of {', '.join(CHOICES[key])}")


def check_at_least(low: float, **values: float | None) -> None:
    """Numbers below `low` are a ConfigError; `__` in a name stands for the dot of its key."""
    for name, value in values.items():
        if value is not None and value < low:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must be at least {low:g}")


def check_share(**values: float) -> None:
    """Numbers outside [0, 1] are a ConfigError."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must lie between 0 and 1")


def check_positive(**values: float | None) -> None:
    """Numbers that are not above zero are a ConfigError."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must be greater than 0")


def check_server(group: str, url: str, key_env: str | None) -> None:
    """A server's address and the name of its key's variable, or a ConfigError that shows no key."""
    # What may be a key that was put in the wrong place is not shown again.
    if key_env is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", key_env):
        raise ConfigError(
            f"{group}.key_env is no environment variable's name, such as OPENAI_API_KEY: "
            "name the variable that holds the key, never the key"
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[@?#\s]", url):
        raise ConfigError(f"{group}.url must be http(s)://HOST[:PORT]/PATH, without user, key or query")
