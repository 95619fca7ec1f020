"""Remy et al. (2023): Figures 1 to 11, C.1, E.1, F.1, G.1, Table 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from papers.item import Item, nothing, plus_error

TITLE = "Remy et al. 2023 (papers/002)"
NOISE = "one map and noise draw; "
EPS = "diffusion under the exact posterior score instead of annealed HMC"


def _score(row: dict[str, float]) -> str:
    return f"{row['rmse_A'] * 100:.2f}e-2, {row['r_A']:.2f}"


def _estimator(name: str) -> Callable[[Any], str]:
    return lambda figures: _score(figures["table1"][name])


def _power(power: dict[str, list[float]], one: str, other: str) -> str:
    """Range of the ratio of two of the spectra above ell = 1000."""
    rows = zip(power["ell"], power[one], power[other], strict=True)
    ratios = [value / expected for ell, value, expected in rows if ell > 1000]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _fig6(figures: Any) -> str:
    power = figures["table1"]["mean_of_samples"]["power"]
    return (
        f"power above ell = 1000, samples over the map: {_power(power, 'mean', 'truth')}, over "
        f"the theory: {_power(power, 'mean', 'prior')}; the map over the theory: "
        f"{_power(power, 'truth', 'prior')}"
    )


def _fig11(figures: Any) -> str:
    power = figures["cosmos"]["diagnostics"]["power"]
    return f"power above ell = 1000, samples over the theory: {_power(power, 'mean', 'prior')}"


def _fig9(figures: Any) -> str:
    rows = figures["eps"]["by_mass"]
    told = [f"{row['5_sigma'][0]:.2f} (S/N {row['snr'][0]:.1f})" for row in rows[1:]]
    return f"{figures['fields']} fields, share of samples above 5σ: " + ", ".join(told)


def _fig8(figures: Any) -> str:
    rows = {row["mass"]: row for row in figures["eps"]["by_mass"]}
    told = [f"{rows[mass]['3_sigma'][0]:.2f}" for mass in (0.0, 9e13, 3e14, 6e14)]
    return "share above 3σ at 0, 0.9, 3 and 6e14 Msun: " + ", ".join(told)


def _swiss_roll(figures: Any) -> str:
    wide = figures["swiss_roll"]["wide_noise"]
    rows = {name: wide[name]["sigma_0.1"] for name in ("no_limit", "limit_3", "limit_2")}
    told = (
        f"{row['steepness']:.1f}, {row['near']['relative_error']['value']:.2f}, "
        f"{row['far']['relative_error']['value']:.2f}, "
        f"{row['far']['scatter_between_trainings']:.3f} ({name.replace('_', ' ')})"
        for name, row in rows.items()
    )
    return (
        "steepness, relative error near the points and far, scatter between trainings far, at "
        "σ = 0.1: " + "; ".join(told)
    )


def _two_moons(figures: Any) -> str:
    row = figures["two_moons"]
    learned, exact = row["square_error_learned"], row["square_error_exact"]
    return f"square error {plus_error(learned)}, with the exact score {plus_error(exact)}"


def _annealing(figures: Any) -> str:
    row = figures["two_moons"]
    return (
        f"{row['finished']} of {row['num_chains']} chains arrive; energy distance z "
        f"{row['energy_distance_z']:.1f}, without annealing "
        f"{row['energy_distance_z_without_annealing']:.0f}"
    )


def _gaussian(figures: Any) -> str:
    row = figures["samplers"]["eps, 12 evaluations"]
    return (
        f"std over exact {row['std_observed']['value']:.4f} (observed), "
        f"{row['std_masked']['value']:.4f} (masked); bias in std "
        f"{max(row['bias'].values()):.0e}"
    )


ITEMS: list[Item] = [
    Item("Fig. 1, two moons denoised", "score_toys.py",
         ("score_toys.json", "score_toys.png"), "picture", _two_moons, "same experiment"),
    Item("Fig. 2, annealing on two moons", "annealing.py",
         ("annealing.json", "annealing.png"), "picture", _annealing,
         "same; also judged by an energy distance"),
    Item("Fig. 3, Gaussian and learned denoiser", "remy_figures.py",
         ("remy_figures.json", "remy_fig3.png"), "picture",
         lambda f: f"rms error {f['figure_3']['rms_Gaussian']:.4f} (Gaussian), "
         f"{f['figure_3']['rms_learned']:.4f} (learned), rms of the map "
         f"{f['figure_3']['rms_of_truth']:.4f}",
         "ours is one network for both parts, trained on the halo light cone, not on kTNG"),
    Item("Fig. 4, n(z) of COSMOS", "remy_figures.py",
         ("remy_figures.json", "remy_fig4.png"), "picture",
         lambda f: f"mean {f['figure_4']['mean']:.2f}, median {f['figure_4']['median']:.2f}",
         "digitised; the redshifts of the catalogue are not among the public files"),
    Item("Fig. 5, Wiener filter and samples of a Gaussian prior", "gaussian_samplers.py",
         ("gaussian_samplers.json", "gaussian_samplers.png"), "agree", _gaussian,
         f"{EPS}; against the exact law, with controls"),
    Item("Fig. 6, power of the samples", "posterior.py",
         ("posterior.json", "posterior_power.png"),
         "agree with the kTNG map, which has less power than the theory at high ell", _fig6,
         "one map and noise draw; the theory is that of the shipped prior"),
    Item("Fig. 7, mean, std and samples", "posterior.py",
         ("posterior.json", "posterior_table1.png"), "error over std 1.16 (digitised)",
         lambda f: "error over std "
         f"{1 / f['table1']['mean_of_samples']['std_over_error']:.2f}",
         EPS),
    Item("Fig. 8, heights of filtered clusters", "cluster_detection.py",
         ("cluster_detection.json", "cluster_detection.png"),
         "the lower the mass, the nearer to the background", _fig8,
         "field of 192² pixels; background of fields without the cluster (Eq. 30)"),
    Item("Fig. 9, detections against S/N", "cluster_detection.py",
         ("cluster_detection.json", "cluster_detection.png"), "rises from 0 to 1", _fig9,
         "S/N as the paper defines it depends on the pixel"),
    Item("Fig. 10, COSMOS with X-ray clusters", "posterior.py",
         ("posterior.json", "posterior_cosmos.png"), "picture",
         lambda f: f"S/N at {f['cosmos']['clusters']['num_clusters']} clusters above random "
         f"places: {f['cosmos']['clusters']['e_mode_excess_sigma']:.1f}σ (E), "
         f"{f['cosmos']['clusters']['b_mode_excess_sigma']:.1f}σ (B)",
         "tangent plane, north up; the released Kaiser-Squires panel has an extra noise draw"),
    Item("Fig. 11, power of COSMOS samples", "posterior.py",
         ("posterior.json", "posterior_power.png"), "agree with simulations", _fig11,
         "samples are too smooth far from all data, in the margin around the field"),
    Item("Fig. C.1, spectral normalisation", "score_toys.py",
         ("score_toys.json", "score_toys.png"), "picture", _swiss_roll,
         "same experiment: the limit makes scores smoother and more alike, and less accurate"),
    Item("Fig. E.1, signal against noise", "remy_figures.py",
         ("remy_figures.json", "remy_figE1.png"), "0.1 at ell = 1e4",
         lambda f: "0.1 at ell = "
         f"{f['figure_E1']['as the paper counts']['ell_of_0.1']:.0f}, "
         f"{f['figure_E1']['per unmasked area']['ell_of_0.1']:.0f} with the density per "
         "unmasked area", "the paper divides the galaxies by the bounding box"),
    Item("Fig. F.1, stamps of samples", "cluster_detection.py",
         ("cluster_detection.json", "cluster_detection_stamps.png"), "picture", nothing,
         "as Fig. 8"),
    Item("Fig. G.1, all methods", "estimators.py",
         ("estimators.json", "estimators_g1.png"), "picture", nothing,
         "as Table 1; `deepmass` of the third of four trainings"),
    Item("Table 1, Kaiser-Squires", "table1.py", ("table1.json",), "2.40e-2, 0.57",
         lambda f: _score(f["methods"]["ks"]), "same"),
    Item("Table 1, Wiener filter", "table1.py", ("table1.json",), "2.31e-2, 0.61",
         lambda f: _score(f["methods"]["wiener"]),
         "ours is the exact solution for this noise and mask"),
    Item("Table 1, GLIMPSE", "estimators.py", ("estimators.json",), "2.84e-2, 0.42 (3σ)",
         _estimator("glimpse"), "5σ, the best on other fields; " + NOISE + "metric A moves "
         "with the mean of the map"),
    Item("Table 1, MCALens", "estimators.py", ("estimators.json",), "2.19e-2, 0.67 (5σ)",
         _estimator("mcalens"), "solved to the optimum; on this map nothing passes 4σ"),
    Item("Table 1, DeepMass", "denoiser.py --table1", ("denoiser.json",), "2.18e-2, 0.68",
         _estimator("deepmass"), "trained on our simulations for any survey, not on kTNG"),
    Item("Table 1, DeepMass for one survey",
         "estimators.py --survey_deepmass runs/deepmass/deepmass_survey.npz --gan runs/gan/gan.npz",
         ("estimators.json",), "2.18e-2, 0.68", _estimator("deepmass, one survey"),
         "the published network and training, 3000 steps (`training/deepmass_benchmark.toml`), on "
         "our simulations, not on kTNG",
         "`jaxmap train experiments/training/deepmass_benchmark.toml --out runs/deepmass`, `jaxmap "
         "train experiments/training/gan_benchmark.toml --out runs/gan`"),
    Item("Table 1, mean of posterior samples", "posterior.py", ("posterior.json",),
         "2.16e-2, 0.68", lambda f: _score(f["table1"]["mean_of_samples"]),
         NOISE + EPS),
]  # fmt: skip
