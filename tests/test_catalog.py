"""Checks on catalogues and shear maps, and the binning between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.binning import bin_shear, measured_shape_noise, weighted_mean_shear
from jaxmap.catalog import shear_catalog, shear_map
from jaxmap.grid import Grid


def columns(num=50, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "ra_deg": 150 + rng.uniform(-0.1, 0.1, num),
        "dec_deg": 2 + rng.uniform(-0.1, 0.1, num),
        "ellipticity": 0.3 * (rng.normal(size=num) + 1j * rng.normal(size=num)) / 2,
        "weight": rng.uniform(0.2, 3, num),
    }


def spoiled(name, value, row=7):
    data = columns()
    data[name] = data[name].copy()
    data[name][row] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (spoiled("ra_deg", np.nan), r"'ra' holds 1 values that are not finite .* row 7"),
        (spoiled("ellipticity", np.inf), "'e1' holds 1 values that are not finite"),
        (spoiled("ellipticity", 1j * np.nan), "'e2'|'e1'"),
        (spoiled("dec_deg", 95.0), r"'dec' holds 95 in row 7; expected .* -90 and 90"),
        (spoiled("weight", -1.0), r"'weight' holds 1 negative values \(first: -1 in row 7"),
        (spoiled("ellipticity", 1.2, slice(11)), "exceeds 1 for 11 of 50 galaxies"),
        (spoiled("ellipticity", 1e300), r"\|e\| is 1e\+300 in row 7; expected at most 100"),
        ({**columns(), "weight": np.zeros(50)}, "only 0 of 50 galaxies have a weight above 0"),
        ({**columns(), "weight": np.ones(49)}, "equally long"),
        ({name: values[:0] for name, values in columns().items()}, "has 0 galaxies"),
        ({name: values[:1] for name, values in columns().items()}, "has 1 galaxies"),
    ],
)
def test_bad_catalogues_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        shear_catalog(**data)


def test_a_few_large_ellipticities_are_a_warning(caplog):
    """As of noisy shapes over a response: 12 % here."""
    data = columns(400)
    data["ellipticity"][:48] = 1.3
    catalog = shear_catalog(**data)
    assert "48 of 400" in caplog.text
    assert len(catalog) == 400


def test_binning_matches_a_loop_over_galaxies():
    catalog = shear_catalog(**columns(300))
    grid = Grid((9, 11), 1.0, (150.0, 2.0))
    result = bin_shear(catalog, grid, shape_noise=(0.2, 0.3))
    x, y = grid.pixel_position(catalog.ra_deg, catalog.dec_deg)
    shapes = catalog.ellipticity * grid.frame_rotation(catalog.ra_deg)
    for row in range(9):
        for column in range(11):
            inside = (np.rint(x) == column) & (np.rint(y) == row)
            w = catalog.weight[inside]
            assert result.counts[row, column] == inside.sum()
            if not inside.any():
                assert result.shear[row, column] == 0
                assert not result.mask[row, column]
                continue
            mean = (w * shapes[inside]).sum() / w.sum()
            np.testing.assert_allclose(result.shear[row, column], mean, rtol=1e-12)
            expected = w.sum() ** 2 / (w**2).sum() / np.square([0.2, 0.3])
            np.testing.assert_allclose(result.weight[:, row, column], expected, rtol=1e-12)


def test_noise_of_the_map_is_what_its_weights_say():
    """Pure shape noise: chi^2 per component is 1 within 4 standard errors; without weights not."""
    rng = np.random.default_rng(1)
    data = columns(40_000)
    weight = data["weight"]
    # Noisier galaxies carry less weight, as in a real survey.
    std = 0.25 / np.sqrt(weight)
    data["ellipticity"] = std * (rng.normal(size=weight.size) + 1j * rng.normal(size=weight.size))
    data["ellipticity"] /= np.maximum(1, np.abs(data["ellipticity"]))
    catalog = shear_catalog(**data)
    result = bin_shear(catalog, Grid((40, 40), 0.3, (150.0, 2.0)))
    chi2 = result.weight[0] * result.shear.real**2 + result.weight[1] * result.shear.imag**2
    num = int(result.mask.sum())
    error = np.sqrt(1 / num)
    assert abs(float(chi2.sum()) / (2 * num) - 1) < 4 * error
    # A control: scatter of all galaxies alike, over the plain count, overstates the noise here.
    plain = np.mean(np.abs(catalog.ellipticity) ** 2) / 2
    naive = np.asarray(result.counts) / plain
    spread = float(jnp.sum(naive * jnp.abs(result.shear) ** 2)) / (2 * num)
    assert abs(spread - 1) > 4 * error


def test_order_copies_and_zero_weights_do_not_matter():
    data = columns(200)
    data["weight"][::4] = 0
    catalog = shear_catalog(**data)
    grid = Grid((8, 8), 1.5, (150.0, 2.0))
    expected = bin_shear(catalog, grid, 0.3)
    keep = data["weight"] > 0
    without = shear_catalog(**{name: values[keep] for name, values in data.items()})
    order = np.random.default_rng(3).permutation(len(without))
    shuffled = jax.tree.map(lambda column: column[order], without)
    for other in (without, shuffled):
        result = bin_shear(other, grid, 0.3)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), result, expected)
    doubled = jax.tree.map(lambda column: np.concatenate([column, column]), without)
    twice = bin_shear(doubled, grid, 0.3)
    np.testing.assert_allclose(twice.shear, expected.shear, atol=1e-12)
    np.testing.assert_allclose(twice.counts, 2 * expected.counts)


def test_big_endian_columns():
    data = {
        name: values.astype(values.dtype.newbyteorder(">")) for name, values in columns().items()
    }
    native, swapped = shear_catalog(**columns()), shear_catalog(**data)
    jax.tree.map(np.testing.assert_array_equal, native, swapped)
    assert swapped.ra_deg.dtype.isnative and swapped.ellipticity.dtype.isnative


def test_a_field_across_zero_right_ascension():
    data = columns()
    grid_150, grid_0 = (Grid((8, 8), 2.0, (ra, 2.0)) for ra in (150.0, 0.0))
    across = {**data, "ra_deg": (data["ra_deg"] - 150) % 360}
    here, there = (
        bin_shear(shear_catalog(**data), grid_150),
        bin_shear(shear_catalog(**across), grid_0),
    )
    np.testing.assert_allclose(here.shear, there.shear, atol=1e-9)


@pytest.mark.parametrize(
    ("dec", "width_deg", "offset"),
    [(0.0, 2.0, 0.3), (60.0, 10.0, 0.35), (-55.0, 15.0, 0.35), (89.9, 2.0, 0.3), (89.9, 2.0, 0.0)],
)
def test_a_lens_is_found_wherever_the_field_lies(dec, width_deg, offset):
    """Shear drawn on the sphere around a lens, shapes referred to local north as catalogues do."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    from jaxmap.estimators import KaiserSquires

    side = 96
    grid = Grid((side, side), width_deg * 60 / side, (40.0, dec))
    x, y = np.random.default_rng(0).uniform(-0.5, side - 0.5, (2, 100_000))
    ra, dec_deg = grid.wcs().all_pix2world(x, y, 0)
    lens_x, lens_y = (0.5 + offset) * side, side / 2
    lens = SkyCoord(*grid.wcs().all_pix2world(lens_x, lens_y, 0) * u.deg)
    galaxies = SkyCoord(ra * u.deg, dec_deg * u.deg)
    distance = (galaxies.separation(lens).deg / (width_deg / 40)) ** 2
    # kappa = 0.1 exp(-r^2): tangential shear is the mean inside less the value.
    tangential = 0.1 * ((1 - np.exp(-distance)) / distance - np.exp(-distance))
    towards = galaxies.position_angle(lens).rad  # east of north
    angle = np.arctan2(np.cos(towards), -np.sin(towards))  # from west, towards north
    catalog = shear_catalog(ra, dec_deg, -tangential * np.exp(2j * angle))

    def peak_and_b_mode(catalog):
        result = KaiserSquires(grid.pixel_arcmin)(None, bin_shear(catalog, grid, 0.26))
        near = result.convergence[int(lens_y) - 2 : int(lens_y) + 3, int(lens_x) - 2 :][:, :5]
        return float(near.max()), float(jnp.std(result.b_mode) / jnp.std(result.convergence))

    peak, b_over_e = peak_and_b_mode(catalog)
    # The peak of 0.1 after smoothing by kernel and pixel; at the edges some B mode stays.
    size = side / 40
    assert peak == pytest.approx(0.1 * size**2 / (size**2 + 2 * (1 + 1 / 12)), rel=0.05)
    assert b_over_e < 0.12
    if dec != 0:
        # The control: shapes taken to be in the frame of the grid already.
        unturned = catalog.ellipticity * grid.frame_rotation(ra).conj()
        spoiled = shear_catalog(ra, dec_deg, unturned)
        assert peak_and_b_mode(spoiled)[1] > 1.5 * b_over_e


def test_binning_differentiates():
    """The mean shear is linear in the ellipticities: derivative along themselves is itself."""
    catalog = shear_catalog(**columns())
    grid = Grid((4, 4), 4.0, (150.0, 2.0))
    x, y = (jnp.asarray(axis) for axis in grid.pixel_position(catalog.ra_deg, catalog.dec_deg))

    def mean_shear(ellipticity):
        noise = jnp.asarray([0.3, 0.3])
        return weighted_mean_shear(x, y, ellipticity, jnp.asarray(catalog.weight), noise, grid)[0]

    shapes = jnp.asarray(catalog.ellipticity)
    shear, tangent = jax.jvp(mean_shear, (shapes,), (shapes,))
    np.testing.assert_allclose(tangent, shear, atol=1e-12)


@pytest.mark.parametrize("size", [1e-18, 1e-6, 1.0, 1e6])
def test_gradients_in_weights_of_any_size(dtype, size):
    """Of two galaxies, one, one beside another without weight, and none in a pixel."""
    grid = Grid((2, 2), 4.0, (150.0, 2.0))
    x, y = (jnp.asarray(axis, dtype) for axis in ([0, 0, 1, 0, 0, 5], [0, 0, 0, 1, 1, 0]))
    relative = np.array([1.0, 0.25, 1.0, 1.0, 0.0, 1.0])
    weight = jnp.asarray(size * relative, dtype)
    shape = np.array([0.1 + 0.2j, -0.3j, 0.2, 0.1j, 0.3, 0.1])
    shapes, noise = jnp.asarray(shape, jnp.result_type(dtype, 1j)), jnp.asarray([0.3, 0.3], dtype)

    def binned(weight):
        shear, inverse, _ = weighted_mean_shear(x, y, shapes, weight, noise, grid)
        return jnp.sum(shear.real - 2 * shear.imag), 0.09 * jnp.sum(inverse[0])

    def expected():
        """Of the sum of shears and of effective numbers, by each galaxy's own pixel."""
        own = np.array([0, 0, 1, 2, 2])
        total, square, mean = (
            np.bincount(own, part)[own]
            for part in (relative[:5], relative[:5] ** 2, (relative * shape.real)[:5])
        )
        imaginary = np.bincount(own, (relative * shape.imag)[:5])[own]
        lean = (shape.real[:5] - mean / total) - 2 * (shape.imag[:5] - imaginary / total)
        ratio = total / square
        return lean / total, 2 * ratio * (1 - ratio * relative[:5])

    shear, inverse, counts = weighted_mean_shear(x, y, shapes, weight, noise, grid)
    np.testing.assert_allclose(shear[0], [(shape[0] + 0.25 * shape[1]) / 1.25, 0.2], rtol=1e-6)
    np.testing.assert_allclose(0.09 * inverse[0], [[1.25**2 / 1.0625, 1], [1, 0]], rtol=1e-6)
    assert counts.tolist() == [[2, 1], [1, 0]]
    for found, want in zip(jax.jacrev(binned)(weight), expected(), strict=True):
        assert np.all(np.isfinite(found)) and found[5] == 0
        np.testing.assert_allclose(size * found[:5], want, rtol=1e-5, atol=1e-6)


def test_unobservable_fields_and_noise_are_refused():
    catalog = shear_catalog(**columns())
    with pytest.raises(ValueError, match="none of the 50 galaxies falls on the grid"):
        bin_shear(catalog, Grid((4, 4), 1.0, (10.0, 2.0)))
    with pytest.raises(ValueError, match="shape noise"):
        bin_shear(catalog, Grid((4, 4), 1.0, (150.0, 2.0)), shape_noise=0.0)
    flat = shear_catalog(**{**columns(), "ellipticity": np.zeros(50, complex)})
    with pytest.raises(ValueError, match="shape noise"):
        bin_shear(flat, Grid((4, 4), 1.0, (150.0, 2.0)))


def test_shape_noise_weights_squared():
    catalog = shear_catalog(**columns())
    e1, e2 = measured_shape_noise(catalog)
    w2 = catalog.weight**2
    assert e1**2 == pytest.approx((w2 * catalog.ellipticity.real**2).sum() / w2.sum())
    assert e2**2 == pytest.approx((w2 * catalog.ellipticity.imag**2).sum() / w2.sum())


GRID = Grid((3, 4), 1.0)


def test_masked_arrays_hide_what_they_hide():
    data = columns()
    masked = np.ma.masked_array(data["weight"], np.arange(50) == 7)
    with pytest.raises(ValueError, match="'weight' holds 1 values that are not finite"):
        shear_catalog(**{**data, "weight": masked})
    with pytest.raises(ValueError, match="'z' holds 1 values that are not finite"):
        shear_catalog(**data, z=np.ma.masked_array(np.full(50, 99.0), np.arange(50) == 7))
    hidden = np.zeros((3, 4), bool)
    hidden[1, 2] = True
    shear = np.ma.masked_array(np.full((3, 4), 0.1 + 0.2j), hidden)
    for given in ({"weight": np.ma.ones((3, 4))}, {"noise_std": np.ma.ones((3, 4))}):
        name, values = next(iter(given.items()))
        values[hidden] = np.ma.masked
        result = shear_map(shear, GRID, **{name: values})
        np.testing.assert_array_equal(result.mask, ~hidden)


def test_shear_map_takes_std_or_weight_in_any_layout():
    std = np.full((3, 4), 0.5)
    std[0, 0] = np.inf
    shear = np.full((3, 4), 0.1 + 0.2j)
    shear[0, 0] = np.nan
    expected = shear_map(shear, GRID, noise_std=std)
    assert not expected.mask[0, 0] and expected.shear[0, 0] == 0
    weight = np.where(np.isfinite(std), 4.0, 0.0)
    for other in (
        shear_map(shear, GRID, weight=weight),
        shear_map(shear, GRID, weight=weight[None]),
        shear_map(np.stack([shear.real, shear.imag]), GRID, weight=np.stack([weight, weight])),
    ):
        jax.tree.map(np.testing.assert_array_equal, other, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shear": np.zeros((3, 5), complex), "weight": np.ones((3, 4))}, "shear has shape"),
        ({"shear": np.zeros((3, 4), complex), "weight": np.ones((4, 3))}, "its weight or noise"),
        ({"shear": np.zeros((3, 4), complex), "weight": np.zeros((3, 4))}, "every pixel is masked"),
        ({"shear": np.zeros((3, 4), complex), "weight": -np.ones((3, 4))}, "finite and >= 0"),
        ({"shear": np.full((3, 4), np.nan + 0j), "weight": np.ones((3, 4))}, "not finite in 12"),
        ({"shear": np.zeros((3, 4), complex)}, "either weight or noise_std"),
        ({"shear": np.zeros((3, 4), complex), "weight": np.ones((3, 3, 4))}, "3 planes"),
    ],
)
def test_bad_shear_maps_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        shear_map(grid=GRID, **arguments)
