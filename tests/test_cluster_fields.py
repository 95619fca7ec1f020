"""Fields about clusters: their galaxies, peaks, symmetries and loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clusterskies import blobs, flat_sky

from jaxmap.cluster_network import PIXEL_ARCMIN
from jaxmap.grid import Grid
from jaxmap.networks.hong import BORDER
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.simulation.cluster_fields import (
    ClusterSky,
    ClusterSurvey,
    bin_cluster,
    draw_bright_stars,
    draw_cluster_galaxies,
    find_clusters,
)
from jaxmap.training.hong_task import Example, inner_loss, truth_of, turned
from jaxmap.training.layouts import symmetry


def test_turning_the_shear_turns_its_convergence():
    grid = Grid((15, 15), 1.0)
    sky = jax.random.normal(jax.random.key(0), grid.shape)
    noise = jax.lax.complex(*jax.random.normal(jax.random.key(1), (2, *grid.shape)))

    @jax.jit
    @jax.vmap
    def of_turned(number):
        shear = shear_from_convergence(sky, grid) + noise
        example = Example(jnp.stack([shear.real, shear.imag, sky]), sky)
        images, truth = turned(number, example)
        return (
            convergence_from_shear(jax.lax.complex(images[0], images[1]), grid).real,
            symmetry(number, convergence_from_shear(shear, grid).real),
            convergence_from_shear(symmetry(number, shear), grid).real,
            images[2] - truth,
        )

    found, expected, naive, others = of_turned(jnp.arange(8))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(others, 0)
    # The control: without the signs it fails, but for the identity and the half turn.
    wrong = np.abs(naive - expected).max(axis=(1, 2)) > 0.1
    assert wrong.tolist() == [number not in (0, 3) for number in range(8)]


def test_reduced_shear_of_galaxies_inside_and_outside_critical_curves():
    survey = ClusterSurvey(num_galaxies=20_000)
    for convergence, expected in ((0.2, 0.3 / 0.8), (2.0, -0.3), (1.2, -0.2 / 0.3), (1.0, 0.0)):
        sky = flat_sky(convergence, 0.3)
        drawn = draw_cluster_galaxies(jax.random.key(1), sky, survey)
        found = np.asarray(drawn.ellipticity)
        error = found.std() / len(found) ** 0.5
        assert abs(found.mean() - expected) < 5 * error
        assert abs(found.mean() - expected - 0.05) > 5 * error  # the control
    magnitudes = 1 / np.asarray(drawn.weight) - 0.24**2
    assert magnitudes.min() > 0 and magnitudes.max() < 0.4**2 * 1.0001


def test_skies_are_linear_between_pixels_and_truth_lies_on_the_output():
    y, x = 0.4 * (jnp.indices((84, 84)) - 41.5)
    sky = ClusterSky(0.01 * x + 0.003 * y, 0.02 * y - 0.01j * x, 0.4)
    at = jnp.asarray([1.234, -7.0]), jnp.asarray([3.3, 9.87])
    convergence, shear = sky.at(*at)
    np.testing.assert_allclose(convergence, 0.01 * at[0] + 0.003 * at[1], atol=1e-12)
    np.testing.assert_allclose(shear, 0.02 * at[1] - 0.01j * at[0], atol=1e-12)
    truth = truth_of(sky, Grid((500, 500), PIXEL_ARCMIN))
    assert truth.shape == (166, 166)
    pixels = 3 * PIXEL_ARCMIN * (np.arange(166) - 82.5)
    np.testing.assert_allclose(truth[80], 0.01 * pixels + 0.003 * pixels[80], atol=1e-12)


@pytest.mark.slow
def test_pixels_hold_every_galaxy_and_stars_take_some_away():
    survey = ClusterSurvey(num_galaxies=3000)
    field = Grid((500, 500), PIXEL_ARCMIN)
    stars = draw_bright_stars(jax.random.key(3), field, jnp.asarray(2.0), jnp.asarray(-3.0))
    drawn = draw_cluster_galaxies(jax.random.key(1), flat_sky(), survey, stars)
    clear = draw_cluster_galaxies(jax.random.key(1), flat_sky(), survey)
    data = bin_cluster(drawn, field)
    total = jnp.sum(drawn.weight * drawn.ellipticity)
    np.testing.assert_allclose(jnp.sum(data.weight[0] * data.shear), total, rtol=1e-6)
    assert data.counts.sum() == jnp.sum(drawn.weight > 0) < jnp.sum(clear.weight > 0)
    # One star lies within an arcminute of the place given.
    assert np.hypot(stars.x[-1] - 2, stars.y[-1] + 3) <= 1 and 0.5 <= stars.radius[-1] <= 2
    near = np.hypot(drawn.x - stars.x[-1], drawn.y - stars.y[-1]) < stars.radius[-1]
    assert near.any() and not np.any(np.asarray(drawn.weight)[near])


def test_clusters_are_the_highest_peaks_away_from_the_edges():
    pytest.importorskip("photutils")
    places = [(60, 60), (80, 70), (50, 50), (5, 60)]
    sky = blobs(places, [0.3, 0.5, 0.2, 0.9])
    found = find_clusters(sky, separation=7, least=0.05, most=9, border=43)
    assert found.tolist() == [[80, 70], [60, 60], [50, 50]]
    assert find_clusters(sky, 7, 0.05, 1, 43).tolist() == [[80, 70]]
    assert len(find_clusters(sky, 7, 0.9, 9, 43)) == 0


def test_loss_leaves_out_the_border_and_weighs_peaks():
    truth = jnp.full((1, 40, 40), 0.1).at[0, 20, 20].set(0.4)
    found = truth.at[0, BORDER - 1].add(9.0).at[0, 20, 20].add(1.0).at[0, 25, 25].add(1.0)
    num = (40 - 2 * BORDER) ** 2
    np.testing.assert_allclose(inner_loss(found, truth, "mse"), 2 / num)
    np.testing.assert_allclose(inner_loss(found, truth, "focal"), (2 + 1.25) / num)
