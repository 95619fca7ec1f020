"""Figures 3, 4 and E.1 of Remy et al. (2023): a denoised map, n(z), signal against noise.

Writes results/remy_figures.json, remy_fig3.png, remy_fig4.png and remy_figE1.png. The map of
Fig. 3 is the benchmark's, with white noise of 0.15 a pixel on the convergence itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, real_data, save

from jaxmap.benchmark import read_case
from jaxmap.cosmology import convergence_power
from jaxmap.denoiser_files import read_denoiser
from jaxmap.grid import ARCMIN
from jaxmap.hybrid_prior import DenoiserPrior
from jaxmap.prior import GaussianPrior
from jaxmap.redshifts import cosmos_redshifts
from jaxmap.spectra import mode_variance

LEVEL = 0.15
SHAPE_NOISE = 0.305
"""Per component, of the COSMOS catalogue (`jaxmap.simulation.presets.COSMOS_LIKE`)."""
DENSITY_ARCMIN2 = {"per unmasked area": 71.7, "as the paper counts": 64.2}


def main() -> None:
    options = arguments(__doc__)
    figures = {
        "figure_3": denoised(options),
        "figure_4": redshifts(options),
        "figure_E1": signal_to_noise(options),
    }
    save(options, "remy_figures", figures)


def denoised(options) -> dict[str, float]:
    """Rms errors of the Gaussian and the learned denoiser; the noise is white on the map."""
    case = read_case(real_data(options) / "ktng" / "table1.npz")
    side = 96 if options.quick else 360
    truth = case.truth[:side, :side]
    truth = truth - jnp.mean(truth)
    grid = type(case.shear.grid)((side, side), case.shear.grid.pixel_arcmin)
    denoiser, _, _ = read_denoiser()
    noise = jax.random.normal(jax.random.key(options.seed), truth.shape, truth.dtype)
    noisy = truth + LEVEL * noise
    gaussian = GaussianPrior(mode_variance(denoiser.spectrum, grid)).denoise(noisy, LEVEL)
    learned = jax.jit(DenoiserPrior(denoiser, grid).denoise)(noisy, LEVEL)
    figure = new_figure(13, 3.6)
    panels = {"truth": truth, "noisy": noisy, "Gaussian": gaussian, "learned": learned}
    for axes, (name, field) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.imshow(field, origin="lower", cmap="magma", vmin=-0.05, vmax=0.1)
        axes.set(title=name, xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(options.out / "remy_fig3.png", dpi=110)

    def rms(field: jax.Array) -> float:
        return float(jnp.sqrt(jnp.mean(field**2)))

    errors = {name: rms(field - truth) for name, field in panels.items() if name != "truth"}
    return {
        "level": LEVEL,
        "rms_of_truth": rms(truth),
        **{f"rms_{k}": v for k, v in errors.items()},
    }


def redshifts(options) -> dict[str, float]:
    """The n(z) that jaxmap takes for COSMOS."""
    table = cosmos_redshifts()
    z, density = np.asarray(table.z), np.asarray(table.density)
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    axes.plot(z, density)
    axes.set(xlabel="redshift", ylabel="n(z)", title="COSMOS sources, digitised")
    figure.tight_layout()
    figure.savefig(options.out / "remy_fig4.png", dpi=110)
    steps = np.diff(z) * (density[1:] + density[:-1]) / 2
    cumulative = np.concatenate([[0], np.cumsum(steps)])
    return {
        "mean": float(np.sum(np.diff(z) * ((z * density)[1:] + (z * density)[:-1]) / 2)),
        "median": float(np.interp(cumulative[-1] / 2, cumulative, z)),
    }


def signal_to_noise(options) -> dict[str, dict[str, float]]:
    r"""C_l over the noise :math:`\sigma_e^2 / n` of one component, and where it is 1 and 0.1."""
    spectrum = convergence_power()
    ell = np.geomspace(100, 4e4, 400)
    signal = np.asarray(spectrum(ell))
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    found = {}
    for name, density in DENSITY_ARCMIN2.items():
        ratio = signal / (SHAPE_NOISE**2 / density * ARCMIN**2)
        axes.loglog(ell, ratio, label=f"{density} galaxies / arcmin$^2$, {name}")
        falling = np.log(ratio[::-1])
        found[name] = {
            "at_ell_1e4": float(np.interp(1e4, ell, ratio)),
            **{
                f"ell_of_{level:g}": float(np.interp(np.log(level), falling, ell[::-1]))
                for level in (1.0, 0.1)
            },
        }
    for level in (1, 0.1):
        axes.axhline(level, color="grey", lw=0.7)
    axes.set(xlabel=r"multipole $\ell$", ylabel="signal power over noise power")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(options.out / "remy_figE1.png", dpi=110)
    return found


if __name__ == "__main__":
    main()
