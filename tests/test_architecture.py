"""Every symbol that the architecture page points to is where the page says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
QUESTIONS = 10


def answers() -> list[tuple[str, str, str]]:
    """Return each question of "Where to find it" with the path and the symbol that answer it."""
    match = re.search(r"^## Where to find it\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    return re.findall(r"^- (.+?\?) `([^`]+)` · `([^`]+)`$", match.group(1), re.MULTILINE)


def names_of(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def defines(body: list[ast.stmt], symbol: str) -> bool:
    """Say whether a module or a class defines a symbol: ``name``, or ``Class.name``."""
    first, _, rest = symbol.partition(".")
    found = [node for node in body if first in names_of(node)]
    if not rest:
        return bool(found)
    return any(isinstance(node, ast.ClassDef) and defines(node.body, rest) for node in found)


def test_there_are_ten_questions_each_with_an_answer() -> None:
    assert len(answers()) == PAGE.partition("## Where to find it")[2].count("\n- ") == QUESTIONS


@pytest.mark.parametrize(("question", "path", "symbol"), answers(), ids=lambda text: text)
def test_every_symbol_is_where_the_page_says(question: str, path: str, symbol: str) -> None:
    assert (ROOT / path).is_file(), f"{question} {path} does not exist"
    assert defines(ast.parse((ROOT / path).read_text()).body, symbol), f"{question} no {symbol} in {path}"


@pytest.mark.parametrize(
    ("symbol", "there"),
    [
        ("LIMIT", True),
        ("TYPED", True),
        ("run", True),
        ("Queue", True),
        ("Queue.take", True),
        ("Queue.limit", True),
        ("take", False),
        ("Queue.run", False),
        ("run.inner", False),
    ],
)
def test_a_symbol_is_found_only_where_it_is_defined(symbol: str, there: bool) -> None:
    code = """
LIMIT = 1
TYPED: int = 2
def run():
    inner = 3
class Queue:
    limit: int = 4
    async def take(self):
        run()
"""
    assert defines(ast.parse(code).body, symbol) is there


PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/adr/*.md"))]
SYMBOL = re.compile(r"`(_?[A-Z]\w+)`")


@pytest.mark.parametrize("page", [ROOT / "docs" / "architecture.md", *PAGES], ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:adapters|registry|services|tests|benchmarks|docs)/[\w./]*)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def anchors_of(page: Path) -> set[str]:
    """Return what headings of a page are linked by: lower case, without punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "architecture.md", *PAGES], ids=lambda page: page.name
)
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if "://" not in target:
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in anchors_of(there), f"{target}#{anchor}"


def test_every_class_and_table_that_contributors_are_pointed_to_exists() -> None:
    code = [
        path.read_text()
        for package in ("adapters", "registry", "services", "tests")
        for path in (ROOT / package).rglob("*.py")
    ]
    defined = {name for text in code for node in ast.parse(text).body for name in names_of(node)}
    pointed_to = set(SYMBOL.findall(PAGES[0].read_text()))
    assert {"BlobsContract", "TECHNIQUES", "_PROVIDERS"} <= pointed_to
    assert pointed_to - defined == set()
