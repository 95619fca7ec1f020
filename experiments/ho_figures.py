"""Figures 3 and 5 of Ho et al. (2019): what the networks see, and how their loss falls.

Six synthetic clusters of evenly spaced masses (not MDPL2) with their one- and two-dimensional
densities, and the loss of CNN1D and CNN2D over the 20 epochs of one fold.

Writes results/ho_figures.json and .png.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import arguments, new_figure, save
from dynamics_published import LABELS

from jaxmap.dynamics.cnn import DEFAULT, fit_cnn
from jaxmap.dynamics.images import images_of
from jaxmap.dynamics.members import ClusterMembers, select
from jaxmap.dynamics.mock_recipe import flat_masses
from jaxmap.dynamics.mocks import mock_clusters

NETWORKS = {"cnn1d": False, "cnn2d": True}
APERTURE_MPC_H, CUT_KM_S = 1.6, 2200.0


def main() -> None:
    options = arguments(__doc__)
    num, epochs = (120, 10) if options.quick else (1500, 20)
    keys = jax.random.split(jax.random.key(options.seed), 4)
    shown = mock_clusters(keys[0], np.linspace(13.75, 15.25, 6)).contaminated
    clusters = mock_clusters(keys[1], flat_masses(keys[2], num)).contaminated
    figures: dict[str, Any] = {"clusters": len(clusters), "epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        for name, with_radius in NETWORKS.items():
            place = Path(folder) / name
            preset = DEFAULT._replace(num_epochs=epochs)
            fit_cnn(
                keys[3],
                clusters,
                with_radius=with_radius,
                preset=preset,
                num_networks=1,
                folder=place,
            )
            lines = (place / "network0" / "log.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
            domain = clusters.log10_mass.max() - clusters.log10_mass.min()
            figures[name] = {
                "epoch": [row["step"] for row in rows],
                "training_loss": [row["train"]["loss"] for row in rows],
                "validation_loss": [(row["validation"]["rms"] / domain) ** 2 for row in rows],
            }
    save(options, "ho_figures", figures)
    draw(options.out / "ho_figures.png", shown, figures)


def draw(path: Path, shown: ClusterMembers, figures: dict[str, Any]) -> None:
    figure = new_figure(15, 7.5)
    grid = figure.add_gridspec(3, 6, height_ratios=(1, 2, 2))
    order = np.argsort(shown.log10_mass)
    profiles, images = (
        images_of(shown, with_radius, APERTURE_MPC_H, CUT_KM_S) for with_radius in (False, True)
    )
    velocity = (np.arange(profiles.shape[1]) + 0.5) * 2 * CUT_KM_S / profiles.shape[1] - CUT_KM_S
    for column, number in enumerate(order[:6]):
        one = select(shown, [number])
        axes = figure.add_subplot(grid[0, column])
        axes.plot(velocity, profiles[number, :, 0])
        axes.set(title=f"log10 M = {one.log10_mass[0]:.2f}", yticks=[], xlim=(-CUT_KM_S, CUT_KM_S))
        axes = figure.add_subplot(grid[1, column])
        axes.imshow(
            images[number].T,
            origin="lower",
            extent=(-CUT_KM_S, CUT_KM_S, 0, APERTURE_MPC_H),
            aspect="auto",
            cmap="Greys",
        )
        for member, colour in ((True, "C0"), (False, "C3")):
            chosen = one.member == member
            axes.plot(one.velocity_km_s[chosen], one.radius_mpc_h[chosen], ".", ms=3, color=colour)
        axes.set(xlabel="velocity [km/s]", xlim=(-CUT_KM_S, CUT_KM_S), ylim=(0, APERTURE_MPC_H))
        if column == 0:
            axes.set(ylabel="radius [Mpc/h]")
    for place, name in zip((slice(0, 3), slice(3, 6)), NETWORKS, strict=True):
        axes = figure.add_subplot(grid[2, place])
        rows = figures[name]
        axes.plot(rows["epoch"], rows["training_loss"], "o-", label="training, with dropout")
        axes.plot(rows["epoch"], rows["validation_loss"], "o-", label="held out")
        axes.set(
            title=f"Fig. 5: {LABELS[name]}",
            xlabel="epoch",
            ylabel="mean square error",
            yscale="log",
        )
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
