"""Effect of the number of posterior samples on their mean and on their standard deviation.

The last figure of Whitney et al. (2024), for jaxmap's default sampler: fields of the halo light
cone behind the middle of the COSMOS mask with its noise. Means of n samples err by more than the
posterior mean does, by the spread of samples over the root of n; where samples are spread as the
truth is about their mean,

    mse(n) / mse(all) = (1 + 1/n) / (1 + 1/all)

Writes results/number_of_samples.json and .png.

- rmse: of the mean of n samples, root of the mean square over fields and over disjoint groups of
  samples, with its standard error over fields; observed pixels, the mean of each map taken off.
- ideal: the same by the formula, from the mean of all samples.
- std_scatter: relative rms difference of the standard deviation of n samples from that of all.
- one_shot_gap: mean square of what the mean of all samples is off the denoiser's own posterior
  mean, one evaluation (DeepMass), in units of the samples' variance; less 1/all, that of chance.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from common import arguments, mean_and_error, new_figure, save
from cosmos_fields import cosmos_fields

from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import DeepMass, SampledPosterior

SIDE = 64


def main() -> None:
    options = arguments(__doc__)
    num, most = (2, 8) if options.quick else (8, 64)
    denoiser, domain, header = read_denoiser()
    fields = cosmos_fields(options, SIDE)
    estimator = SampledPosterior(denoiser, num_samples=most, domain=domain, margin=0)
    one_shot = DeepMass(denoiser, domain, margin=0)
    errors, scatters, gaps = [], [], []
    for number in range(num):
        key_field, key_map = jax.random.split(
            jax.random.fold_in(jax.random.key(options.seed), number)
        )
        truth, shear = fields(key_field)
        mask = np.asarray(shear.mask)
        samples = np.asarray(estimator(key_map, shear).samples)
        if number == 0:
            shown = (np.asarray(truth), samples)
        centred = samples[:, mask] - samples[:, mask].mean(axis=1, keepdims=True)
        residual = centred - (np.asarray(truth)[mask] - np.asarray(truth)[mask].mean())
        errors.append([square_error(residual, n) for n in counts(most)])
        scatters.append([std_scatter(samples[:, mask], n) for n in counts(most)])
        once = np.asarray(one_shot(key_map, shear).convergence)[mask]
        gaps.append(square_gap(samples[:, mask], once))
        print(f"field {number}", flush=True)
    figures: dict[str, Any] = {
        "side": SIDE,
        "fields": num,
        "weights": header["sha256"],
        "one_shot_gap": dict(zip(("value", "error"), mean_and_error(np.array(gaps)), strict=True)),
        "by_number": summary(np.array(errors), np.array(scatters), most),
    }
    save(options, "number_of_samples", figures)
    draw(options.out / "number_of_samples.png", figures["by_number"], *shown)


def counts(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length())]


def square_error(residual: np.ndarray, n: int) -> float:
    """Mean square error of means of n samples over disjoint groups, from ``(most, pixels)``."""
    means = residual.reshape(len(residual) // n, n, -1).mean(axis=1)
    return float(np.mean(means**2))


def std_scatter(samples: np.ndarray, n: int) -> float:
    """Relative rms error of the std of n samples, over disjoint groups; NaN for one sample."""
    if n == 1:
        return float("nan")
    groups = samples.reshape(len(samples) // n, n, -1).std(axis=1, ddof=1)
    return float(np.sqrt(np.mean((groups / samples.std(axis=0, ddof=1) - 1) ** 2)))


def square_gap(samples: np.ndarray, once: np.ndarray) -> float:
    """Of the mean of samples from one map, in units of their variance, less that of chance."""
    gap = samples.mean(axis=0) - once
    return float(np.mean((gap - gap.mean()) ** 2 / samples.var(axis=0, ddof=1)) - 1 / len(samples))


def summary(errors: np.ndarray, scatters: np.ndarray, most: int) -> list[dict[str, float | None]]:
    """Rows by number of samples; errors and scatters of shape ``(fields, numbers)``."""
    rows = []
    for at, n in enumerate(counts(most)):
        mean, error = mean_and_error(errors[:, at])
        ideal = errors[:, -1].mean() * (1 + 1 / n) / (1 + 1 / most)
        rows.append(
            {
                "number": n,
                "rmse": float(np.sqrt(mean)),
                "rmse_error": float(error / (2 * np.sqrt(mean))),
                "ideal": float(np.sqrt(ideal)),
                "std_scatter": None if n == 1 else float(np.mean(scatters[:, at])),
            }
        )
    return rows


def draw(path: Any, rows: list[dict[str, Any]], truth: np.ndarray, samples: np.ndarray) -> None:
    figure = new_figure(12, 5.6)
    axes = figure.subplots(2, 4).ravel()
    numbers = [row["number"] for row in rows]
    axes[0].errorbar(
        numbers, [row["rmse"] for row in rows], [row["rmse_error"] for row in rows], fmt="o"
    )
    axes[0].plot(numbers, [row["ideal"] for row in rows], "k", lw=0.8)
    axes[0].set(xscale="log", xlabel="samples", title="rms error of their mean")
    limit = float(np.abs(truth).max())
    few, most = max(len(samples) // 16, 2), len(samples)
    maps = {"truth": truth, "one sample": samples[0], f"mean of {few}": samples[:few].mean(axis=0)}
    maps[f"mean of {most}"] = samples.mean(axis=0)
    for axis, (name, one) in zip(axes[1:5], maps.items(), strict=True):
        axis.imshow(one, origin="lower", cmap="magma", vmin=-limit / 3, vmax=limit)
        axis.set(title=name)
    spreads = {n: samples[:n].std(axis=0, ddof=1) for n in (few, max(most // 4, 3), most)}
    for axis, (n, one) in zip(axes[5:], spreads.items(), strict=True):
        axis.imshow(one, origin="lower", cmap="magma", vmin=0, vmax=spreads[most].max())
        axis.set(title=f"std of {n}")
    for axis in axes[1:]:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
