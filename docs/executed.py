"""Pages that run: figures drawn, and snippets executed, while the documentation is built.

A page asks for a figure of `benchmarks/figures.py` by

    ```{drawn} NAME
    text that says what it shows
    ```

and has a snippet executed by calling its language ``python run``. All such snippets of a page share
their names and run in one folder, which holds the data of ``docs/data/<page>``; files that end in
``.xz`` are unpacked. What a snippet prints, and the pictures that it writes, stand below it.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
DRAWN = DOCS / "_build" / "drawn"
FIGURE = re.compile(r"```\{drawn\} (\S+)\n(.*?)\n```", re.DOTALL)
SNIPPET = re.compile(r"```python run\n(.*?)```", re.DOTALL)


def drawn(text: str, folder: Path) -> str:
    """The page with its figures drawn into ``folder``."""
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    try:
        from figures import draw
    finally:
        sys.path.pop(0)

    def figure(found: re.Match[str]) -> str:
        draw(found[1], folder / f"{found[1]}.svg")
        return f"![{' '.join(found[2].split())}](/{relative(folder)}/{found[1]}.svg)"

    return FIGURE.sub(figure, text)


def executed(text: str, page: str, folder: Path) -> str:
    """The page with what its snippets print and draw.

    Raises:
        RuntimeError: a snippet fails; names the page and shows it.
    """
    names: dict[str, Any] = {"__name__": page}

    def run(found: re.Match[str]) -> str:
        known = set(Path.cwd().glob("*.png"))
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(found[1], f"{page}.md", "exec"), names)
        except Exception as error:
            raise RuntimeError(f"{page}.md: a snippet failed: {error!r}:\n{found[1]}") from error
        shown = f"```python\n{found[1]}```\n"
        if printed.getvalue():
            shown += f"\n```text\n{printed.getvalue()}```\n"
        for picture in sorted(set(Path.cwd().glob("*.png")) - known):
            name = f"{page}-{picture.name}"
            shutil.copyfile(picture, folder / name)
            shown += f"\n![{picture.stem}](/{relative(folder)}/{name})\n"
        return shown

    with data_of(page):
        return SNIPPET.sub(run, text)


@contextlib.contextmanager
def data_of(page: str) -> Iterator[None]:
    """A temporary current folder with the data of a page."""
    before, source = Path.cwd(), DOCS / "data" / page
    with tempfile.TemporaryDirectory() as made:
        for path in (p for p in sorted(source.rglob("*")) if p.is_file()):
            target = Path(made) / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".xz":
                target.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
            else:
                shutil.copyfile(path, target)
        os.chdir(made)
        try:
            yield
        finally:
            os.chdir(before)


def relative(folder: Path) -> str:
    """A folder as pages name it."""
    return os.path.relpath(folder, DOCS)


def on_source(app: Any, name: str, source: list[str]) -> None:
    """Sphinx read a page."""
    DRAWN.mkdir(parents=True, exist_ok=True)
    if FIGURE.search(source[0]):
        app.env.note_dependency(str(DOCS.parent / "benchmarks" / "figures.py"))
        source[0] = drawn(source[0], DRAWN)
    if SNIPPET.search(source[0]):
        source[0] = executed(source[0], name, DRAWN)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", on_source)
    return {"parallel_read_safe": False}
