"""Licences of what jaxmap needs, all the way down: permissive, or of their own kind and known."""

from __future__ import annotations

import re
from importlib import metadata

from packaging.requirements import Requirement

PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|HPND|Unlicense|CC0|Zlib|0BSD",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"(?<!L)GPL|AGPL|SSPL|Commons Clause|non-?commercial", re.IGNORECASE)
KNOWN = {"pillow": "MIT-CMU", "typing_extensions": "PSF-2.0"}
"""Packages that declare their licence in a way of their own."""

EXTRAS = ("plot", "io", "dynamics", "clusters", "pm")


def needed(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """Distributions that are installed because of a requirement, with itself."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        current, wanted = waiting.pop()
        plain = re.sub(r"[-_.]+", "-", current).lower()
        try:
            requires = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        if plain in found and not wanted:
            continue
        found.add(plain)
        for text in requires:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *wanted)]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(each) for each in environments):
                waiting.append((requirement.name, tuple(requirement.extras)))
    return found


def licence_of(name: str) -> str:
    about = metadata.metadata(name)
    classifiers = [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
    stated = about.get("License-Expression") or about.get("License") or ""
    return KNOWN.get(name) or " ".join([stated.splitlines()[0] if stated else "", *classifiers])


def test_licences_are_permissive():
    tree = needed("jaxmap", EXTRAS)
    assert {"jax", "numpy", "astropy", "h5py", "scipy", "jaxlib"} <= tree and len(tree) > 25
    licences = {name: licence_of(name) for name in sorted(tree)}
    wrong = {
        name: licence
        for name, licence in licences.items()
        if COPYLEFT.search(licence) or not PERMISSIVE.search(licence)
    }
    assert wrong == {}


def test_the_patterns_tell_licences_apart():
    for licence in ("MIT License", "BSD-3-Clause", "Apache-2.0", "PSF-2.0"):
        assert PERMISSIVE.search(licence) and not COPYLEFT.search(licence)
    for licence in ("GPL-3.0-only", "GNU AGPL v3", "SSPL-1.0"):
        assert COPYLEFT.search(licence)
