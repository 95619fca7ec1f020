"""Cluster fields, their images, mosaics, training and maps by the network of Hong et al."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clusterskies import blobs, flat_sky

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
from jaxmap.simulation.cluster_fields import (
    ClusterSky,
    ClusterSurvey,
    bin_cluster,
    draw_cluster_galaxies,
)

SIDE = 98  # of a small network's input, with 32 pixels of output


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


@pytest.mark.parametrize(("side", "step"), [(SIDE, 3), (SIDE, 19), (SIDE + 2, 3)])
def test_mosaic_puts_every_pixel_in_its_place(passing, side, step):
    """Overlapping fields of a network that passes its input on give that input: also with a step
    that would leave gaps, and with images of more pixels than the network makes use of."""
    data = noisy_data((128, 111))
    image = np.asarray(network_images(data)[0])
    found = mosaic(replace(passing, side=side), data, step)
    rows, columns = (output_side(n) for n in data.grid.shape)
    means = image[1 : 1 + 3 * rows, 1 : 1 + 3 * columns].reshape(rows, 3, columns, 3).mean((1, 3))
    inside = slice(BORDER, rows - BORDER), slice(BORDER, columns - BORDER)
    expected = np.zeros(image.shape)
    large = means[inside].repeat(3, 0).repeat(3, 1)
    first = 1 + 3 * BORDER
    expected[first : first + large.shape[0], first : first + large.shape[1]] = large
    np.testing.assert_allclose(found.convergence, expected, atol=1e-6)
    assert found.covered.sum() == large.size and np.abs(large).max() > 0.1


def test_a_network_that_is_all_border_is_refused(passing):
    with pytest.raises(ValueError, match="88 pixels a side; expected 89 or more"):
        mosaic(replace(passing, side=88), noisy_data((128, 111)))


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
