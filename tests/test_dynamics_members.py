"""Cluster catalogues: ragged arrays, their checks, observables, samples and folds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxmap.dynamics.members import (
    cluster_members,
    clusters_from_lists,
    concatenate,
    cut_cylinder,
    padded,
    select,
    subsample,
)
from jaxmap.dynamics.observables import (
    LIGHT_SPEED_KM_S,
    basis,
    line_of_sight_velocity,
    lines_of_sight,
    project,
)
from jaxmap.dynamics.samples import flat_sample, lines_for_flat_sample, mass_folds


def ragged(sizes=(3, 0, 1, 12), **others):
    rng = np.random.default_rng(0)
    return clusters_from_lists(
        [rng.uniform(0, 1.5, n) for n in sizes], [rng.normal(0, 500, n) for n in sizes], **others
    )


def test_selecting_and_joining_are_inverse():
    members = ragged(log10_mass=[14.0, 14.1, 14.2, 14.3], halo=[5, 5, 6, 7])
    assert len(members) == 4 and members.richness.tolist() == [3, 0, 1, 12]
    parts = [select(members, [i]) for i in range(4)]
    jax.tree.map(np.testing.assert_array_equal, concatenate(parts), members)
    turned = select(members, [3, 0])
    np.testing.assert_array_equal(turned.velocity_km_s[:12], members.velocity_km_s[-12:])
    assert turned.log10_mass.tolist() == [14.3, 14.0]
    block = padded(members, np.array([2, 0]), 4, 3)
    assert block.mask.sum(axis=1).tolist() == [1, 3, 0]
    np.testing.assert_array_equal(block.velocity_km_s[1, :3], members.velocity_km_s[:3])


def test_cuts_and_subsamples():
    members = ragged()
    cut = cut_cylinder(members, 0.7, 400)
    assert len(cut) == 4 and cut.radius_mpc_h.max() <= 0.7
    assert np.abs(cut.velocity_km_s).max() <= 400
    near = (members.radius_mpc_h <= 0.7) & (np.abs(members.velocity_km_s) <= 400)
    assert cut.richness.sum() == near.sum()
    some = subsample(jax.random.key(0), members, 0.5)
    assert some.richness.tolist() == [2, 0, 0, 6]
    again = subsample(jax.random.key(0), members, 0.5)
    np.testing.assert_array_equal(some.velocity_km_s, again.velocity_km_s)
    assert set(some.velocity_km_s) <= set(members.velocity_km_s)
    whole = subsample(jax.random.key(1), members, 1.0)
    np.testing.assert_array_equal(whole.velocity_km_s, members.velocity_km_s)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"velocity_km_s": [1.0, np.nan, 3.0]}, "velocity_km_s is nan for galaxy 1 of cluster 0"),
        ({"radius_mpc_h": [0.1, -0.2, 0.3]}, "radius_mpc_h is -0.2"),
        ({"aperture_mpc_h": 0.25}, "beyond the cylinder's 0.25; .*cut_cylinder"),
        ({"velocity_cut_km_s": 2.5}, "beyond the cylinder's 2.5"),
        ({"offsets": [0, 2]}, "rise from 0 to the number of galaxies, 3"),
        ({"offsets": [0, 3, 2, 3]}, "rise from 0"),
        ({"velocity_km_s": [1.0, 2.0]}, "two vectors of one length"),
        ({"log10_mass": [14.0, np.inf]}, "log10_mass is inf for cluster 1"),
        ({"halo": [1]}, r"halo has shape \(1,\); expected \(2,\)"),
        ({"aperture_mpc_h": -1.0}, "expected a finite number above 0"),
        ({"redshift": np.nan}, "the redshift is nan"),
    ],
)
def test_bad_galaxies_are_refused(changes, message):
    good = {
        "radius_mpc_h": [0.1, 0.2, 0.3],
        "velocity_km_s": [1.0, 2.0, 3.0],
        "offsets": [0, 2, 3],
    }
    cluster_members(**good)
    with pytest.raises(ValueError, match=message):
        cluster_members(**{**good, **changes})


def test_other_bad_input_is_refused():
    members = ragged()
    with pytest.raises(ValueError, match=r"sampling rate is 1\.5"):
        subsample(jax.random.key(0), members, 1.5)
    with pytest.raises(ValueError, match=r"aperture_mpc_h 1, and one of 1\.6 was .* missing"):
        cut_cylinder(cut_cylinder(members, 1.0, 500), 1.6, 500)
    with pytest.raises(ValueError, match="differ in aperture"):
        concatenate([members, cut_cylinder(members, 1.0, 500)])
    with pytest.raises(ValueError, match="without true masses"):
        mass_folds(members, 2)
    with pytest.raises(ValueError, match="expected at least 1"):
        flat_sample(jax.random.key(0), ragged(log10_mass=[14.0] * 4), 1.0)


def test_axes_are_orthonormal_for_any_direction():
    axes = jax.jit(jax.vmap(basis))(jnp.asarray(np.concatenate([lines_of_sight(40), [[0, 0, -1]]])))
    axes = np.asarray(axes)
    identity = np.einsum("nij,nkj->nik", axes, axes)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), (41, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-6)
    np.testing.assert_allclose(axes[:40, 2], lines_of_sight(40), atol=1e-6)
    sky, radius = project(jnp.array([[3.0, 4.0, 9.0]]), basis([0.0, 0, 1]))
    np.testing.assert_allclose(radius, [5.0], rtol=1e-6)
    assert sky.shape == (1, 2)


def test_lines_of_sight_are_even():
    """The mean direction and the mean square along any axis are those of the sphere."""
    even = lines_of_sight(503)[3:]
    np.testing.assert_allclose(even.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(even.T @ even / 500, np.eye(3) / 3, atol=0.01)


def test_velocities_add_as_special_relativity_says(dtype):
    """Against rapidities, and distances by scipy."""
    z = np.array([0.10, 0.117, 0.13])
    rate = lambda x: np.sqrt(0.307115 * (1 + x) ** 3 + 1 - 0.307115)  # noqa: E731
    depth = np.array([2997.92458 * quad(lambda x: 1 / rate(x), 0.117, end)[0] for end in z])
    moving, cluster = np.array([300.0, -900.0, 0.0]), 250.0
    seen = jax.jit(line_of_sight_velocity)(depth.astype(dtype), moving.astype(dtype), cluster)
    rapidity = np.arctanh(moving / LIGHT_SPEED_KM_S) + np.log1p(z)
    frame = np.arctanh(cluster / LIGHT_SPEED_KM_S) + np.log1p(0.117)
    expected = LIGHT_SPEED_KM_S * np.tanh(rapidity - frame)
    np.testing.assert_allclose(seen, expected, atol=0.5)
    # A Galilean sum is wrong by far more than the tolerance.
    galilean = moving - cluster + LIGHT_SPEED_KM_S * (z - 0.117)
    assert np.abs(galilean - expected).max() > 100


def test_velocities_have_gradients():
    slope = jax.jit(jax.grad(lambda d: line_of_sight_velocity(d, 0.0)))(0.0)
    assert slope == pytest.approx(100 * 1.0557 / 1.117, rel=0.01)  # H(z) / (1 + z)


def test_folds_keep_halos_together_and_masses_alike():
    rng = np.random.default_rng(3)
    masses, lines = rng.uniform(13.5, 15, 200), rng.integers(1, 4, 200)
    halo = np.repeat(np.arange(200), lines)
    members = clusters_from_lists([[0.1]] * len(halo), [[1.0]] * len(halo),
                                  halo=halo, log10_mass=masses[halo])  # fmt: skip
    fold = mass_folds(members, 10)
    assert all(len(set(fold[halo == h])) == 1 for h in range(200))
    assert np.bincount([fold[halo == h][0] for h in range(200)]).tolist() == [20] * 10
    means = [masses[np.unique(halo[fold == f])].mean() for f in range(10)]
    assert np.ptp(means) < 0.1
    with pytest.raises(ValueError, match="300 folds of 200 halos"):
        mass_folds(members, 300)


def test_flat_samples_are_flat():
    rng = np.random.default_rng(4)
    masses = 13.5 + rng.exponential(0.25, 6000).clip(0, 1.5)
    members = clusters_from_lists([[]] * 6000, [[]] * 6000, log10_mass=masses)
    chosen = flat_sample(jax.random.key(0), members, 500)
    counts = np.histogram(masses[chosen], np.arange(13.5, 14.11, 0.1))[0]
    assert (np.abs(counts - 50) <= 10).all()  # bins of 0.02 dex hold 10 and begin elsewhere
    assert len(set(chosen)) == len(chosen)


def test_rare_halos_are_seen_from_more_sides():
    masses = np.concatenate([np.linspace(14.0, 14.4, 4000), np.linspace(14.4, 15.0, 60)])
    lines = lines_for_flat_sample(masses, 1000)
    assert (lines[:3000] == 3).all()
    counts = np.histogram(masses[4000:], [14.5, 14.7, 14.9], weights=lines[4000:])[0]
    assert (np.abs(counts - 200) < 40).all()  # as wanted, within what one more line a halo adds
    with pytest.raises(ValueError, match="expected a vector of finite numbers"):
        lines_for_flat_sample(masses, 0)
