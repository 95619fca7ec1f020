"""Licences of what jaxmap needs, all the way down: permissive, or of their own kind and known."""

from __future__ import annotations

import re
from importlib import metadata

from packaging.requirements import Requirement

PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|ISCL|PSF|PSFL|Python Software Foundation|MPL|Mozilla|HPND|Unlicense|CC0"
    r"|Zlib|0BSD)\b",
    re.IGNORECASE,
)
COPYLEFT = re.compile(
    r"GPL|General Public Licen[cs]e|SSPL|Commons Clause|non-?commercial|proprietary", re.IGNORECASE
)
KNOWN = {"pillow": "MIT-CMU", "typing_extensions": "PSF-2.0"}
"""Packages that declare their licence in a way of their own."""

FOR_USERS = ("plot", "io", "data", "pm", "dynamics", "clusters", "survey")
FOR_DEVELOPERS = ("test", "dev", "notebooks", "docs", "mutation")
TOOLS = {
    "docutils": "GPL of its Emacs mode alone, which is not installed",
    "yattag": "LGPL, of cosmic-ray, which runs the tests and is not imported",
}
"""Not permissive, or not wholly so, and needed by tools of developers only."""

NOT_EVERYWHERE = {
    "cosmic-ray": "MIT",
    "ipykernel": "BSD-3-Clause",
    "myst-nb": "BSD-3-Clause",
    "pydata-sphinx-theme": "BSD-3-Clause",
    "sphinx": "BSD-2-Clause",
    "jax-cuda13-plugin": "Apache-2.0, with libraries of NVIDIA under NVIDIA's own licence",
}
"""Packages that need not be installed where tests run: their licences, looked up by hand."""


def needed(name: str, extras: tuple[str, ...] = ()) -> tuple[set[str], set[str]]:
    """Distributions that a requirement stands for, with itself; and those not installed here."""
    found: set[str] = set()
    absent: set[str] = set()
    seen: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [(name, extras)]
    while waiting:
        current, wanted = waiting.pop()
        plain = re.sub(r"[-_.]+", "-", current).lower()
        if (plain, wanted) in seen:
            continue
        seen.add((plain, wanted))
        try:
            requires = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            absent.add(plain)
            continue
        found.add(plain)
        for text in requires:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *wanted)]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(each) for each in environments):
                waiting.append((requirement.name, tuple(sorted(requirement.extras))))
    return found, absent


def licence_of(name: str) -> str:
    about = metadata.metadata(name)
    classifiers = [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
    stated = about.get("License-Expression") or about.get("License") or ""
    return KNOWN.get(name) or " ".join([stated.splitlines()[0] if stated else "", *classifiers])


def not_permissive(names: set[str]) -> dict[str, str]:
    licences = {name: licence_of(name) for name in sorted(names)}
    return {
        name: licence
        for name, licence in licences.items()
        if COPYLEFT.search(licence) or not PERMISSIVE.search(licence)
    }


def test_licences_are_permissive():
    tree, absent = needed("jaxmap", FOR_USERS)
    assert {"jax", "numpy", "astropy", "h5py", "scipy", "jaxlib", "distributed", "pooch"} <= tree
    assert not_permissive(tree) == {}
    # Nothing is passed over, but what works on some systems only.
    assert absent <= {"jaxpm"}


def test_licences_of_what_developers_need_are_known():
    tree, absent = needed("jaxmap", (*FOR_USERS, *FOR_DEVELOPERS, "gpu"))
    assert not_permissive(tree).keys() <= TOOLS.keys()
    assert absent <= NOT_EVERYWHERE.keys() | {"jaxpm"}


def test_every_extra_is_looked_at():
    declared = set(metadata.metadata("jaxmap").get_all("Provides-Extra"))
    assert declared == {*FOR_USERS, *FOR_DEVELOPERS, "gpu"}


def test_the_patterns_tell_licences_apart():
    for licence in ("MIT License", "BSD-3-Clause", "Apache-2.0", "PSF-2.0"):
        assert PERMISSIVE.search(licence) and not COPYLEFT.search(licence)
    for licence in (
        "GPL-3.0-only",
        "GNU AGPL v3",
        "SSPL-1.0",
        "GNU General Public License v3, permits",
        "LGPL-3.0 (limited)",
        "Proprietary: use limited",
    ):
        assert COPYLEFT.search(licence) and not PERMISSIVE.search(licence)
