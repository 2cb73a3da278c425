"""What the docs print exists: links, files, commands with their options, variables, metrics, TOML examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import click
import pytest
from support import ROOT

from rdnscache import config, config_text, metrics
from rdnscache.cli import main

#: About the sources, not about the two forms of the hot modules.
pytestmark = [pytest.mark.pure, pytest.mark.once]

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy/helm/rdnscache/README.md"]
TEXTS = {page: page.read_text() for page in PAGES}
#: Those that belong to no option.
OTHER_VARIABLES = {"RDNSCACHE_CONFIG", "RDNSCACHE_PURE", "RDNSCACHE_COMPLETE"}
#: Pages with options of other programs.
FOREIGN = {"decisions.md", "deployment.md", "performance.md", "reliability.md"}
#: First words of what is quoted without being a message.
OTHER_WORDS = {
    "Authorization:", "user", "rdnscache", "cache", "cluster", "policy", "kill", "pip", "docker", "kubectl",
    "systemctl", "dig", "make", "helm", "python", "redis-cli", "apt-get", "pytest", "perf", "promtool",
}  # fmt: skip
#: Parts of a command's words that stand for something or are optional.
PLACEHOLDER = re.compile(r"[…<>\[\]]|^\W*$")


def blocks(text: str, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as forges make them."""
    heads = re.findall(r"^#+ (.*)$", prose(TEXTS[page]), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def printed_commands(text: str) -> Iterator[list[str]]:
    """The words after `rdnscache` of every command in a block or in the prose."""
    lines = [line for block in (*blocks(text, "console"), *blocks(text, "sh"))
             for line in block.replace("\\\n", " ").splitlines()]  # fmt: skip
    for line in (*lines, *re.findall(r"`([^`\n]+)`", prose(text))):
        for part in re.split(r"[|;&]|(?<!\S)#", line):
            found = re.match(r"\s*(?:\$ )?(?:rdnscache|\.venv/bin/rdnscache) (.*)", part)
            if found:
                yield shlex.split(found[1].replace("'", "").replace('"', ""))


def unknown(words: list[str]) -> str:
    """The first word that is neither a command where one has to be, nor an option of it; '' if there is none."""
    command: click.Command = main
    context = click.Context(command)
    flags = {"--version", "--help", "-h"}
    for word in words:
        if PLACEHOLDER.search(word):
            return ""
        if word.startswith("--") and word.partition("=")[0] not in flags:
            return word
        if isinstance(command, click.Group) and not word.startswith("-") and not word.isupper():
            inner = command.get_command(context, word)
            if inner is None:
                return word
            command, context = inner, click.Context(inner)
            flags = {"--help"}.union(*(each.opts for each in inner.params))
    return ""


def options_of(command: click.Command) -> set[str]:
    """The options of a command and of all commands below it."""
    found = {name for each in command.params for name in each.opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        inner = [command.get_command(context, name) for name in command.list_commands(context)]
        found.update(*(options_of(each) for each in inner if each is not None))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestPage:
    def test_links_lead_somewhere(self, page: Path) -> None:
        """Every link to a file of the checkout, or to a heading, has its target."""
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(TEXTS[page])):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target

    def test_files_exist(self, page: Path) -> None:
        """Every file of the checkout that is named in the prose is there."""
        named = re.findall(r"`((?:tests|docs|deploy|rdnscache|bench|chaos|siege)/[\w./-]+)`", prose(TEXTS[page]))
        assert [name for name in named if not (ROOT / name).exists()] == []

    def test_commands_and_options_exist(self, page: Path) -> None:
        """Every command that is printed is one, with options it has."""
        assert [words for words in printed_commands(TEXTS[page]) if unknown(words)] == []

    def test_options_in_the_prose_exist(self, page: Path) -> None:
        """Every option that is named by itself belongs to some command."""
        if page.name not in FOREIGN:
            known = options_of(main) | {"--help", "--kustomize"}
            code = " ".join(re.findall(r"`([^`\n]+)`", prose(TEXTS[page])))
            assert set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", code)) - known == set()

    def test_variables_exist(self, page: Path) -> None:
        """Every variable that is named belongs to an option."""
        known = {config_text.env_name(option) for option in config.options()} | OTHER_VARIABLES
        named = set(re.findall(r"(?<!\w)_?(RDNSCACHE_[A-Z0-9_]*[A-Z0-9])(?![\w*])", TEXTS[page]))
        assert named - known == set()

    def test_messages_are_quoted_as_they_are(self, page: Path) -> None:
        """Every log line or sentence that the prose quotes is in the sources, but for what differs each time."""
        source = "".join(file.read_text() for file in (ROOT / "rdnscache").rglob("*.py")).replace("%s", "")
        for quoted in re.findall(r"`([^`\n]+)`", prose(TEXTS[page])):
            words = quoted.split()
            if sum(word.strip(",:").isalpha() for word in words) >= 3 and words[0] not in OTHER_WORDS:
                parts = re.split(r"…|'[^']*'| is |: ", quoted)
                assert [part for part in parts if part.strip(" ,") not in source] == [], quoted

    def test_metrics_exist(self, page: Path) -> None:
        """Every metric that is named is served."""
        known = {metric.name for metric in (*metrics.METRICS, *metrics.SERVER_METRICS, *metrics.BUDGET_METRICS)}
        known |= {metrics.CERTIFICATE_EXPIRY.name, "build_info"}
        for name in re.findall(r"(?<![\w/.-])rdnscache_([a-z0-9_]+)(?![\w*.])", TEXTS[page]):
            bare = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert name in known or bare in known, name

    def test_toml_examples_can_be_used(self, page: Path, tmp_path: Path) -> None:
        """Every TOML example is a configuration that a node takes, without a remark."""
        for text in blocks(TEXTS[page], "toml"):
            file = tmp_path / "node.toml"
            file.write_text(text)
            remarks: list[str] = []
            config.load(str(file), {}, {}, remarks.append)
            assert remarks == []


def test_tables_are_those_of_the_program() -> None:
    """The tables of options and metrics are what `docs/tables.py` makes."""
    tables = run_path(str(ROOT / "docs" / "tables.py"))
    for page, rows in (("configuration.md", tables["option_rows"]), ("metrics.md", tables["metric_rows"])):
        assert "\n".join(rows()) in TEXTS[ROOT / "docs" / page], f"{page}: run docs/tables.py"
