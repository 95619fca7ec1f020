"""From the results of patches to maps of the whole survey, region by region of the sky.

At any time one region and the patches that touch it are held, never all patches, and of samples one
map at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from jaxmap.arrayfiles import read_arrays
from jaxmap.files import atomic_path
from jaxmap.machine import check_memory
from jaxmap.mapfiles import write_mass_map
from jaxmap.massmap import MassMap
from jaxmap.survey.blend import Blend, Places, places_on
from jaxmap.survey.healpix import cell_side_deg, healpix, place_of, power_of_two_nside
from jaxmap.survey.partial_maps import PartialMapWriter
from jaxmap.survey.patches import Patch
from jaxmap.survey.plan import FOOTPRINT, Plan
from jaxmap.survey.results import num_samples_of, patch_map, patch_results, samples_of

MAPS = "maps"
MERGED = {
    "KAPPA_E": "convergence.fits",
    "SIGMA": "std.fits",
    "SNR": "signal_to_noise.fits",
    "KAPPA_B": "b_mode.fits",
}
"""The merged maps, named as the extensions of `jaxmap.mapfiles.write_mass_map`."""

_REGION_PIXELS = 2**18
_CACHED = 24
"""Maps of patches that are kept at hand."""
_BYTES_PER_PIXEL = 600
"""Of a region: its places on the sky and on a patch, sums in float64, and where those pixels lie on
the patches that hold them (on nine at most, those of a cell and its neighbours)."""

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass
class Merged:
    """What a merge made.

    Attributes:
        num_pixels: of the merged map.
        nside: of its pixels.
        empty: patches without galaxies.
        absent: patches without any result.
        partial: patches of which chunks of samples are missing.
        damaged: patches whose results cannot be read, and why.
    """

    num_pixels: int = 0
    nside: int = 0
    empty: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    partial: list[int] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)


def merge_survey(
    plan: Plan,
    *,
    nside: int | None = None,
    num_samples: int = 0,
    write_patches: bool = True,
    provenance: dict[str, Any] | None = None,
    progress: Progress = lambda parts: parts,
) -> Merged:
    """Write maps of the survey into ``maps/`` of its run.

    The maps `MERGED`, as far as the method gives them, where there are galaxies within a few
    arcminutes; ``sample-0000.fits`` and so on, one posterior sample each; ``patch-0001234.fits``,
    the map of a patch as `jaxmap map` writes it.

    Args:
        plan: of the survey.
        nside: of the merged map, a power of two; by default its pixels are no wider than those of
            patches.
        num_samples: samples to merge; the run must have kept them.
        write_patches: whether to write the maps of patches.
        provenance: kept with them.
        progress: wraps the loops.

    Raises:
        ValueError: if nothing is there to be merged, too few samples, or too little memory.
    """
    folder, made = plan.folder / MAPS, Merged()
    made.nside = nside or power_of_two_nside(plan.tiling.pixel_arcmin / 60)
    if made.nside & (made.nside - 1) or made.nside < 1:
        raise ValueError(f"nside is {made.nside}; expected a power of two, such as 2048 (--nside)")
    check_merge_memory(plan, made.nside, num_samples)
    folder.mkdir(exist_ok=True)
    load = lru_cache(maxsize=_CACHED)(lambda patch: patch_map(plan, patch))
    patches = []
    for patch in progress(plan.tiling.patches):
        result = _usable(plan, patch, made, num_samples, load)
        if result is None:
            continue
        patches.append(patch)
        if write_patches:
            write_mass_map(folder / f"patch-{patch.number:07d}.fits", result, provenance)
    if not patches:
        raise ValueError(
            f"no patch of {plan.folder} has a map yet; expected some (jaxmap survey run)"
        )
    first = load(patches[0])
    assert first is not None
    names = ["KAPPA_E"]
    names += ["SIGMA", "SNR"] if first.std is not None else []
    names += ["KAPPA_B"] if first.b_mode is not None else []
    with ExitStack() as stack:

        def writer(file: str, name: str) -> PartialMapWriter:
            path = stack.enter_context(atomic_path(folder / file))
            return stack.enter_context(PartialMapWriter(path, made.nside, name, provenance))

        maps = {name: writer(MERGED[name], name) for name in names}
        samples = [writer(f"sample-{i:04d}.fits", "KAPPA_E") for i in range(num_samples)]
        for pixels, near in progress(list(_regions(plan, patches, made.nside))):
            _merge_region(plan, pixels(), near, load, maps, samples)
        made.num_pixels = maps["KAPPA_E"].num
    return made


def check_merge_memory(plan: Plan, nside: int, num_samples: int = 0) -> None:
    """Refuse a merge that needs more memory than there is.

    Args:
        plan: of the survey.
        nside: of the merged map.
        num_samples: samples to merge.

    Raises:
        ValueError: if it does, with the options that make it less.
    """
    patches = plan.tiling.patches
    near = max((len(near) for _, near in _regions(plan, patches, nside)), default=0)
    footprint = read_arrays(plan.folder / FOOTPRINT, names=("nside",))
    region = (nside // _region_nside(nside, int(footprint["nside"]))) ** 2
    size = 8 if plan.settings["x64"] else 4
    # Of patches: maps at hand, chunks while they are put together, means of all in a region, and
    # one sample of each.
    planes = min(_CACHED, len(patches)) * (4 * size + 1)
    planes += plan.num_chunks * (4 * size + 8)
    planes += near * size * (2 if num_samples else 1)
    check_memory(
        _BYTES_PER_PIXEL * region + planes * math.prod(plan.tiling.shape),
        f"a merge of {len(patches)} patches at nside {nside}",
        "give a smaller --nside, leave out --samples, or plan smaller patches (--patch-deg) in "
        "another folder",
        host=True,
    )


def _region_nside(nside: int, used_nside: int) -> int:
    return min(max(nside // int(math.sqrt(_REGION_PIXELS)), 1), used_nside)


def _usable(
    plan: Plan,
    patch: Patch,
    made: Merged,
    num_samples: int,
    load: Callable[[Patch], MassMap | None],
) -> MassMap | None:
    """The map of a patch, or None and a note of why there is none."""
    there = patch_results(plan, patch)
    if not there:
        made.absent.append(patch.number)
        return None
    try:
        result = load(patch)
        if result is not None and num_samples:
            _require_samples(plan, patch, num_samples)
    except OSError as error:
        made.damaged[patch.number] = str(error)
        return None
    if result is None:
        made.empty.append(patch.number)
    elif len(there) < plan.num_chunks:
        made.partial.append(patch.number)
    return result


def _require_samples(plan: Plan, patch: Patch, num: int) -> None:
    count = num_samples_of(plan, patch)
    if count < num:
        raise ValueError(
            f"patch {patch.number} has kept {count} samples; expected {num} or more: merge fewer "
            "(--samples), or plan with --keep-samples and run again"
        )


def _regions(
    plan: Plan, patches: Sequence[Patch], nside: int
) -> Iterator[tuple[Callable[[], np.ndarray], list[Patch]]]:
    """Pixels of regions of the footprint, ascending, and the patches that may hold them."""
    stored = read_arrays(plan.folder / FOOTPRINT)
    used, used_nside = stored["pixels"], int(stored["nside"])
    fine = healpix(used_nside)
    region_nside = _region_nside(nside, used_nside)
    regions = used // (used_nside // region_nside) ** 2
    # Farthest that a patch reaches from its centre, and a count pixel from its own.
    side = math.radians(plan.tiling.pixel_arcmin / 60)
    reach = math.atan(side * math.hypot(*plan.tiling.shape) / 2)
    nearest = math.cos(min(reach + math.radians(1.1 * cell_side_deg(used_nside)), math.pi))
    centres = _directions(*np.array([patch.centre_deg for patch in patches]).T)
    for region in np.unique(regions):
        members = used[regions == region]
        places = _directions(*place_of(fine, members))
        near = [
            patch
            for patch, centre in zip(patches, centres, strict=True)
            if np.max(places @ centre) > nearest
        ]
        if near:
            yield lambda members=members: _children(members, used_nside, nside), near  # type: ignore[misc]


def _children(pixels: np.ndarray, nside: int, wanted: int) -> np.ndarray:
    """Nested pixels of ``wanted`` in coarser (or the pixels that hold finer) ones, ascending."""
    if wanted <= nside:
        return np.unique(pixels // (nside // wanted) ** 2)
    count = (wanted // nside) ** 2
    return (np.sort(pixels)[:, None] * count + np.arange(count)[None]).ravel()


def _merge_region(
    plan: Plan,
    pixels: np.ndarray,
    near: list[Patch],
    load: Callable[[Patch], MassMap | None],
    writers: dict[str, PartialMapWriter],
    samples: list[PartialMapWriter],
) -> None:
    ra, dec = place_of(healpix(writers["KAPPA_E"].nside), pixels)
    blend, held = Blend(len(pixels)), []
    for patch in near:
        places = places_on(plan.tiling.grid(patch), plan.tiling.overlap_arcmin, ra, dec)
        result = load(patch) if places.used.any() else None
        if result is None:
            continue
        std = None if result.std is None else np.asarray(result.std, float) ** 2
        b_mode = None if result.b_mode is None else np.asarray(result.b_mode)
        mean = np.asarray(result.convergence)
        blend.add(places, {"KAPPA_E": mean, "SIGMA": std, "KAPPA_B": b_mode})
        held.append((patch, places, mean))
    maps = {name: blend.mean(name) for name in ("KAPPA_E", "SIGMA", "KAPPA_B")}
    found = {name: values for name, values in maps.items() if values is not None}
    if not found:
        return
    if "SIGMA" in found:
        sigma = np.sqrt(found["SIGMA"])
        found |= {"SIGMA": sigma, "SNR": found["KAPPA_E"] / np.where(sigma > 0, sigma, np.inf)}
    covered = pixels[blend.covered]
    for name, writer in writers.items():
        writer.write(covered, found[name])
    if samples:
        _merge_samples(plan, covered, found["KAPPA_E"], blend, held, samples)


def _merge_samples(
    plan: Plan,
    pixels: np.ndarray,
    mean: np.ndarray,
    blend: Blend,
    held: list[tuple[Patch, Places, np.ndarray]],
    writers: list[PartialMapWriter],
) -> None:
    scale = 1 / np.sqrt(blend.squared_weight[blend.covered])
    streams = [samples_of(plan, patch) for patch, _, _ in held]
    for writer, *draws in zip(writers, *streams, strict=False):
        total = np.zeros(len(blend.weight))
        for (_, places, centre), draw in zip(held, draws, strict=True):
            deviation = draw[places.rows, places.columns] - centre[places.rows, places.columns]
            total[places.used] += places.weight * deviation
        writer.write(pixels, mean + scale * total[blend.covered])


def _directions(ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    """Unit vectors, shape ``(n, 3)``."""
    a, d = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
