"""Are the workers of a scheduler fit for a run? Asked first: one that is not fails what it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxmap.survey.plan import Plan, read_plan

_SAME = ("jaxmap",)
_NEARLY = ("jax", "python")


def require_fit_workers(client: Any, plan: Plan) -> list[str]:
    """Refuse workers that have another jaxmap, or do not see the folder of the run.

    Args:
        client: ``distributed.Client`` of a scheduler with workers.
        plan: of the run.

    Returns:
        What may make results differ in their last bits, in words.

    Raises:
        ValueError: naming the worker, what it has, and what to do.
        OSError: if the scheduler does not answer any more.
    """
    versions = client.get_versions(packages=["jaxmap", "jax"])
    here = versions["client"]["packages"]
    for address, found in versions["workers"].items():
        for name in _SAME:
            there = found["packages"].get(name)
            if there != here[name]:
                raise ValueError(
                    f"worker {address} has {name} {there or 'nowhere'}, and this command "
                    f"{here[name]}; install that version where workers run, or start workers "
                    "without this one"
                )
    folder = str(plan.folder.absolute())
    for address, digest in client.run(_digest_at, folder, on_error="return").items():
        if isinstance(digest, OSError):  # it has gone meanwhile
            continue
        if digest != plan.digest:
            what = digest if isinstance(digest, Exception) else "it holds another plan"
            raise ValueError(
                f"worker {address} does not see the run in {folder} ({what}); put the run on a "
                "file system that all workers share, at the same path"
            )
    others = {
        f"{name} {there}, here {here[name]}"
        for found in versions["workers"].values()
        for name in _NEARLY
        if (there := found["packages"].get(name)) != here[name]
    }
    return sorted(others)


def _digest_at(folder: str) -> str:
    return read_plan(Path(folder)).digest
