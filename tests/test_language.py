"""Names of modules, classes and functions use the standard terms of the field."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("registry", "adapters", "services")

BANNED = {
    "answer": "prediction, output or result",
    "answers": "predictions, outputs or results",
    "dear": "expensive",
    "dearer": "more expensive",
    "door": "entry point or interface",
    "doors": "entry points or interfaces",
    "errand": "task or request",
    "figure": "metric, number or plot",
    "figures": "metrics, numbers or plots",
    "guest": "client",
    "house": "shared or default",
    "item": "example or input",
    "lane": "worker thread or queue",
    "lanes": "worker threads or queues",
    "line": "queue",
    "lines": "queues",
    "lonely": "single",
    "nought": "zero",
    "part": "split or share",
    "parts": "splits or shares",
    "room": "free space or capacity",
    "rooms": "free space or capacity",
    "shelf": "cache or store",
    "trip": "run",
    "trips": "runs",
    "yardstick": "baseline",
    "yardsticks": "baselines",
}
"""Words that no name contains as a whole word, and the terms to use instead."""

ALLOWED = {
    # Lines of text.
    "registry.commands.shell._write_line": "a line of output",
    "registry.progress.Lines": "lines of a log",
    "registry.progress._Line": "a line of a log",
    "registry.tables._csv_lines": "lines of a file",
    "registry.tables._quote_line": "a line of a file",
    "adapters.few_shot.lines": "lines of a report",
    "services.commands.input_files._lines": "lines of a file",
    "services.httpd.exchange._line": "the status line of an HTTP response",
    # HTTP answers.
    "services.api.bento_operations.answer": "answers an HTTP request",
    "services.api.bento_pages._answer": "an HTTP answer",
    "services.api.operations._answer": "an HTTP answer",
    "services.api.operations.answer": "answers an HTTP request",
    "services.bento.operations._answer": "an HTTP answer",
    "services.deployment.identity.AnswerIdentity": "the fields of an HTTP answer",
    "services.httpd.asgi.TakesWholeAnswer": "an HTTP answer",
    "services.httpd.exchange.answer_whole": "an HTTP answer",
    # Names with stored or published forms.
    "registry.errors.FrozenPartMoved": "the error code frozen_part_moved follows from it",
    "adapters.datasets.item": "DATA's examples; 'example' names the bundled datasets (example:digits)",
    "adapters.datasets.item.Item": "as its module",
}
"""Names that keep such a word, with the reason."""


def words(name: str) -> list[str]:
    """Return the words of a name, split at underscores and capitals, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def names(package: str) -> Iterator[str]:
    """Yield every module, class and function of a package, as ``module.NAME``."""
    for path in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield module
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}"


def offending(name: str) -> list[str]:
    return [word for word in words(name.rpartition(".")[2]) if word in BANNED]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("queue.lanes_of", ["lanes"]),
        ("queue.LaneQueue", ["lane"]),
        ("queue._make_room", ["room"]),
        ("recipe.ItemHTTPPart", ["item", "part"]),
        ("layers.partial", []),
        ("layers.pipeline", []),
    ],
)
def test_words_are_found_whole(name: str, found: list[str]) -> None:
    assert offending(name) == found


@pytest.mark.parametrize("package", PACKAGES)
def test_names_use_standard_terms(package: str) -> None:
    found = {name: offending(name) for name in names(package) if name not in ALLOWED}
    advice = [
        f"{name}: not {word}, rather {BANNED[word]}" for name, banned in found.items() for word in banned
    ]
    assert not advice, "\n".join(sorted(set(advice)))


def test_every_exception_exists_and_is_needed() -> None:
    existing = {name for package in PACKAGES for name in names(package)}
    assert not set(ALLOWED) - existing
    assert all(offending(name) for name in ALLOWED)
