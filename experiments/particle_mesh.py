"""Particle-mesh light cones against halofit and the halo-model light cone.

Small boxes, for a CPU: 80^3 particles in 100 Mpc/h, sources of COSMOS, dark matter only. Power of
the density planes by wave number, power and skewness of the maps. Writes results/particle_mesh.json
and particle_mesh.png. Needs jaxpm.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save

from jaxmap.cosmology import convergence_power
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18, matter_power
from jaxmap.operators import gaussian_smooth
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.build_particle_mesh import build_particle_mesh
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.simulation.particle_mesh import ParticleMesh, map_of_planes, matter_planes
from jaxmap.simulation.shells import interpolated_power
from jaxmap.spectra import map_power

BOX, THICKNESS, MESH = 100.0, 100.0, 80
FIELD, SKY = Grid((100, 100), 2.0), Grid((200, 200), 2.0)
SMOOTHING = (4.0, 8.0)
MARGIN = 16  # pixels at the border that smoothing has filled from the opposite side
NYQUIST_EDGES = np.array([0.04, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6])
EDGES = np.array([200, 300, 420, 600, 850, 1200, 1700, 2400.0])


def main() -> None:
    options = arguments(__doc__)
    num_boxes, views, mesh = (3, 4, 32) if options.quick else (8, 12, MESH)
    cone = build_particle_mesh(box=BOX, mesh=mesh, thickness=THICKNESS)
    project = jax.jit(matter_planes)
    view = jax.jit(map_of_planes, static_argnums=3)
    jax.block_until_ready(project(jax.random.key(options.seed), cone))
    planes_power, maps, seconds = [], [], []
    for number in range(num_boxes):
        key = jax.random.fold_in(jax.random.key(options.seed), number)
        begun = time.process_time()
        planes = jax.block_until_ready(project(key, cone))
        seconds.append(time.process_time() - begun)
        planes_power.append(power_over_halofit(np.asarray(planes, float), cone))
        keys = jax.random.split(jax.random.fold_in(key, 1), views)
        maps.append(np.stack([view(k, planes, cone, FIELD) for k in keys]))

    halo = build_light_cone(SKY, baryons=None, pixel_window=False)
    simulate = jax.jit(lambda key: halo_light_cone(key, halo, SKY))
    halo_maps = []
    for number in range(num_boxes * views // 3):
        sky = np.asarray(simulate(jax.random.fold_in(jax.random.key(options.seed + 1), number)))
        fields = sky.reshape(2, 100, 2, 100).transpose(0, 2, 1, 3).reshape(4, 100, 100)
        halo_maps.append(fields)
    figures = {
        "box_mpc_h": BOX,
        "mesh": mesh,
        "num_boxes": num_boxes,
        "views_per_box": views,
        "cpu_seconds_per_box": float(np.mean(seconds)),
        "planes": plane_figures(planes_power),
        "maps": {
            "ell_edges": EDGES.tolist(),
            "particle_mesh": power_figures(maps),
            "halo_model": power_figures(halo_maps),
        },
        "skewness": skewness_figures({"particle_mesh": maps, "halo_model": halo_maps}),
    }
    save(options, "particle_mesh", figures)
    draw(options.out / "particle_mesh.png", figures, maps[0][0], halo_maps[0][0])


def power_over_halofit(planes: np.ndarray, cone: ParticleMesh) -> np.ndarray:
    """Power of the whole slabs over that of matter, in bands of the Nyquist wave number."""
    matter = matter_power(PLANCK18)
    m = cone.plane_mesh
    index = np.fft.fftfreq(m, 1 / m)
    k = 2 * np.pi / BOX * np.hypot(index[:, None], index[None, :])
    band = np.digitize(k, NYQUIST_EDGES * np.pi * cone.mesh / BOX) - 1
    rows = []
    for number in np.flatnonzero(np.asarray(cone.width) == THICKNESS):
        power = np.abs(np.fft.fft2(planes[number])) ** 2 * (BOX / m**2) ** 2 * THICKNESS
        theory = interpolated_power(matter, np.maximum(k, 1e-3), float(cone.z[number]))
        rows.append(
            [
                power[band == b].mean() / theory[band == b].mean()
                for b in range(len(NYQUIST_EDGES) - 1)
            ]
        )
    return np.asarray(rows)


def plane_figures(power: list[np.ndarray]) -> dict[str, Any]:
    """Mean ratio over boxes and slabs, with the standard error between boxes."""
    per_box = np.mean(power, axis=1)
    columns = [mean_and_error(column) for column in per_box.T]
    return {
        "k_over_nyquist_edges": NYQUIST_EDGES.tolist(),
        "power_over_halofit": [value for value, _ in columns],
        "standard_error": [error for _, error in columns],
    }


def power_figures(maps: list[np.ndarray]) -> dict[str, list[float]]:
    """Band powers over the theory's: means of independent boxes, and errors between them."""
    n, edge = FIELD.shape[0], FIELD.shape[0] // 5
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    window = np.concatenate([ramp, np.ones(n - 2 * edge), ramp[::-1]])
    window = window[:, None] * window[None, :]
    theory, ell = convergence_power(), np.abs(np.asarray(FIELD.ell()))
    expected = np.asarray(theory(jnp.asarray(ell)))
    band = np.digitize(ell, EDGES) - 1
    expected = np.asarray([expected[band == b].mean() for b in range(len(EDGES) - 1)])
    powers = []
    for fields in maps:
        fields = (fields - fields.mean(axis=(1, 2), keepdims=True)) * window
        per_field = [map_power(jnp.asarray(field), FIELD, EDGES)[1] for field in fields]
        powers.append(np.mean(per_field, axis=0) / np.mean(window**2) / expected)
    columns = [mean_and_error(column) for column in np.asarray(powers).T]
    return {
        "over_theory": [value for value, _ in columns],
        "standard_error": [error for _, error in columns],
    }


def skewness_figures(simulations: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Pooled skewness of smoothed fields, each less its mean; errors by jackknife over boxes."""
    figures: dict[str, Any] = {}
    for arcmin in SMOOTHING:
        smooth = jax.jit(jax.vmap(lambda field, s=arcmin: gaussian_smooth(field, FIELD, s)))
        figures[f"{arcmin:g} arcmin"] = {}
        for name, maps in simulations.items():
            moments = []
            for fields in maps:
                part = np.asarray(smooth(jnp.asarray(fields)), float)
                part = part[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
                part = part - part.mean(axis=(1, 2), keepdims=True)
                moments.append([np.mean(part**2), np.mean(part**3)])
            value, error = pooled_skewness(np.asarray(moments))
            figures[f"{arcmin:g} arcmin"][name] = {"value": value, "standard_error": error}
    return figures


def pooled_skewness(moments: np.ndarray) -> tuple[float, float]:
    n = len(moments)

    def skewness(sample: np.ndarray) -> float:
        second, third = sample.mean(axis=0)
        return float(third / second**1.5)

    left_out = [skewness(np.delete(moments, i, axis=0)) for i in range(n)]
    return skewness(moments), float(np.sqrt((n - 1) * np.var(left_out)))


def draw(path: Path, figures: dict, mesh_map: np.ndarray, halo_map: np.ndarray) -> None:
    figure = new_figure(15, 3.8)
    planes, power, *pictures = figure.subplots(1, 4)
    row = figures["planes"]
    middle = np.sqrt(NYQUIST_EDGES[1:] * NYQUIST_EDGES[:-1])
    planes.errorbar(middle, row["power_over_halofit"], row["standard_error"], fmt="o")
    planes.axhline(1, color="0.7")
    planes.set(xlabel="k / Nyquist", ylabel="power of planes / halofit", ylim=(0, 1.4))
    ell = np.sqrt(EDGES[1:] * EDGES[:-1])
    for name, label in (("particle_mesh", "particle mesh"), ("halo_model", "halo model")):
        row = figures["maps"][name]
        power.errorbar(ell, row["over_theory"], row["standard_error"], fmt="o", label=label)
    power.axhline(1, color="0.7")
    power.set(xlabel="multipole", ylabel="power of maps / theory", ylim=(0, 1.4))
    power.legend(frameon=False)
    side = FIELD.shape[0] * FIELD.pixel_arcmin / 60
    for axes, field, name in zip(
        pictures, (mesh_map, halo_map), ("particle mesh", "halo model"), strict=True
    ):
        extent = (0, side, 0, side)
        axes.imshow(field, origin="lower", extent=extent, cmap="inferno", vmin=-0.03, vmax=0.06)
        axes.set_title(name)
        axes.set_xlabel("degrees")
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
