"""The table of options: where a value comes from, and that all of it is documented."""

from __future__ import annotations

import json
from dataclasses import Field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rdnscache.address import Address
from rdnscache.cli.serve import check_config
from rdnscache.config import Config, load, options
from rdnscache.config_text import default_text, env_name, flag_name, plain, toml_name
from rdnscache.endpoint import Endpoint
from rdnscache.errors import ConfigError
from rdnscache.redis_url import mask

#: No compiled module has a part in it.
pytestmark = [pytest.mark.pure, pytest.mark.once]

#: For each option: a value on the command line, in the environment, and in the file.
SAMPLES: dict[str, tuple[str, str, Any]] = {
    "listen": ("127.0.0.1:5301", "127.0.0.1:5302 [::1]:5302", ["127.0.0.1:5303", "127.0.0.1:5304"]),
    "upstream": ("192.0.2.1", "192.0.2.2:54,2001:db8::2", ["192.0.2.3", "[2001:db8::3]:54"]),
    "upstream_file": ("cli.list", "env.list", "file.list"),
    "zone": ("corp.example=192.0.2.7", "a.example=none b.example=192.0.2.8,tcp://192.0.2.9", ["10.0.0.0/8=default"]),
    "records": ("cli.zone", "env.zone", ["file.zone"]),
    "hosts": ("cli.hosts", "env.hosts", ["file.hosts"]),
    "block": ("cli.list", "env.list", ["file.list", "other.list"]),
    "pass_": ("cli.list", "env.list", ["file.list"]),
    "rpz": ("cli.rpz", "axfr://192.0.2.1/rpz.example", ["file.rpz", "axfr://[::1]:54/rpz.example?ixfr=no"]),
    "list_refresh": ("3600", "7200", 60),
    "list_dir": ("/cli", "/env", "/file"),
    "block_answer": ("null", "refused", "192.0.2.1,2001:db8::1"),
    "special_names": ("no-local", "default,test no-private", ["all"]),
    "single_label": ("yes", "on", True),
    "rebind_protection": ("yes", "on", True),
    "rebind_allow": ("dnsbl.example", "a.example, b.example", ["c.example"]),
    "filter_types": ("aaaa", "A HTTPS", ["TYPE65280"]),
    "dns64": ("yes", "2001:db8::/96", False),
    "dns64_exclude": ("2001:db8::/32", "::ffff:0:0/96 64:ff9b::/96", ["2002::/16"]),
    "view": ('{name = "a", clients = ["::1"]}', '[{name = "b", clients = "::1"}]', ['{name = "c", clients = "any"}']),
    "redis": ("redis://192.0.2.1/0", "none", "valkey+unix:///run/v.sock"),
    "prefix": ("cli", "env", "file"),
    "secret": ("1:0123456789abcdef", "2:fedcba9876543210 1:0123456789abcdef", ["3:0011223344556677"]),
    "embedded_memory": ("10mb", "1gb", 5_000_000),
    "workers": ("2", "3", 4),
    "node_id": ("cli", "env", "file"),
    "admin": ("127.0.0.1:9001", "[::1]:9002", "127.0.0.1:9003"),
    "admin_token": ("cli", "env", "file"),
    "admin_read_token": ("cli", "env", "file"),
    "admin_host": ("a.example", "b.example, c.example", ["d.example"]),
    "admin_clients": ("no", "addresses", "networks"),
    "admin_sample": ("1", "2", 3),
    "identity": ("no", "off", False),
    "allow": ("any", "loopback 192.0.2.0/24", ["private", "2001:db8::/32"]),
    "deny": ("192.0.2.1", "192.0.2.2,10.0.0.0/9", ["::1"]),
    "proxy_from": ("192.0.2.1", "10.0.0.0/8", ["loopback"]),
    "rate_limit": ("10", "0.5", 20),
    "rate_limit_slip": ("0", "1", 3),
    "rate_limit_exempt": ("private", "10.0.0.0/8", ["any"]),
    "l1_entries": ("10", "11", 12),
    "l1_memory": ("2mb", "3mb", "4mb"),
    "cache": ("no", "off", False),
    "ttl_min": ("1", "2", 3),
    "ttl_max": ("100", "200", 300),
    "negative_ttl_max": ("10", "20", 30),
    "failure_ttl": ("1", "2", 3),
    "stale_after": ("1", "2", 3.5),
    "rotate": ("id", "off", "id"),
    "prefetch": ("no", "off", False),
    "stale_window": ("0", "20", 30),
    "upstream_policy": ("ordered", "random", "race"),
    "upstream_budget": ("500/s", "30000/m", 20),
    "upstream_timeout": ("0.1", "0.2", 0.3),
    "upstream_retry_min": ("0.05", "0.1", 0.01),
    "upstream_retry_max": ("0.5", "0.75", 2),
    "upstream_deadline": ("6", "7.5", 8),
    "ecs": ("add", "forward", "strip"),
    "ecs_prefix4": ("16", "20", 32),
    "ecs_prefix6": ("48", "40", 64),
    "upstream_check": ("5", "2.5", 60),
    "upstream_0x20": ("yes", "no", "yes"),
    "upstream_cookies": ("no", "off", False),
    "redis_budget": ("0.01", "0.02", 0.03),
    "redis_timeout": ("0.1", "0.2", 0.3),
    "max_flights": ("10", "20", 30),
    "max_waiting": ("10001", "10002", 10003),
    "max_client_waiting": ("10", "20", 30),
    "max_outstanding": ("10", "20", 30),
    "udp_segments": ("no", "yes", False),
    "tcp_idle": ("1", "2.5", 3),
    "tcp_connections": ("10", "20", 30),
    "hang_time": ("1", "2.5", 0),
    "linger": ("0", "2", 3.5),
    "drain": ("0", "2", 3.5),
    "warm": ("0", "10", 20),
    "warm_time": ("0", "2", 3.5),
    "trace": ("no", "off", False),
    "log_level": ("debug", "warning", "error"),
    "log_format": ("json", "text", "json"),
    "log_queries": ("1", "2", 3),
}
BASE = {"upstream": ("192.0.2.53",)}
BY_NAME = pytest.mark.parametrize("option", options(), ids=lambda option: option.name)


def test_every_option_has_samples() -> None:
    """Whoever adds an option adds its samples here."""
    assert list(SAMPLES) == [option.name for option in options()]


@BY_NAME
def test_what_check_config_prints_can_be_read_again(
    option: Field[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same configuration, but for secrets: those are not shown."""
    monkeypatch.chdir(tmp_path)
    Path("file.list").write_text("192.0.2.3\n")
    base = {} if option.name in ("upstream", "upstream_file") else {"upstream": ["192.0.2.53"]}
    told = base | {toml_name(option): SAMPLES[option.name][2]}
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    result = CliRunner().invoke(check_config, [str(first)])
    assert result.exit_code == 0, result.output
    second.write_text(result.output)
    if option.name in ("secret", "admin_token", "admin_read_token"):
        assert f"# {option.name} is set, and not shown" in result.output
        first.write_text('upstream = ["192.0.2.53"]\n')
    assert load(str(second), {}, {}) == load(str(first), {}, {})


def test_a_password_alone_is_left_out_of_what_check_config_prints(tmp_path: Path) -> None:
    """Where Redis is, is told, in a remark: without its password it would be another one."""
    file = tmp_path / "some.toml"
    file.write_text('redis = "redis://node:s3cret@192.0.2.10:6379/0"\nupstream = ["192.0.2.53"]\n')
    said = CliRunner().invoke(check_config, [str(file)]).output
    assert '# redis = "redis://node:***@192.0.2.10:6379/0", less its password' in said
    assert "s3cret" not in said


@BY_NAME
def test_precedence(option: Field[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line beats the environment, which beats the file, which beats the default."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cli", "env", "file"), 1):
        Path(f"{name}.list").write_text(f"192.0.2.{number}  # a comment\n\n")
    on_cli, in_env, in_file = SAMPLES[option.name]
    file = tmp_path / "node.toml"
    file.write_text(f"{toml_name(option)} = {json.dumps(in_file)}\n")
    base = {} if option.name == "upstream" else BASE
    given = base | {option.name: (on_cli,) if isinstance(option.default, tuple) else on_cli}
    environ = {env_name(option): in_env}
    parse = option.metadata["parse"]

    def value(config: Config) -> Any:
        return getattr(config, option.name)

    assert value(load(str(file), given, environ)) == parse(on_cli)
    assert value(load(str(file), base, environ)) == parse(in_env)
    assert value(load(str(file), base, {})) == parse(in_file)
    default = value(load(None, BASE, {}))
    if option.name == "upstream":
        assert default == (Endpoint("udp", Address("192.0.2.53", 53)),)
    elif option.name in ("workers", "node_id"):  # made from the machine
        assert default
    else:
        assert default == option.default
    # click gives None or () for what is not on the command line; an empty variable counts as none
    nothing: Any = () if isinstance(option.default, tuple) else None
    assert value(load(str(file), base | {option.name: nothing}, {env_name(option): ""})) == parse(in_file)


@BY_NAME
def test_documented(option: Field[Any]) -> None:
    """docs/configuration.md names every option's flag, variable and default."""
    file = Path(__file__).parent.parent / "docs" / "configuration.md"
    assert file.exists(), "docs/configuration.md is missing"
    text = file.read_text(encoding="utf-8")
    for part in (flag_name(option), env_name(option), default_text(option)):
        assert part in text, f"docs/configuration.md does not say {part}"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("listen", "127.0.0.1"), ("listen", "host:53"), ("listen", ""), ("upstream", "256.1.1.1"), ("redis", "unix://"),
        ("redis", "redis://"), ("prefix", "a:b"), ("prefix", ""), ("embedded_memory", "1kb"), ("embedded_memory", True),
        ("workers", "0"), ("workers", "1.5"), ("workers", 1.5), ("workers", True), ("identity", "perhaps"),
        ("tcp_idle", "nan"), ("tcp_idle", "inf"), ("drain", "-1"), ("log_level", "loud"), ("node_id", "a/b"),
        ("node_id", "é"), ("workers", "1e400"), ("l1_memory", "64 mb"), ("admin", "127.0.0.1"), ("upstream", [53]),
    ],
)  # fmt: skip
def test_refused_values(name: str, raw: Any) -> None:
    """Bad values are refused by their parser with a ValueError."""
    option = next(option for option in options() if option.name == name)
    with pytest.raises(ValueError, match=r"\w"):
        option.metadata["parse"](raw)


@pytest.mark.parametrize(
    "given",
    [
        {"ttl_min": "10", "ttl_max": "5"},
        {"upstream_timeout": "6"},
        {"max_flights": "20000"},
        {"listen": ("127.0.0.1:5399", "127.0.0.1:5399")},
        {"listen": ("0.0.0.0:5399",), "upstream": ("127.0.0.1:5399",)},
        {"listen": ("127.0.0.1:5399",), "admin": "127.0.0.1:5399"},
        {"upstream": ("0.0.0.0:53",)},
        {"upstream": ("192.0.2.1:0",)},
    ],
)
def test_contradictions(given: dict[str, Any]) -> None:
    """Options that cannot go together are refused as a whole."""
    with pytest.raises(ConfigError):
        load(None, BASE | given, {})


def test_upstreams_from_a_file(tmp_path: Path) -> None:
    """Those of --upstream come first; a bad line is named by its number."""
    file = tmp_path / "list"
    file.write_text("192.0.2.1\n# none\n2001:db8::1 # one\n")
    config = load(None, BASE | {"upstream_file": str(file)}, {})
    assert list(map(str, config.upstream)) == ["192.0.2.53:53", "192.0.2.1:53", "[2001:db8::1]:53"]
    file.write_text("192.0.2.1\nhost\n")
    with pytest.raises(ConfigError, match="line 2"):
        load(None, {"upstream_file": str(file)}, {})
    for text, told in (("# nothing\n", "names no server"), ("nameserver # none\n", "line 1: no address follows")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=told):
            load(None, {"upstream_file": str(file)}, {})


def test_passwords_are_masked() -> None:
    """A URL is shown without its password, and otherwise as it is."""
    assert mask("redis://me:secret@host/0") == "redis://me:***@host/0"
    assert mask("redis://:secret@host/0") == "redis://:***@host/0"
    assert mask("redis://host:6379/0") == "redis://host:6379/0"


def test_a_secret_from_a_file_and_masked(tmp_path: Path) -> None:
    """`file:PATH` is the first line of that file; nobody is shown it, nor a password."""
    (tmp_path / "token").write_text(" sesame \nmore\n")
    found = load(None, BASE | {"admin_token": f"file:{tmp_path}/token", "redis": "redis://me:word@192.0.2.1/0"}, {})
    assert found.admin_token == "sesame"
    shown = {option.name: plain(option, getattr(found, option.name)) for option in options()}
    assert (shown["admin_token"], shown["redis"]) == ("***", "redis://me:***@192.0.2.1/0")
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "none"):
        with pytest.raises(ConfigError, match=name):
            load(None, BASE | {"admin_token": f"file:{tmp_path}/{name}"}, {})
