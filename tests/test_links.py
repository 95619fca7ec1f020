"""Links and names in the pages lead somewhere; those that leave the project are known and few."""

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS, NOTEBOOKS = ROOT / "docs", ROOT / "notebooks"
MADE = ("_made", "_build", "notebooks", ".ipynb_checkpoints")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "experiments").rglob("*.md"), ROOT / "jaxmap/data/README.md"]
PAGES += [p for p in DOCS.rglob("*.md") if p.relative_to(DOCS).parts[0] not in MADE]
TUTORIALS = [*NOTEBOOKS.glob("*.py")]
CODE = [p for folder in ("jaxmap", "experiments", "docs") for p in (ROOT / folder).rglob("*.py")]
CODE = [p for p in CODE if not set(p.relative_to(ROOT).parts[1:2]) & set(MADE)]
PLAIN = [ROOT / name for name in ("CITATION.cff", "Makefile", "pyproject.toml")]

EXTERNAL = {
    "https://raw.githubusercontent.com/CosmoStat/jax-lensing/{COMMIT}": "the public data of "
    "Remy et al. at a pinned commit: the folder that `jaxmap.datasets` fetches files from",
}
"""Every address outside the project, as it stands in the text, and what is there."""


def words(path: Path) -> str:
    """A page without its code."""
    return re.sub(r"^ *(```|~~~).*?^ *\1", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)


def targets(text: str) -> list[tuple[str, str]]:
    """Page and anchor of each link within the project."""
    found = re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", text)
    return [(page, anchor) for page, anchor in found if "://" not in page]


def anchors(text: str) -> set[str]:
    """Of the headings: lower case, words joined by hyphens, as Markdown's readers make them."""
    titles = re.findall(r"^#+ +(.*?) *#*$", text, re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def place(page: Path, target: str) -> Path | None:
    """The file that a link leads to; pages of the site may leave out the ending."""
    if not target:
        return page
    of_site = DOCS / "notebooks" / page.name if page.parent == NOTEBOOKS else page
    there = (of_site.parent / target).resolve()
    tutorial = NOTEBOOKS / f"{there.name.removesuffix('.ipynb')}.py"
    if there.parent == DOCS / "notebooks":
        return tutorial if tutorial.exists() else None
    if there.parent == DOCS / "_made":  # by docs/made.py
        made = (DOCS / "made.py").read_text() + (DOCS / "survey_pages.py").read_text()
        return there if f'"{there.name}"' in made else None
    return next((p for p in (there, there.with_name(f"{there.name}.md")) if p.exists()), None)


@pytest.mark.parametrize("page", [*PAGES, *TUTORIALS], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in targets(words(page)):
        there = place(page, target)
        assert there is not None, f"{target} is not there"
        assert not anchor or anchor in anchors(words(there)), f"{target}#{anchor}: no such heading"


def test_pages_of_the_site_are_all_in_a_tree():
    """Every entry of a toctree, and every page included, is there; every page is an entry."""
    entries = {DOCS / "index.md"}
    for page in PAGES:
        for body in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.S | re.M):
            for entry in body.split():
                if not entry.startswith(":") and not entry.isdigit():
                    there = place(page, entry)
                    assert there is not None, f"{page.name}: {entry}"
                    entries.add(there)
        for target in re.findall(r"^```\{include\} (\S+)", page.read_text(), re.M):
            inside = DOCS / target[1:] if target.startswith("/") else page.parent / target
            assert place(DOCS / "index.md", str(inside)), f"{page.name}: {target}"
    missing = {p for p in [*PAGES, *TUTORIALS] if p.parent in (DOCS, NOTEBOOKS)} - entries
    assert not missing


def test_checks_of_links_can_fail():
    page = ROOT / "README.md"
    assert targets("[a](b.md#c) ![d](e.png) [f](https://g.h)") == [("b.md", "c"), ("e.png", "")]
    assert place(page, "docs/nowhere.md") is None and place(page, "docs/_made/no.png") is None
    assert anchors("# One `two`, three\n## [Four](five)\n") == {"one-two-three", "four"}
    assert malformed("arXiv:2313.01234 arXiv:1202.03022 arXiv:2302.0302") == [
        "arXiv:2313.01234",
        "arXiv:1202.03022",
        "arXiv:2302.0302",
    ]
    assert malformed("doi:11.1051/x") and malformed("arXiv 2302.03026") == ["arXiv 2302.03026"]
    assert not malformed("arXiv:2302.03026, arXiv:1202.0302. doi:10.1051/0004-6361/202243054")


def test_links_of_the_built_site(tmp_path, monkeypatch):
    """`make docs` ends with this check."""
    monkeypatch.syspath_prepend(DOCS)
    from built_links import broken_links

    (tmp_path / "one.html").write_text('<h1 id="a"></h1><a href="two.html#b"></a><a href="#a"/>')
    (tmp_path / "two.html").write_text('<a name="b"></a><a href="https://x.y/z"></a>')
    assert broken_links(tmp_path) == []
    (tmp_path / "two.html").write_text('<a href="one.html?v=1#c"></a><a href="three.html"></a>')
    assert broken_links(tmp_path) == [
        "one.html: two.html#b",
        "two.html: one.html?v=1#c",
        "two.html: three.html",
    ]


def test_files_named_in_the_pages_exist():
    """Paths in back-ticks, from the top or from the page's folder."""
    names = 0
    for page in [*PAGES, *TUTORIALS]:
        folders = (ROOT, page.parent, ROOT / "experiments", ROOT / "jaxmap")
        pattern = r"`(?:python )?((?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml|sh|yaml))\b[^`]*`"
        for name in re.findall(pattern, words(page)):
            if page.name == "migration.md" and name.startswith("scripts/"):
                continue  # of jax-lensing
            names += 1
            assert any((folder / name).exists() for folder in folders), f"{page.name}: {name}"
    assert names > 50


def test_external_links():
    """Each is https, on no package host, and entered in `EXTERNAL`, in which nothing is stale."""
    found = set()
    for path in [*PAGES, *TUTORIALS, *CODE, *PLAIN]:
        found |= set(re.findall(r"https?://[^\s\"'`<>)\]]+", path.read_text(encoding="utf-8")))
    assert found == set(EXTERNAL)
    for address in found:
        assert address.startswith("https://"), address
        assert not re.search(r"pypi|pythonhosted|conda|npmjs|/simple/", address), address


def malformed(text: str) -> list[str]:
    """DOIs and identifiers of arXiv that cannot be: four digits until 2014, five since."""
    bad = []
    for found, separator, name in re.findall(r"(arxiv(:|\W*)(\d[\d.]*\d))", text, re.I):
        year, month, number = (name[:2], name[2:4], name[5:])
        digits = 4 if int(year) < 15 else 5
        good = 1 <= int(month or 0) <= 12 and re.fullmatch(rf"\d{{{digits}}}", number)
        if separator != ":" or name[4:5] != "." or not good:
            bad.append(found)
    for name in re.findall(r"\bdoi(?::|\.org/|: *\"?)\s*([^\s\"]+)", text, re.I):
        if not re.fullmatch(r"10\.\d{4,9}/[\w.()/:;-]+", name):
            bad.append(name)
    return bad


def test_identifiers_are_well_formed():
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *TUTORIALS, *CODE, *PLAIN]]
    assert sum(len(re.findall(r"arxiv:\d", text, re.I)) for text in texts) > 15
    for text in texts:
        assert not malformed(text)


def test_names_in_docstrings_and_pages_resolve():
    """Every `jaxmap.module.name` in back-ticks is there."""
    files = [*(ROOT / "jaxmap").rglob("*.py"), *PAGES, *TUTORIALS]
    names = set()
    for path in files:
        names |= set(re.findall(r"`(jaxmap(?:\.\w+)+)(?:\(\))?`", path.read_text()))
    assert len(names) > 50
    for name in sorted(names):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            module, _, attribute = name.rpartition(".")
            home, _, cls = module.rpartition(".")
            fields = getattr(pkgutil.resolve_name(home), cls, None)
            assert attribute in getattr(fields, "__annotations__", {}), name


def test_every_experiment_is_listed():
    page = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    scripts = [
        path for path in (ROOT / "experiments").glob("*.py") if "__main__" in path.read_text()
    ]
    assert len(scripts) > 40
    for script in scripts:
        assert f"experiments/{script.name}" in page, script.name
