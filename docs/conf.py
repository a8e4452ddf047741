"""How the documentation is built: ``make docs``, from the repository alone, without a network."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

from hff_ase import __version__
from hff_ase.settings import Section, declared
from hff_ase.settings.declare import section_in

project, author = "hff_ase", "The hff_ase developers"
copyright = author
release = version = __version__

DOCS = Path(__file__).parent

sys.path.insert(0, str(DOCS))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "executed"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"hff_ase {release}"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"

# The reference is made from docstrings: Google's style, names in single backticks.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # types are in the signature
napoleon_custom_sections = [("Class attributes", "Attributes")]

# Programs that a part of the package is for: described where they are not installed, too.
OPTIONAL = ("torch_sim", "ipi")
autodoc_mock_imports = [name for name in OPTIONAL if find_spec(name) is None]


def complete(app: Any, name: str, source: list[str]) -> None:
    """Put included files into a page, and make links to files outside of these pages downloads."""
    folder = (DOCS / name).parent

    def include(found: re.Match[str]) -> str:
        path = (folder / found[1]).resolve()
        app.env.note_dependency(str(path))
        text = path.read_text(encoding="utf-8")
        here = lambda link: f"]({os.path.relpath(path.parent / link[1], folder)}"  # noqa: E731
        return re.sub(r"\]\((?!https?:|#)([^)#]+)", here, text)

    def link(found: re.Match[str]) -> str:
        inside = (folder / found[2]).resolve().is_relative_to(DOCS)
        return found[0] if inside else f"{{download}}`{found[1]} <{found[2]}>`"

    text = re.sub(r"```\{include\} (\S+)\n```", include, source[0])
    text = text.replace("```{settings}\n```", settings_of_commands())
    source[0] = re.sub(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+\.md)\)", link, text)


def settings_of_commands() -> str:
    """A section with a table for each command."""
    from hff_ase.cli.reference import commands
    from hff_ase.settings.reference import table

    return "\n\n".join(
        f"## hff {name}\n\n{summary}\n\n{table(settings)}"
        for name, (summary, settings) in commands().items()
    )


COLON = "<colon>"


def attributes_of(model: type[Section]) -> list[str]:
    """The settings of a class as a docstring would list them."""
    lines = ["", "Attributes:"]
    for name, field in model.model_fields.items():
        section = section_in(field.annotation)
        if section is not None:
            lines.append(f"    {name}: section `{section.__module__}.{section.__qualname__}`.")
    for one in declared(model):
        if "." not in one.name:
            default = f" (default: {one.shown_default})" if one.shown_default else ""
            unit = f", {one.unit}" if one.unit and not default else ""
            lines.append(f"    {one.name}: {one.help.removesuffix('.')}{unit}{default}.")
    return lines


def before_napoleon(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Hide from napoleon what it takes for something else: the colon of a property's sentence (a
    type, it thinks), and several names with one description (a type and a name)."""
    if what == "class" and isinstance(obj, type) and issubclass(obj, Section):
        lines += attributes_of(obj)
    if what == "property" and lines:
        lines[0] = lines[0].replace(":", COLON)
    for index, line in enumerate(lines):
        head = re.match(r"\s+[a-z_]\w*(, [a-z_]\w*)+(?=:( |$))", line)
        if head:
            lines[index] = head[0].replace(", ", ",") + line[head.end() :]


def after_napoleon(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Put back what was hidden."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def formula(writer: Any, node: Any) -> None:
    """A formula as MathML, which browsers show without a script from elsewhere."""
    block = node.tagname == "math_block"
    writer.body.append(tex2mathml(node.astext(), as_block=block))
    raise SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
