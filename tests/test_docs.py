"""The documentation says nothing that is not so: commands, snippets, error texts and links."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hff_ase import available_models
from hff_ase.cli import app
from hff_ase.terms import TERMS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CUT = re.compile(r"\s(?:\||\|\||&&|;|>|2>)\s.*")  # what follows a command on its line
Command = tuple[str, str]  # where it stands, and the command


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of fenced blocks, and of indented ones without a language."""
    yield from re.findall(r"```(\S*)[^\n]*\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for found in re.findall(r"(?:^|\n\n)((?: {4}[^\n]*\n?)+)", rest):
        yield "", re.sub(r"^ {4}", "", found, flags=re.MULTILINE)


def lines_of_commands(text: str) -> Iterator[str]:
    """Lines that begin with ``hff``, or run the package as a module, continued lines in one."""
    for language, content in blocks(text):
        if language not in ("", "bash", "sh", "console"):
            continue
        for line in re.sub(r"\s*\\\n\s*", " ", content).split("\n"):
            line = re.sub(r"^\S*torchrun .*-m hff_ase ", "hff ", line.strip().removeprefix("$ "))
            if line.startswith("hff "):
                yield CUT.sub("", line)


def inline_commands(text: str) -> Iterator[str]:
    """Code within sentences that begins with ``hff`` and a command; it may be a part of one."""
    rest = re.sub(r"```.*?```|^ {4}.*$", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", rest):
        if code.startswith("hff "):
            yield " ".join(code.split())


def all_of(kind: Any) -> list[Command]:
    return [(named(p), c) for p in PAGES for c in kind(p.read_text(encoding="utf-8"))]


def resolve(words: list[str]) -> tuple[Any, str, list[str]]:
    """The command that words name, its name, and its arguments."""
    command: Any = typer.main.get_command(app)
    name = words[0]
    for index, word in enumerate(words[1:], start=1):
        if not hasattr(command, "commands"):
            return command, name, words[index:]
        if word.startswith("-"):
            return command, name, words[index:]
        assert word in command.commands, f"no command {word!r} in {sorted(command.commands)}"
        command, name = command.commands[word], word
    return command, name, []


@pytest.mark.parametrize(("page", "line"), all_of(lines_of_commands))
def test_commands_are_those_of_the_program(page: str, line: str) -> None:
    """Every option exists, has a value of its type, and nothing that is required is missing."""
    command, name, arguments = resolve(shlex.split(line, comments=True))
    if arguments == ["--version"]:
        return
    try:
        command.make_context(name, arguments)
    except Exception as error:
        pytest.fail(f"{page}: {line}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize(("page", "line"), all_of(inline_commands))
def test_commands_within_sentences_have_these_options(page: str, line: str) -> None:
    command, _, arguments = resolve(shlex.split(re.sub(r"[\[\]]|\.\.\.", "", line)))
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    for word in arguments:
        if re.match(r"--?[a-z]", word):
            option = word.split("=")[0]
            assert option in known | {"--help"}, f"{page}: {line}: no option {option}"


def test_commands_are_found_at_all() -> None:
    assert len(all_of(lines_of_commands)) > 60
    assert len(all_of(inline_commands)) > 10
    continued = "x\n\n    hff md a \\\n      -o b && ls # c\n"
    assert list(lines_of_commands(continued)) == ["hff md a -o b"]
    with pytest.raises(pytest.fail.Exception, match="--no-such"):
        test_commands_are_those_of_the_program("here", "hff md box.extxyz --no-such 3")
    with pytest.raises(AssertionError, match="no command 'fly'"):
        test_commands_are_those_of_the_program("here", "hff fly")


def python_of(path: Path) -> list[tuple[str, str]]:
    text = path.read_text(encoding="utf-8")
    return [(named(path), code) for language, code in blocks(text) if language == "python"]


@pytest.mark.parametrize(("page", "code"), [s for p in PAGES for s in python_of(p)])
def test_snippets_compile_and_import_what_there_is(page: str, code: str) -> None:
    tree = ast.parse(code.replace("(..., ", "("), page)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(exists(alias.name) for alias in node.names), (page, ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module:
            if not exists(node.module):
                continue
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), (page, ast.unparse(node))


def exists(name: str) -> bool:
    """Whether a module can be imported; optional programs may be missing."""
    top = name.split(".")[0]
    if top != "hff_ase" and find_spec(top) is None:
        return False
    importlib.import_module(name)
    return True


@cache
def messages() -> tuple[tuple[str, ...], ...]:
    """The fixed parts of every string in the source, in order; docstrings left out."""
    found = []
    folders = [ROOT / "hff_ase", ROOT / "calculators", ROOT / "dynamics"]
    for path in (p for folder in folders for p in folder.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                found.append(tuple("".join(map(str, parts)).split("\0")))
            elif isinstance(node, ast.Constant) and id(node) not in docstrings:
                found.append((str(node.value),))
    return tuple(found)


def says(message: tuple[str, ...], quoted: list[str]) -> bool:
    """Whether fixed parts of a message hold the quoted ones, in order."""
    text, start = "\0".join(message), 0
    for part in quoted:
        place = text.find(part, start)
        if place < 0:
            return False
        start = place + len(part)
    return True


def quoted_errors() -> list[str]:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### `(.*)`$", text, re.MULTILINE)


@pytest.mark.parametrize("error", quoted_errors())
def test_errors_that_are_explained_are_those_of_the_program(error: str) -> None:
    parts = [part.strip() for part in error.split("...") if part.strip()]
    assert any(says(message, parts) for message in messages()), parts


def test_an_error_that_nothing_raises_is_found() -> None:
    assert len(quoted_errors()) > 40
    parts = ["expected atoms at least", "metres apart"]
    assert not any(says(message, parts) for message in messages())


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_pages_name_files_and_folders_that_exist() -> None:
    names = r"`((?:hff_ase|calculators|dynamics|tests|examples|benchmarks)/[\w./]*)`"
    for page in PAGES:
        for name in re.findall(names, page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), (named(page), name)


def test_every_term_is_in_the_reference() -> None:
    text = (DOCS / "api" / "terms.md").read_text(encoding="utf-8")
    assert set(re.findall(r"hff_ase\.terms\.(\w+)", text)) == {t.__name__ for t in TERMS.values()}


def test_every_shipped_model_has_its_card_among_the_pages() -> None:
    assert {page.stem for page in (DOCS / "cards").glob("*.md")} == set(available_models())


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that draws figures and runs snippets at the build."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("executed")


def test_figures_of_pages_are_drawn(executed: Any, tmp_path: Path) -> None:
    asked = [found for page in PAGES for found in executed.FIGURE.findall(page.read_text("utf-8"))]
    assert asked
    for name, _ in asked:
        executed.drawn(f"```{{drawn}} {name}\ntext\n```", tmp_path)
        assert (tmp_path / f"{name}.svg").stat().st_size > 10_000


def test_snippets_of_pages_run(executed: Any, tmp_path: Path) -> None:
    pages = [page for page in PAGES if executed.SNIPPET.search(page.read_text("utf-8"))]
    assert [page.stem for page in pages] == ["tutorial"]
    text = executed.executed(pages[0].read_text("utf-8"), "tutorial", tmp_path)
    peak = re.search(r"Li-O: .* at (\d\.\d\d) A", text)
    assert peak is not None
    assert 1.7 < float(peak[1]) < 2.2  # where lithium coordinates oxygen
    assert (tmp_path / "tutorial-structure.png").stat().st_size > 10_000


def test_a_snippet_shows_what_it_prints_and_draws(executed: Any, tmp_path: Path) -> None:
    page = "```python run\nx = 2\n```\n\ntext\n\n```python run\nprint(3 * x)\n"
    page += "open('a.png', 'w').close()\n```\n"
    text = executed.executed(page, "page", tmp_path)
    assert "```text\n6\n```" in text
    assert text.count("![") == 1
    assert (tmp_path / "page-a.png").exists()
    with pytest.raises(RuntimeError, match=r"page\.md: a snippet failed: ZeroDivisionError"):
        executed.executed("```python run\n1 / 0\n```\n", "page", tmp_path)
