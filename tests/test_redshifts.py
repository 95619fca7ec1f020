"""n(z): the checks, the quadrature, its names in files and the default."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmap.redshifts import (
    cosmos_redshifts,
    draw_redshifts,
    read_redshift_distribution,
    redshift_distribution,
    smail_redshifts,
    source_quadrature,
)

Z = np.array([0.1, 0.5, 1.0, 1.5, 2.0])
DENSITY = np.array([0.0, 2.0, 3.0, 1.5, 0.5])
EXPECTED = redshift_distribution(Z, DENSITY)


def test_unit_integral() -> None:
    assert jnp.trapezoid(EXPECTED.density, EXPECTED.z) == pytest.approx(1)
    assert len(jax.tree.leaves(EXPECTED)) == 2


def test_cosmos() -> None:
    cosmos = cosmos_redshifts()
    assert cosmos.z.shape == (100,)
    assert jnp.trapezoid(cosmos.density, cosmos.z) == pytest.approx(1)
    assert jnp.trapezoid(cosmos.density * cosmos.z, cosmos.z) == pytest.approx(1.40, abs=0.01)


def vectors(num: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0.01, 1.0), min_size=num, max_size=num)


# Few lengths, since each is compiled.
@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 2, 7, 30]).flatmap(vectors), st.integers(0, 100))
def test_quadrature_is_exact_for_the_broken_line(steps: list[float], seed: int) -> None:
    z = np.cumsum([0.0, *steps])
    density = np.random.default_rng(seed).uniform(0.1, 1, z.size)
    redshifts = redshift_distribution(z, density)
    nodes, weights = jax.jit(source_quadrature)(redshifts)
    # n(z) z is a parabola between the rows: Simpson's rule is exact
    left, right = np.asarray(redshifts.density[:-1]), np.asarray(redshifts.density[1:])
    middle = (left + right) * (z[:-1] + z[1:])
    mean = np.sum(np.diff(z) / 6 * (left * z[:-1] + middle + right * z[1:]))
    assert jnp.sum(weights) == pytest.approx(1, rel=1e-12)
    assert jnp.sum(weights * nodes) == pytest.approx(mean, rel=1e-12)
    assert nodes.size >= 500


def test_drawn_redshifts() -> None:
    """Quantiles and, inside a wide interval, the slope, in 4 standard errors; uniform draws inside
    intervals would miss the slope."""
    z = np.asarray(draw_redshifts(jax.random.key(0), EXPECTED, 100_000))
    left, right = np.asarray(EXPECTED.density[:-1]), np.asarray(EXPECTED.density[1:])
    expected = np.diff(Z) * (left + right) / 2
    share = np.histogram(z, Z)[0] / z.size
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / z.size))
    inside = (z[z < 0.5] - 0.1) / 0.4  # n(z) rises from 0: density 2 x, mean 2/3
    error = inside.std() / np.sqrt(inside.size)
    assert abs(inside.mean() - 2 / 3) < 4 * error < abs(inside.mean() - 1 / 2)
    plane = draw_redshifts(jax.random.key(0), redshift_distribution(0.8), 3)
    assert plane.tolist() == [0.8] * 3


def test_smail() -> None:
    """Mean and mode of z^2 exp(-(z/z0)^1.5) in closed form."""
    smail = smail_redshifts(2.0, 1.5, 0.5, highest_z=6.0)
    assert np.trapezoid(smail.z * smail.density, smail.z) == pytest.approx(0.7523, abs=1e-4)
    assert smail.z[np.argmax(smail.density)] == pytest.approx(0.5 * (4 / 3) ** (2 / 3), abs=0.01)
    for bad in ((0.0, 1.5, 0.5), (2.0, -1.0, 0.5), (2.0, 1.5, np.nan)):
        with pytest.raises(ValueError, match="expected a finite number above 0"):
            smail_redshifts(*bad)


def test_single_plane() -> None:
    plane = redshift_distribution(0.8)
    z, weight = source_quadrature(plane)
    assert (z.tolist(), weight.tolist()) == ([0.8], [1.0])
    assert redshift_distribution([0.8], [17.0]).density.tolist() == [1.0]


@pytest.mark.parametrize(
    ("z", "density", "message"),
    [
        ([], [], "empty"),
        ([0.1, 0.2], [1.0], "equally long"),
        ([[0.1, 0.2]], [[1.0, 1.0]], "equally long"),
        ([0.1, 0.2], [1.0, -1.0], "density -1 in row 1"),
        ([0.1, 0.2], [np.nan, 1.0], "density nan in row 0"),
        ([0.1, np.inf], [1.0, 1.0], "redshift inf in row 1"),
        ([-0.1, 0.2], [1.0, 1.0], "redshift -0.1 in row 0"),
        ([0.1, 0.1], [1.0, 1.0], "falls or repeats in row 1"),
        ([0.1, 0.3, 0.2], [1.0, 1.0, 1.0], "falls or repeats in row 2"),
        ([0.1, 0.2], [0.0, 0.0], "zero everywhere"),
        (0.8, 0.0, "zero everywhere"),
        (0.0, 1.0, "at redshift 0"),
    ],
)
def test_impossible_tables(z: object, density: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        redshift_distribution(z, density)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names", ["z nz", "Z_MID n(z)", "redshift,density", "z dn/dz", "first second"]
)
def test_names_in_files(names: str, tmp_path: Path) -> None:
    delimiter = "," if "," in names else " "
    path = tmp_path / "nz.txt"
    np.savetxt(path, np.stack([Z, DENSITY], axis=1), header=names, delimiter=delimiter)
    read = read_redshift_distribution(path)
    np.testing.assert_allclose(read.z, EXPECTED.z)
    np.testing.assert_allclose(read.density, EXPECTED.density)
    if names != "first second":
        swapped = delimiter.join(names.split(delimiter)[::-1])
        np.savetxt(path, np.stack([DENSITY, Z], axis=1), header=swapped, delimiter=delimiter)
        np.testing.assert_allclose(read_redshift_distribution(path).z, EXPECTED.z)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "two columns, z and n\\(z\\), from .*holds no rows"),
        ("z nz\n", "empty"),
        ("1 0.1\n0.5 0.2\n", "falls or repeats"),
        ("0.1 1\n0.2 -1\n", "density -1 in row 1"),
    ],
)
def test_messages_name_the_file(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "nz.txt").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_redshift_distribution(tmp_path / "nz.txt")
    assert str(tmp_path / "nz.txt") in str(error.value)
