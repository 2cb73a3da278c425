"""Where options come from beside the command line: a file in TOML, and the environment."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rdnscache.dns.names import shown
from rdnscache.errors import ConfigError
from rdnscache.files import read_text

ENV_PREFIX = "RDNSCACHE_"


def read_toml(file: str, known: Collection[str], tables: Collection[str]) -> dict[str, Any]:
    """The options in a file; only those in `tables` may be tables. Raises ConfigError with one sentence."""
    try:
        text = read_text(file)
    except ValueError as error:
        raise ConfigError(f"{file} {error}") from None
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{file} is not TOML that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    for key, value in table.items():
        has_tables = any(isinstance(each, dict) for each in (value if isinstance(value, list) else [value]))
        if has_tables and key not in tables:
            raise ConfigError(f"{file}: {shown(key)} is a table: options stand at the top level, without one")
        if key not in known:
            close = difflib.get_close_matches(key.replace("-", "_"), known, 1)
            raise ConfigError(f"{file}: unknown key {shown(key)}" + (f", did you mean {close[0]!r}?" if close else ""))
    return table


#: Variables of ours that are not options.
_OTHER_VARIABLES = ("RDNSCACHE_CONFIG", "RDNSCACHE_SERVER", "RDNSCACHE_PURE", "RDNSCACHE_HANDOVER")
#: Name and value of the variables that Kubernetes sets in every pod for a service whose name begins with `rdnscache`.
_SERVICE = re.compile(r"\w+_SERVICE_(?:HOST|PORT)(?:_\w+)?=.*|\w+_PORT_[0-9]+_\w+=.*|\w+_PORT=[a-z]+://.*")


def strange_variables(environ: Mapping[str, str], options: Collection[str]) -> Iterator[str]:
    """A warning for each variable that looks like one of ours and is not: otherwise a typo would go unnoticed."""
    known = {*options, *_OTHER_VARIABLES}
    for name, value in sorted(environ.items()):
        if name.startswith(ENV_PREFIX) and name not in known and not _SERVICE.fullmatch(f"{name}={value}"):
            close = difflib.get_close_matches(name, known, 1)
            yield f"no option is called {name:.100}" + (f": did you mean {close[0]}?" if close else "")
