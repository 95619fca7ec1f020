"""Kaiser-Squires and the exact Wiener filter on the public benchmark (Remy et al., Table 1).

Writes results/table1.json. The scatter between noise draws comes from new noise on the true map.
The case's shear was made as two real maps, and so its operator is that of `two_map_phase`. With it,
three solvers of the Wiener equation are compared with the solution stored with the case; and, as a
control, one with the unitary phase, which is another operator on the Nyquist row and column of an
even grid, and only there.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, real_data, save

from jaxmap.benchmark import read_case, score
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.metrics import accuracy_observed
from jaxmap.operators import shear_from_convergence, spin2_phase, two_map_phase
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance, read_power_spectrum
from jaxmap.wiener_solvers import solve_messenger, solve_proximal

PUBLISHED = {"ks": (2.40e-2, 0.57), "wiener": (2.31e-2, 0.61)}


def main() -> None:
    options = arguments(__doc__)
    jax.config.update("jax_enable_x64", True)
    case = read_case(real_data(options) / "ktng" / "table1.npz")
    spectrum = read_power_spectrum(real_data(options) / "ktng" / "power_spectrum.npy")
    estimators = {
        "ks": KaiserSquires(1.0, margin=0),
        "wiener": Wiener(
            spectrum, num_samples=10 if options.quick else 200, margin=0, phase=two_map_phase
        ),
    }
    methods = score(case, estimators, jax.random.key(options.seed))
    for name, (rmse, r) in PUBLISHED.items():
        methods[name] |= {"published_rmse_A": rmse, "published_r_A": r}
    figures = {
        "methods": methods,
        "noise_draws": noise_draws(options, case, spectrum),
        "solvers": solvers(options, case, spectrum),
    }
    save(options, "table1", figures)


def noise_draws(options, case, spectrum) -> dict[str, dict[str, float]]:
    """Metric C over other draws of the noise: mean and scatter, and of paired differences."""
    num_draws = 3 if options.quick else 40
    weight = case.shear.weight
    std = jnp.where(weight > 0, 1 / jnp.sqrt(jnp.where(weight > 0, weight, 1)), 0)
    clean = shear_from_convergence(case.truth, case.shear.grid, two_map_phase)
    found: dict[str, list] = {"ks": [], "wiener": []}
    for number in range(num_draws):
        key = jax.random.fold_in(jax.random.key(options.seed), number)
        noise = jax.lax.complex(*(std * jax.random.normal(key, std.shape)))
        data = replace(case.shear, shear=jnp.where(case.shear.mask, clean + noise, 0))
        for name, estimator in (
            ("ks", KaiserSquires(1.0, margin=0)),
            ("wiener", Wiener(spectrum, num_samples=0, margin=0, phase=two_map_phase)),
        ):
            result = estimator(key, data)
            found[name].append(accuracy_observed(result.convergence, case.truth, data.mask))
    found["wiener_minus_ks"] = list(np.asarray(found["wiener"]) - np.asarray(found["ks"]))
    return {
        name: {
            "num_draws": num_draws,
            **{
                f"{quantity}_{statistic}": float(function(np.asarray(rows, float)[:, column]))
                for column, quantity in enumerate(("rmse_C", "r_C"))
                for statistic, function in (("mean", np.mean), ("std", np.std))
            },
        }
        for name, rows in found.items()
    }


def solvers(options, case, spectrum) -> dict[str, dict[str, float]]:
    """Every solver against the stored solution and against conjugate gradients; the control."""
    with np.load(real_data(options) / "ktng" / "table1.npz") as file:
        # The public files do not have it: then only the solvers are compared with each other.
        stored = file.get("wiener")
    prior = GaussianPrior(mode_variance(spectrum, case.shear.grid))
    tolerance = 1e-4 if options.quick else 1e-7
    rows, reference = {}, None
    for name, solver, phase in (
        ("conjugate_gradient", solve_conjugate_gradient, two_map_phase),
        ("messenger", solve_messenger, two_map_phase),
        ("proximal", solve_proximal, two_map_phase),
        ("conjugate_gradient_with_unitary_phase", solve_conjugate_gradient, spin2_phase),
    ):
        solved = jax.jit(solver, static_argnames=("phase", "tolerance"))
        convergence, info = solved(case.shear, prior, phase=phase, tolerance=tolerance)
        reference = convergence if reference is None else reference
        rows[name] = {
            "iterations": int(info.iterations),
            "residual": float(info.residual),
            "relative_to_conjugate_gradient": relative(convergence, reference),
        }
        if stored is not None:
            rows[name] |= {
                "relative_to_stored": relative(convergence, stored),
                "relative_to_stored_off_nyquist": relative(
                    off_nyquist(convergence), off_nyquist(stored)
                ),
            }
    return rows


def off_nyquist(field: np.ndarray) -> jax.Array:
    ny, nx = field.shape
    return jnp.fft.fft2(field).at[ny // 2].set(0).at[:, nx // 2].set(0)


def relative(field: jax.Array, reference: jax.Array) -> float:
    return float(jnp.linalg.norm(field - reference) / jnp.linalg.norm(reference))


if __name__ == "__main__":
    main()
