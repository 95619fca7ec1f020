"""Images of phase space against other libraries; the networks, their training, and their files."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

from jaxmap.dynamics.cnn import (
    DEFAULT,
    PAPER,
    PRESETS,
    described,
    fit_cnn,
    preset_from,
    train_network,
)
from jaxmap.dynamics.domain import domain_of
from jaxmap.dynamics.error_model import fit_errors
from jaxmap.dynamics.estimate import Flag
from jaxmap.dynamics.images import images_of, phase_space_image, tilted_image, velocity_profile
from jaxmap.dynamics.members import clusters_from_lists, select
from jaxmap.dynamics.mock_recipe import flat_masses
from jaxmap.dynamics.mocks import mock_clusters
from jaxmap.dynamics.model_files import SHIPPED, read_model, shipped_model, write_model
from jaxmap.networks.phase_space import (
    Learning,
    PhaseSpaceCNN,
    apply,
    bounded,
    count_params,
    initialise,
)

KEY = jax.random.key(0)
CUT, APERTURE = 2200.0, 1.6
SHORT = DEFAULT._replace(num_epochs=4)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    velocity = rng.normal(50, 600, 70)
    return np.abs(rng.normal(0.4, 0.3, 70)) + 1e-4 * np.abs(velocity), velocity


def centres(low, high):
    return low + (np.arange(48) + 0.5) * (high - low) / 48


def test_profiles_agree_with_scipy(sample, dtype):
    _, velocity = sample
    expected = gaussian_kde(velocity, 0.25)(centres(-CUT, CUT))
    mask = np.arange(80) < 70
    filled = np.append(velocity, np.full(10, 321.0)).astype(dtype)
    found = jax.jit(velocity_profile, static_argnums=2)(filled, mask, CUT)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=2e-4, atol=1e-8)


def test_images_agree_with_scikit_learn_and_scipy(sample):
    radius, velocity = sample
    v, r = np.meshgrid(centres(-CUT, CUT), centres(0, APERTURE), indexing="ij")
    scales = np.array([np.std(velocity, ddof=1), np.std(radius, ddof=1)])
    points, grid = np.stack([velocity, radius], axis=1), np.stack([v.ravel(), r.ravel()], axis=1)
    density = np.exp(
        KernelDensity(bandwidth=0.25).fit(points / scales).score_samples(grid / scales)
    ).reshape(48, 48)
    arguments = (jnp.asarray(radius), jnp.asarray(velocity), jnp.ones(70, bool), APERTURE, CUT)
    product, tilted = (jax.jit(one)(*arguments) for one in (phase_space_image, tilted_image))
    np.testing.assert_allclose(product, density / density.sum(), atol=1e-7)
    full = gaussian_kde(points.T, 0.25)(grid.T).reshape(48, 48)
    np.testing.assert_allclose(tilted, full / full.sum(), atol=1e-7)
    assert np.abs(product - tilted).max() > 1e-5  # the two are not the same kernel


def test_images_of_catalogues(sample):
    radius, velocity = sample
    members = clusters_from_lists([radius[:5], radius], [velocity[:5], velocity])
    images = images_of(members, True, APERTURE, CUT)
    alone = jax.jit(phase_space_image)(radius, velocity, np.ones(70, bool), APERTURE, CUT)
    np.testing.assert_allclose(images[1], alone, atol=1e-7)
    np.testing.assert_allclose(images.sum(axis=(1, 2)), 1, rtol=1e-5)
    profiles = images_of(members, False, APERTURE, CUT)
    assert profiles.shape == (2, 48, 1)
    # Nearly one velocity, between two pixels: still an image.
    close = clusters_from_lists([[0.5, 0.5001]], [[300.0, 300.001]])
    assert np.isfinite(images_of(close, True, APERTURE, CUT)).all()


@pytest.mark.release
def test_images_have_gradients(sample):
    radius, velocity = map(jnp.asarray, sample)
    mask = jnp.ones(70, bool)

    def spread(scale):
        image = phase_space_image(radius, scale * velocity, mask, APERTURE, CUT)
        return jnp.sum(image * jnp.arange(48)[:, None] ** 2)

    slope = jax.jit(jax.grad(spread))
    assert abs(slope(1.0)) > 0


def test_parameter_counts_are_the_published_ones():
    for network, shape, num in (
        (PAPER.profile_network, (48, 1), 24_683),
        (PAPER.network, (48, 48), 30_323),
    ):
        assert count_params(jax.eval_shape(lambda n=network, s=shape: initialise(n, KEY, s))) == num


def test_network_convolves_as_scipy_does():
    """The first layer of the network, with one filter, is a correlation along velocity."""
    network = PhaseSpaceCNN(filters=(1,), widths=(5,), pool=1, dropout=0.0, dense=())
    params = initialise(network, KEY, (48, 1))
    kernel = params["VelocityConv_0"]["kernel"][:, 0, 0]
    x = np.random.default_rng(0).normal(size=48)
    hidden = np.maximum(np.correlate(x, kernel, mode="same"), 0)
    output = apply(network, params, jnp.asarray(x)[None, :, None])
    assert float(output[0]) == pytest.approx(
        float(hidden @ params["output"]["kernel"][:, 0]), rel=1e-4
    )


def test_norms_are_bounded():
    rng = np.random.default_rng(0)
    shapes = {"VelocityConv_0": (5, 4, 3), "Dense_0": (12, 3), "output": (12, 1)}
    params = {name: {"kernel": rng.normal(0, 2, shape)} for name, shape in shapes.items()}
    small = jax.jit(bounded, static_argnums=1)(params, 3.0)
    for name, layer in small.items():
        norms = np.sqrt(np.sum(np.asarray(layer["kernel"]) ** 2, axis=0))
        before = np.sqrt(np.sum(np.asarray(params[name]["kernel"]) ** 2, axis=0))
        expected = before if name == "output" else np.minimum(before, 3)
        np.testing.assert_allclose(norms, expected, rtol=1e-5)
    assert bounded(params, None) is params


def test_presets_survive_json():
    import json

    for preset in PRESETS.values():
        assert preset_from(json.loads(json.dumps(described(preset)))) == preset


@pytest.fixture(scope="module")
def clusters():
    return mock_clusters(KEY, flat_masses(jax.random.key(1), 600)).contaminated


@pytest.fixture(scope="module")
def ensemble(clusters):
    return fit_cnn(KEY, clusters, preset=SHORT, num_networks=2)


def test_training_learns_and_repeats(clusters, ensemble):
    test = mock_clusters(jax.random.key(2), flat_masses(jax.random.key(3), 80)).contaminated
    found = ensemble(KEY, test)
    error = found.log10_mass - test.log10_mass
    assert error.std() < 0.6 * test.log10_mass.std()
    assert (found.std > 0).all() and not (found.flag & Flag.TOO_FEW).any()
    again = fit_cnn(KEY, clusters, preset=SHORT, num_networks=1)
    jax.tree.map(np.testing.assert_array_equal, again.params[0], ensemble.params[0])


def test_a_training_with_other_clusters_is_not_taken_for_this(clusters, tmp_path, monkeypatch):
    """As many images of other clusters, or other masses of the same, are another training."""

    def still(network, learning, key, state, *arrays):
        return state._replace(step=state.step + 1), 0.0

    monkeypatch.setattr("jaxmap.dynamics.cnn.epoch", still)
    rng = np.random.default_rng(0)
    images, masses = rng.random((60, 48, 1)).astype("f4"), np.linspace(13.5, 15.0, 60)
    domain, preset = domain_of(clusters), DEFAULT._replace(num_epochs=1)

    def trained(images, masses):
        return train_network(KEY, images, masses, preset, domain, folder=tmp_path)

    first = trained(images, masses)
    for other in ((images[::-1], masses), (images, masses[::-1])):
        with pytest.raises(ValueError, match=r"other data \(images and masses\)"):
            trained(*other)
    jax.tree.map(np.testing.assert_array_equal, trained(images, masses), first)


def test_too_few_clusters_are_refused_before_the_training(clusters, monkeypatch):
    monkeypatch.setattr("jaxmap.dynamics.cnn.train_network", None)
    some = select(clusters, np.arange(len(clusters)) < 200)
    with pytest.raises(ValueError, match="with 20 held-out clusters; expected 50 or more"):
        fit_cnn(KEY, some, preset=SHORT)


def test_estimators_survive_their_files(clusters, ensemble, tmp_path):
    path = tmp_path / "cnn.npz"
    write_model(path, ensemble, {"seed": 0})
    read, some = read_model(path), select(clusters, np.arange(50))
    np.testing.assert_allclose(read(KEY, some).log10_mass, ensemble(KEY, some).log10_mass)
    np.testing.assert_allclose(read(KEY, some).std, ensemble(KEY, some).std, rtol=1e-6)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a whole file"):
        read_model(path)


def test_bad_clusters_are_flagged_or_refused(ensemble):
    members = clusters_from_lists(
        [[], [0.1], np.linspace(0.1, 1, 9), np.linspace(0.1, 1, 30)],
        [[], [5.0], np.linspace(-500, 500, 9), [7.0] * 30],
    )
    found = ensemble(KEY, members)
    assert found.flag[0] & Flag.TOO_FEW and found.flag[1] & Flag.TOO_FEW
    assert found.flag[2] & Flag.SPARSE and found.flag[3] & Flag.NO_SPREAD
    assert np.isfinite(found.log10_mass).tolist() == [False, False, True, False]
    far = clusters_from_lists([[2.5] * 9], [np.linspace(-500, 500, 9)])
    with pytest.raises(ValueError, match=r"values up to 2\.5; expected the same cylinder"):
        ensemble(KEY, far)
    with pytest.raises(ValueError, match="expected 1 or more networks"):
        fit_cnn(KEY, members, num_networks=0)


def test_other_redshifts_are_warned_of(ensemble, clusters, caplog):
    ensemble(KEY, replace(select(clusters, [0]), redshift=0.5))
    assert "trained at redshift 0.117" in caplog.text


def test_masses_beyond_the_training_are_flagged(ensemble, clusters):
    """As if the training had covered a tenth of the masses."""
    narrow = replace(ensemble, domain=replace(ensemble.domain, low=14.2, high=14.201))
    found = replace(narrow, preset=narrow.preset._replace(targets=(0.45, 0.55)))(KEY, clusters)
    beyond = (found.log10_mass < 14.2) | (found.log10_mass > 14.201)
    np.testing.assert_array_equal((found.flag & Flag.OUT_OF_RANGE) > 0, beyond)
    assert 0.5 < beyond.mean() < 1


def test_errors_are_measured_and_spread_is_added():
    rng = np.random.default_rng(0)
    truth = rng.uniform(14, 15, 4000)
    width = 0.1 + 0.1 * (truth - 14)
    estimate = rng.normal(truth, width)
    model = fit_errors(estimate, truth)
    pull = (estimate - truth) / model(estimate)
    assert abs(np.sqrt(np.mean(pull**2)) - 1) < 4 / np.sqrt(2 * 4000)
    np.testing.assert_allclose(model(estimate, np.full(4000, 9.0)), 9, rtol=1e-2)
    with pytest.raises(ValueError, match="40 held-out clusters"):
        fit_errors(estimate[:40], truth[:40])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_estimators_are_there(name, clusters):
    some = select(clusters, np.arange(8))
    found = shipped_model(name)(KEY, some)
    assert np.isfinite(found.log10_mass).all() and (found.std > 0).all()
    with pytest.raises(ValueError, match="no shipped estimator"):
        shipped_model("cnn3d")


def test_learning_is_hashable():
    assert hash(Learning()) == hash(Learning())
