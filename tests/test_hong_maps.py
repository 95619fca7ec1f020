"""Cluster fields, their images, mosaics, training and maps by the network of Hong et al."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import shear_catalog, shear_map
from jaxmap.cli import main
from jaxmap.cluster_network import (
    PIXEL_ARCMIN,
    ClusterNetwork,
    mosaic,
    network_images,
    read_cluster_network,
    write_cluster_network,
)
from jaxmap.clusters import halo_convergence, halo_shear, nfw_halo
from jaxmap.clusters.scores import projected_mass
from jaxmap.cosmology import inverse_critical_density
from jaxmap.estimators import HongCNN
from jaxmap.galaxies import galaxy_shear, pixel_mean
from jaxmap.grid import Grid
from jaxmap.mapfiles import read_mass_map
from jaxmap.networks.hong import BORDER, HongNetwork, initialise_hong, output_side
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

SIDE = 98  # of a small network's input, with 32 pixels of output


def flat_sky(convergence=0.0, shear=0.0, side=84, pixel_arcmin=0.4):
    ones = jnp.ones((side, side))
    return ClusterSky(convergence * ones, shear * (ones + 0j), pixel_arcmin)


@pytest.fixture(scope="module")
def passing():
    """A network that hands on the mean of three by three pixels of the first image."""
    network = HongNetwork(width=3, skip=False, fft=False)
    fresh = jax.tree.map(np.array, initialise_hong(network, jax.random.key(0)))
    for name, layer in fresh["weights"].items():
        if name.startswith("norm"):
            layer["scale"][:] = 1.001**0.5
        else:
            layer["kernel"][:] = 0
            layer["kernel"][1, 1, 0, 0] = 1e-4 if name == "first" else 1
    params = jax.tree.map(jnp.asarray, fresh)
    return ClusterNetwork(params, jnp.asarray(1e4), network, SIDE)


def noisy_data(shape):
    rng = np.random.default_rng(0)
    shear = 0.2 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    weight = 15.0 * (rng.uniform(size=shape) < 0.1)
    return shear_map(shear, Grid(shape, PIXEL_ARCMIN), weight=weight)


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


def test_images_of_one_galaxy_and_of_none(dtype):
    weight = np.zeros((31, 31), dtype)
    weight[15, 15] = 16.0
    shear = np.full((31, 31), 0.3 - 0.1j)
    data = shear_map(shear, Grid((31, 31), PIXEL_ARCMIN), weight=weight)
    images = np.asarray(network_images(data, channels=4))
    assert np.isfinite(images).all()
    np.testing.assert_allclose(images[:3, 15, 15], [0.3, -0.1, 0.25], rtol=2e-3)
    np.testing.assert_allclose(images[:, 0, 0], [0, 0, 1, 0])
    # Beyond three sigma it fades; its error is least where it and nothing weigh as they should.
    assert images[0, 15, 15] > images[0, 15, 17] > images[0, 15, 18] > images[0, 15, 19] >= 0
    assert images[2].min() >= (1 + 16) ** -0.5 - 1e-6
    np.testing.assert_allclose(images[3].sum(), 31**2, rtol=1e-5)


def test_weights_average_galaxies():
    """Two galaxies in one place: their inverse-variance mean and its error."""
    weight = np.zeros((9, 9))
    weight[4, 4] = 20.0 + 5.0
    shear = np.full((9, 9), (20 * 0.1 + 5 * 0.6) / 25)
    images = network_images(shear_map(shear + 0j, Grid((9, 9), PIXEL_ARCMIN), weight=weight))
    np.testing.assert_allclose(images[:, 4, 4], [0.2, 0, 0.2], rtol=1e-3, atol=1e-12)


def test_mosaic_puts_every_pixel_in_its_place(passing):
    """Overlapping fields of a network that passes its input on give that input."""
    data = noisy_data((128, 111))
    image = np.asarray(network_images(data)[0])
    found = mosaic(passing, data, step=3)
    rows, columns = (output_side(n) for n in data.grid.shape)
    means = image[1 : 1 + 3 * rows, 1 : 1 + 3 * columns].reshape(rows, 3, columns, 3).mean((1, 3))
    inside = slice(BORDER, rows - BORDER), slice(BORDER, columns - BORDER)
    expected = np.zeros(image.shape)
    large = means[inside].repeat(3, 0).repeat(3, 1)
    first = 1 + 3 * BORDER
    expected[first : first + large.shape[0], first : first + large.shape[1]] = large
    np.testing.assert_allclose(found.convergence, expected, atol=1e-6)
    assert found.covered.sum() == large.size and np.abs(large).max() > 0.1


@pytest.mark.slow
def test_small_fields_are_covered_to_their_edges(passing):
    data = noisy_data((12, 11))
    found = mosaic(passing, data)
    image = np.asarray(network_images(data)[0])
    assert found.covered.all() and found.convergence.shape == (12, 11)
    # In blocks of three, so compare means over the field, whose blocks may stick out.
    assert np.corrcoef(image.ravel(), np.ravel(found.convergence))[0, 1] > 0.5


@pytest.mark.slow
def test_estimator_takes_galaxies_and_pixels_and_refuses_other_pixels(passing):
    rng = np.random.default_rng(0)
    ra, dec = 0.02 * rng.uniform(-1, 1, (2, 600)) + np.array([[10], [0]])
    shapes = 0.2 * rng.normal(size=(2, 600)).astype(complex)
    catalog = shear_catalog(ra, dec, shapes[0] + 1j * shapes[1], weight=rng.uniform(1, 9, 600))
    grid = Grid((44, 40), PIXEL_ARCMIN, (10.0, 0.0))
    galaxies = galaxy_shear(catalog, grid, 0.24)
    data = pixel_mean(galaxies)
    spread = np.sum(galaxies.galaxy_weight[0] * galaxies.shear)
    np.testing.assert_allclose(np.sum(data.weight[0] * data.shear), spread)
    assert data.counts.sum() == len(galaxies.x)
    estimate = HongCNN((passing, replace(passing, scale=2 * passing.scale)))
    found, again = (estimate(jax.random.key(0), each) for each in (galaxies, data))
    np.testing.assert_array_equal(found.convergence, again.convergence)
    one = HongCNN((passing,))(jax.random.key(0), data)
    assert one.std is None
    np.testing.assert_allclose(found.convergence, 1.5 * one.convergence, atol=1e-7)
    np.testing.assert_allclose(found.std, np.abs(one.convergence) / 2**0.5, atol=1e-7)
    # The passing network shows e1; turned by 45 degrees that is e2.
    e2 = HongCNN((passing,))(jax.random.key(0), replace(data, shear=-1j * data.shear))
    np.testing.assert_allclose(one.b_mode, e2.convergence)
    with pytest.raises(ValueError, match=r"0\.064 arcmin"):
        estimate(jax.random.key(0), replace(data, grid=Grid((44, 40), 0.29)))
    with pytest.raises(ValueError, match="no network"):
        HongCNN(())


def test_files_come_back_and_others_are_refused(passing, tmp_path):
    write_cluster_network(tmp_path / "a.npz", passing, {"steps": 3})
    model, header = read_cluster_network(tmp_path / "a.npz")
    assert (model.network, model.side) == (replace(passing.network, fft=True), SIDE)
    assert header["training"] == {"steps": 3}
    jax.tree.map(np.testing.assert_allclose, model.params, passing.params)
    changed = replace(passing, network=HongNetwork(width=4, skip=False))
    write_cluster_network(tmp_path / "b.npz", changed, {})
    with pytest.raises(ValueError, match='kind = "hong"'):
        read_cluster_network(tmp_path / "b.npz")


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


def blobs(places, heights, side=130):
    y, x = np.indices((side, side))
    return sum(
        height * np.exp(-((x - c) ** 2 + (y - r) ** 2) / 8)
        for (r, c), height in zip(places, heights, strict=True)
    )


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


TRAINING = """
kind = "hong"
validate_every = 2
checkpoint_every = 1
validation_batches = 1
[schedule]
num_steps = 4
decay_steps = 0
[network]
width = 3
fft = false
[clusters]
side = 98
num_galaxies = 3000
[maps]
maps = "maps.npy"
pixel_arcmin = 0.4
rim_arcmin = 0
[[layouts]]
side = 84
batch = 2
"""


@pytest.mark.slow
def test_train_keeps_the_best_and_map_uses_it(tmp_path, monkeypatch, capsys):
    pytest.importorskip("photutils")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    maps = [blobs([(65, 65), tuple(rng.uniform(50, 80, 2))], [0.3, 0.2]) for _ in range(4)]
    maps += 0.01 * rng.normal(size=(4, 130, 130))
    np.save("maps.npy", np.asarray(maps, np.float32))
    (tmp_path / "small.toml").write_text(TRAINING)
    assert main(["train", "small.toml", "--out", "whole"]) == 0
    assert "of an empty map" in capsys.readouterr().out
    header = read_cluster_network("whole/hong.npz")[1]
    rows = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["validation"]["loss"] for row in rows if "validation" in row}
    assert header["training"]["best_step"] == min(losses, key=losses.get)
    assert header["training"]["validation"]["loss"] == min(losses.values())
    ra, dec = 0.03 * rng.uniform(-1, 1, (2, 1500))
    table = np.stack([ra + 150, dec + 2, *(0.2 * rng.normal(size=(2, 1500)))], axis=1)
    np.savetxt("galaxies.csv", table, delimiter=",", header="ra,dec,e1,e2", comments="")
    mapped = ["map", "galaxies.csv", "--method", "hong", "--null-tests", "0", "--out", "map", "-q"]
    assert main([*mapped, "--weights", "whole/hong.npz,whole/hong.npz"]) == 0
    found = read_mass_map("map/mass_map.fits")
    assert found.grid.pixel_arcmin == pytest.approx(PIXEL_ARCMIN)
    assert np.isfinite(found.convergence).all() and np.all(np.asarray(found.std) == 0)


@pytest.mark.slow
def test_shipped_network_sees_a_cluster_and_nothing_where_there_is_none():
    """A halo of 8e14 Msun, off the middle: its centre to an arcminute, its mass within a third."""
    model, header = read_cluster_network()
    assert header["training"]["settings"]["network"]["width"] == 19
    at = 0.4 * (np.arange(84) - 41.5)
    place = at[None] + 0 * at[:, None], at[:, None] + 0 * at[None]
    halo = nfw_halo(8e14, 4.0, 0.4, x=2.0, y=-1.5)
    density = inverse_critical_density(0.4, 1.5)
    sky = ClusterSky(
        halo_convergence(halo, *place, density, 0.2), halo_shear(halo, *place, density, 0.2), 0.4
    )
    estimate = HongCNN((model,), step=38, with_b_mode=False)
    fields, masses = Grid((500, 500), PIXEL_ARCMIN), []
    for each in (sky, flat_sky()):
        drawn = draw_cluster_galaxies(jax.random.key(5), each, ClusterSurvey())
        found = np.asarray(estimate(jax.random.key(0), bin_cluster(drawn, fields)).convergence)
        masses.append(
            projected_mass(found, 249.5 + 2 / PIXEL_ARCMIN, 249.5 - 1.5 / PIXEL_ARCMIN, 30)
        )
        if each is sky:
            row, column = np.unravel_index(np.argmax(found), found.shape)
            x, y = PIXEL_ARCMIN * (column - 249.5), PIXEL_ARCMIN * (row - 249.5)
            assert np.hypot(x - 2, y + 1.5) < 1
    near = np.hypot(place[0] - 2, place[1] + 1.5) < 1.92
    truth = float(np.sum(np.asarray(sky.convergence)[near])) * (0.4 / PIXEL_ARCMIN) ** 2
    assert 2 / 3 < masses[0] / truth < 4 / 3
    assert abs(masses[1]) < 0.2 * truth
