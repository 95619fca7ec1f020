"""What a folder of simulations holds, said in ``simulation.json``: no other may be added to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax

import jaxmap
from jaxmap.arrayfiles import read_json
from jaxmap.files import atomic_path
from jaxmap.simulation.recipe import MapRecipe, recipe_from_dict, recipe_to_dict

INDEX = "simulation.json"
_IDENTITY = ("holds", "jaxmap", "precision", "recipe", "survey")


def identity(holds: str, recipe: MapRecipe, survey: dict[str, Any] | None = None) -> dict[str, Any]:
    """All that must agree for simulations to belong together, as JSON can hold it.

    Args:
        holds: ``maps`` or ``surveys``.
        recipe: of the maps.
        survey: description of the mock survey, if any.
    """
    precision = "float64" if jax.config.read("jax_enable_x64") else "float32"
    described = {
        "holds": holds,
        "jaxmap": jaxmap.__version__,
        "precision": precision,
        "recipe": recipe_to_dict(recipe),
        "survey": survey,
    }
    return json.loads(json.dumps(described))  # as it will be read: tuples become lists


def check_folder(folder: Path, wanted: dict[str, Any], resume: bool) -> bool:
    """Whether a folder holds simulations of this identity, to be completed.

    Raises:
        ValueError: if it holds others, or any without ``resume``, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another folder with --out")
    if not (folder / INDEX).exists():
        if any(folder.glob("maps-*.h5")) or any(folder.glob("field-*")):
            raise ValueError(
                f"{folder} holds simulations, but no {INDEX} that says which; choose another "
                "folder with --out"
            )
        return False
    if not resume:
        raise ValueError(
            f"{folder} holds simulations; add --resume to complete or extend them, or choose "
            "another folder with --out"
        )
    difference = first_difference(read_index(folder), wanted)
    if difference:
        raise ValueError(
            f"the simulations in {folder} were made with {difference}; choose another folder with "
            "--out"
        )
    return True


def first_difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting in which two identities differ, in words."""
    for name in _IDENTITY:
        found = _difference(stored.get(name), wanted.get(name), name)
        if found:
            return found
    return None


def _difference(stored: Any, wanted: Any, name: str) -> str | None:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        below = (
            _difference(stored.get(key), wanted.get(key), f"{name}.{key}")
            for key in sorted(stored.keys() | wanted.keys())
        )
        return next(filter(None, below), None)
    if stored == wanted:
        return None
    if isinstance(stored, list | str) and len(f"{stored}{wanted}") > 80:
        return f"another {name}"
    return f"{name} = {stored}, not {wanted}"


def read_index(folder: Path) -> dict[str, Any]:
    """The record in ``simulation.json``: the identity, and ``made_by``.

    Raises:
        ValueError: if there is none, or it is not one of ours.
    """
    path = folder / INDEX
    try:
        record = read_json(path)
        recipe_from_dict(record["recipe"])
        if record["holds"] not in ("maps", "surveys"):
            raise ValueError(f"it holds {record['holds']!r}")
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no {INDEX}; expected a folder of `jaxmap simulate`"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not describe simulations of jaxmap ({error}); choose another folder with "
            "--out"
        ) from error
    return record


def write_index(folder: Path, record: dict[str, Any]) -> None:
    """Write ``simulation.json`` whole, making the folder.

    Raises:
        ValueError: if the folder cannot be written to.
    """
    try:
        with atomic_path(folder / INDEX) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"cannot write in {folder} ({error.strerror}); choose another folder with --out"
        ) from error
