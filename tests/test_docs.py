"""The documentation says what is true: commands, options, metrics and links are checked against the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import prometheus_client
import pytest

from services import metrics
from services.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
)
CLI = (ROOT / "docs" / "cli.md").read_text()
SERVING = (ROOT / "docs" / "serving.md").read_text()


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its name; those of a group with the group's before theirs."""
    for name in COMMANDS:
        found = main.get_command(click.Context(main), name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{name} {part}", each) for part, each in found.commands.items())
        else:
            yield name, found


EVERY = dict(every_command())


def section(name: str) -> str:
    match = re.search(rf"^## `cultivar {name}\b.*?(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/cli.md has no section for 'cultivar {name}'"
    return match.group()


@pytest.mark.parametrize("name", EVERY)
def test_every_command_is_documented_with_its_options(name: str) -> None:
    documented = section(name)
    shared = CLI.partition("## ")[0]
    for parameter in EVERY[name].params:
        if isinstance(parameter, click.Option):
            longest = max(parameter.opts, key=len)
            assert f"`{longest}" in documented + shared or f", {longest}" in documented, longest
        else:
            assert parameter.human_readable_name in documented


@pytest.mark.parametrize("name", EVERY)
def test_every_command_says_what_it_does_in_its_help(name: str) -> None:
    assert EVERY[name].help
    for parameter in EVERY[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_no_command_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^## `cultivar ([a-z ]+?)(?: [^a-z`].*)?`", CLI, re.MULTILINE)) == set(EVERY)


def declared_metrics() -> Iterator[tuple[str, tuple[str, ...]]]:
    for value in vars(metrics).values():
        if isinstance(value, prometheus_client.metrics.MetricWrapperBase):
            (described,) = value.describe()
            if described.name.startswith("cultivar") and value._labelnames and not value._labelvalues:
                suffix = "_total" if described.type == "counter" else ""
                yield described.name + suffix, tuple(value._labelnames)


def test_every_metric_is_documented_with_its_labels() -> None:
    found = dict(declared_metrics())
    assert len(found) >= 8
    for name, labels in found.items():
        assert f"| `{name}` | {', '.join(labels)} |" in SERVING, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_task_of_the_readme_is_in_the_makefile() -> None:
    tasks = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text())) <= tasks
