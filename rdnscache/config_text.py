"""Options as operators see them: their names on the command line, in TOML and in the environment, and their values."""

from __future__ import annotations

from dataclasses import Field
from typing import Any

from rdnscache import option_parsers as values
from rdnscache.address import Address
from rdnscache.config_sources import ENV_PREFIX
from rdnscache.redis_url import mask
from rdnscache.view import View
from rdnscache.zone import Zone

#: In place of what is secret.
MASK = "***"


def toml_name(option: Field[Any]) -> str:
    return option.name.removesuffix("_")  # the field has a trailing underscore where its name is a Python keyword


def env_name(option: Field[Any]) -> str:
    return ENV_PREFIX + toml_name(option).upper()


def flag_name(option: Field[Any]) -> str:
    return "--" + toml_name(option).replace("_", "-")


def default_text(option: Field[Any]) -> str:
    return option.metadata["shown"] or str(option.default)


def plain(option: Field[Any], value: Any) -> Any:
    """A field's value as people and JSON see it, passwords and secrets masked."""
    if value and option.metadata["parse"] is values.secret:
        return MASK
    if option.metadata["parse"] is values.secrets:
        return [f"{secret.partition(':')[0]}:***" for secret in value]
    if isinstance(value, tuple):
        return [item.table() if isinstance(item, Zone | View) else str(item) for item in value]
    if isinstance(value, str):
        return mask(value)
    return str(value) if isinstance(value, Address) else value
