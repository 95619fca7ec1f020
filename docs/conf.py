"""Sphinx: pages of ours, notebooks, and the reference from docstrings."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import made

import jaxmap

HERE = Path(__file__).parent
MADE = HERE / "_made"

project = "jaxmap"
author = "The jaxmap developers"
version = release = jaxmap.__version__
html_title = "jaxmap"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_made/*.inc.md", "**.ipynb_checkpoints"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
default_role = "py:obj"
# Following, it takes a constant for a part of its class's module, and links that back to nowhere.
viewcode_follow_imported_members = False
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "substitution"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
nb_execution_mode = os.environ.get("JAXMAP_DOCS_NOTEBOOKS", "cache")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
# The file of the cache holds all that a notebook's outputs depend on but jaxmap's own code.
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
suppress_warnings = ["mystnb.unknown_mime_type"]
if nb_execution_mode == "off":
    suppress_warnings.append("myst-nb.lexer")  # only the kernel tells the language

os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm, in the notebooks' kernels

shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=lambda *_: {"__pycache__"})
for script in (HERE / "notebooks").glob("*.py"):
    script.unlink()
made.write_pages(MADE)
myst_substitutions = made.figures()


def escape_bars(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]):
    """In docstrings ``|e|`` is a modulus, not a substitution of reStructuredText."""
    math_indent: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if math_indent is not None and line.strip() and indent <= math_indent:
            math_indent = None
        if line.lstrip().startswith(".. math"):
            math_indent = indent
        if math_indent is None:
            parts = re.split(r"(``.*?``|:math:`.*?`)", line)
            lines[number] = "".join(
                part if part.startswith(("``", ":math:")) else part.replace("|", "\\|")
                for part in parts
            )


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
