"""Other tools read what jaxmap writes, and see in the same catalogue what it sees."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.binning import bin_shear
from jaxmap.catalog import shear_catalog
from jaxmap.clusters import aperture_mass, detect, halo_shear, nfw_halo
from jaxmap.clusters.tables import sky_position, write_regions
from jaxmap.cosmology import inverse_critical_density
from jaxmap.grid import Grid
from jaxmap.mapfiles import write_samples
from jaxmap.massmap import MassMap
from jaxmap.operators import convergence_from_shear
from jaxmap.plot import plot_mass_map
from jaxmap.survey.export import healpix_maps, write_txpipe_maps
from jaxmap.survey.partial_maps import PartialMapWriter

GRID = Grid((129, 129), 0.5, (150.0, 20.0))
SCALE = 4
"""16 pixels, 8 arcmin."""


@pytest.fixture(scope="module")
def lensed():
    """Shapes without noise around a massive cluster in the middle, and their shear map."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 128, (2, 60_000))
    ra, dec = GRID.wcs().all_pix2world(x, y, 0)
    halo = nfw_halo(1.5e15, 4.0, 0.3)
    positions = ((values - 64) * GRID.pixel_arcmin for values in (x, y))
    shear = np.asarray(halo_shear(halo, *positions, inverse_critical_density(0.3, 1.0)))
    catalog = shear_catalog(ra, dec, shear * GRID.frame_rotation(ra).conj())
    return catalog, bin_shear(catalog, GRID)


def shear_filter():
    r"""Radius in pixels and the filter Q of the starlet, :math:`2 \bar U(<r) - U(r)` of its U."""
    delta = jnp.zeros(GRID.shape).at[64, 64].set(1.0)
    kernel = np.asarray(aperture_mass(delta, SCALE))
    y, x = np.mgrid[-64:65, -64:65]
    radius = np.hypot(x, y).ravel()
    order = np.argsort(radius)
    inside = np.cumsum(kernel.ravel()[order]) / np.arange(1, radius.size + 1)
    edges = np.arange(0.5, 60)
    at = np.searchsorted(radius[order], edges) - 1
    mean = [inside[index] for index in at]
    ring = [kernel.ravel()[(radius > r - 0.7) & (radius <= r + 0.7)].mean() for r in edges]
    return edges, np.array(mean) - np.array(ring)


@pytest.mark.slow
def test_treecorr_aperture_mass(lensed):
    """The starlet aperture mass of the map is that of TreeCorr's tangential shear, to 3 %.

    No noise, so what differs is pixels; with e2 of the other sign nothing agrees.
    """
    treecorr = pytest.importorskip("treecorr")
    catalog, shear = lensed
    convergence = convergence_from_shear(shear.shear, GRID).real
    ours = float(aperture_mass(convergence, SCALE)[64, 64])
    radius, q = shear_filter()
    x, y = GRID.pixel_position(catalog.ra_deg, catalog.dec_deg)
    flat = catalog.ellipticity * GRID.frame_rotation(catalog.ra_deg)

    def theirs(sign, centre, **positions):
        galaxies = treecorr.Catalog(
            g1=positions.pop("shear").real, g2=sign * positions.pop("imag"), **positions
        )
        bins = {"min_sep": 0.5, "max_sep": 59.5, "nbins": 59, "bin_type": "Linear", "bin_slop": 0}
        if "ra" in positions:
            bins |= {"sep_units": "arcmin"}
            bins |= {name: bins[name] * GRID.pixel_arcmin for name in ("min_sep", "max_sep")}
        pairs = treecorr.NGCorrelation(**bins)
        pairs.process(treecorr.Catalog(**centre), galaxies)
        at = pairs.rnom / (GRID.pixel_arcmin if "ra" in positions else 1)
        return float(np.sum(2 * np.pi * at * np.interp(at, radius, q) * pairs.xi))

    middle = {"x": np.array([64.0]), "y": np.array([64.0])}
    plane = {"x": x, "y": y, "shear": flat, "imag": flat.imag}
    assert theirs(1, middle, **plane) == pytest.approx(ours, rel=0.03)
    assert abs(theirs(-1, middle, **plane)) < 0.1 * ours
    sky = {"ra": np.array([150.0]), "dec": np.array([20.0]), "ra_units": "deg", "dec_units": "deg"}
    spherical = {
        "ra": catalog.ra_deg,
        "dec": catalog.dec_deg,
        "ra_units": "deg",
        "dec_units": "deg",
        "shear": catalog.ellipticity,
        "imag": catalog.ellipticity.imag,
    }
    assert theirs(1, sky, **spherical) == pytest.approx(ours, rel=0.03)


def test_ds9_regions(tmp_path):
    """What `jaxmap detect` writes for DS9 is read by astropy's regions, at the peaks' places."""
    regions = pytest.importorskip("regions")
    rng = np.random.default_rng(0)
    samples = 0.01 * rng.normal(size=(6, *GRID.shape))
    y, x = np.mgrid[: GRID.shape[0], : GRID.shape[1]]
    samples += 0.3 * np.exp(-((x - 40) ** 2 + (y - 70) ** 2) / 30)
    found = detect(samples, GRID, scale=3, threshold=8)
    write_regions(tmp_path / "peaks.reg", found, 1.5)
    read = regions.Regions.read(str(tmp_path / "peaks.reg"), format="ds9")
    assert len(read) == len(found) >= 1
    ra, dec = sky_position(found)
    np.testing.assert_allclose([one.center.ra.deg for one in read], ra, atol=1e-6)
    np.testing.assert_allclose([one.center.dec.deg for one in read], dec, atol=1e-6)
    assert read[0].radius.to_value("arcmin") == pytest.approx(1.5)
    assert read[0].to_pixel(GRID.wcs()).center.xy == pytest.approx((40, 70), abs=0.5)


def some_samples():
    samples = np.random.default_rng(1).normal(size=(5, 6, 4)).astype(np.float32)
    grid = Grid((6, 4), 1.0, (150.0, 2.0))
    mask = jnp.ones(grid.shape, bool)
    return MassMap(jnp.asarray(samples.mean(0)), grid, mask, samples=samples)


def test_xarray(tmp_path):
    """As `docs/howto/samples.md` says."""
    xarray = pytest.importorskip("xarray")
    result = some_samples()
    write_samples(tmp_path / "samples.nc", result)
    with xarray.open_dataset(tmp_path / "samples.nc", group="posterior", engine="h5netcdf") as file:
        assert file["kappa"].dims == ("chain", "draw", "y", "x")
        mean = file["kappa"].mean(("chain", "draw"))
        np.testing.assert_allclose(mean, result.convergence, rtol=1e-5)
        first = file["kappa"].sel(draw=slice(0, 2))
        np.testing.assert_array_equal(first[0], result.samples[:2])


@pytest.mark.slow
def test_notebooks_show_maps():
    """Jupyter draws what this gives, also before anybody has imported pyplot."""
    assert plot_mass_map(some_samples())._repr_png_()[1:4] == b"PNG"


def test_arviz(tmp_path):
    """Reads the samples, and its summary of a pixel is that of the samples."""
    arviz = pytest.importorskip("arviz")
    result = some_samples()
    write_samples(tmp_path / "samples.nc", result)
    data = arviz.from_netcdf(tmp_path / "samples.nc", engine="h5netcdf")
    np.testing.assert_array_equal(data["posterior"]["kappa"][0], result.samples)
    table = arviz.summary(data, var_names="kappa", kind="stats", round_to="none")
    assert len(table) == 24
    np.testing.assert_allclose(table["mean"]["kappa[2, 3]"], result.samples[:, 2, 3].mean(), 1e-5)
    np.testing.assert_allclose(
        table["sd"]["kappa[2, 3]"], result.samples[:, 2, 3].std(ddof=1), 1e-5
    )


def field_on_the_sky():
    """A map of 10 arcmin a pixel with an error and a hole."""
    rng = np.random.default_rng(2)
    grid = Grid((30, 24), 10.0, (150.0, 2.0))
    mask = np.ones(grid.shape, bool)
    mask[5:9, 6:12] = False
    kappa, std = rng.normal(size=(2, *grid.shape)).astype(np.float32)
    return MassMap(jnp.asarray(kappa), grid, jnp.asarray(mask), std=jnp.asarray(abs(std)))


def test_txpipe_maps(tmp_path):
    """Read as TXPipe reads maps, every HEALPix pixel has the value of the map around its centre."""
    astropy_healpix = pytest.importorskip("astropy_healpix")
    result = field_on_the_sky()
    write_txpipe_maps(tmp_path / "maps.hdf5", *healpix_maps(result))
    with h5py.File(tmp_path / "maps.hdf5") as file:
        assert set(file["maps"]) == {"kappa_E", "sigma"}
        group = file["maps/kappa_E"]
        assert group.attrs["pixelization"] == "healpix" and not group.attrs["nest"]
        sky = np.full(12 * group.attrs["nside"] ** 2, np.nan)
        sky[group["pixel"][:]] = group["value"][:]
        assert np.all(np.diff(group["pixel"][:]) > 0)
    healpix = astropy_healpix.HEALPix(nside=512, order="ring", frame="icrs")
    there = np.flatnonzero(np.isfinite(sky))
    centres = healpix.healpix_to_skycoord(there)
    columns, rows = (
        np.rint(at).astype(int)
        for at in result.grid.pixel_position(centres.ra.deg, centres.dec.deg)
    )
    np.testing.assert_array_equal(sky[there], np.asarray(result.convergence)[rows, columns])
    seen = np.zeros(result.grid.shape, bool)
    seen[rows, columns] = True
    np.testing.assert_array_equal(seen, result.mask)
    with pytest.raises(ValueError, match=r"nside is 256, .* expected a power of two, 512 or more"):
        healpix_maps(result, 256)
    with pytest.raises(ValueError, match="one value for each"):
        write_txpipe_maps(tmp_path / "maps.hdf5", 512, there, {"kappa_E": sky})


def test_healsparse(tmp_path):
    """Reads our partial maps (run where it is installed: it needs a library under the GPL)."""
    healsparse = pytest.importorskip("healsparse")
    nside, pixels, maps = healpix_maps(field_on_the_sky())
    with PartialMapWriter(tmp_path / "kappa.fits", nside, "KAPPA_E") as file:
        file.write(pixels, maps["kappa_E"])
    read = healsparse.HealSparseMap.read(str(tmp_path / "kappa.fits"), nside_coverage=32)
    assert read.nside_sparse == nside
    np.testing.assert_array_equal(read.valid_pixels, pixels)
    np.testing.assert_array_equal(read.get_values_pix(pixels), maps["kappa_E"])


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt:RuntimeWarning")
def test_clmm(lensed):
    """The shear profile of CLMM about a cluster is that of the lens; mirrored, there is none."""
    clmm = pytest.importorskip("clmm")
    catalog, _ = lensed
    halo = nfw_halo(1.5e15, 4.0, 0.3)
    columns = {
        "ra": catalog.ra_deg,
        "dec": catalog.dec_deg,
        "e1": catalog.ellipticity.real,
        "e2": catalog.ellipticity.imag,
        "z": np.full(len(catalog), 1.0),
    }

    def profile(system):
        galaxies = clmm.GCData(columns, meta={"coordinate_system": system})
        cluster = clmm.GalaxyCluster("one", 150.0, 20.0, 0.3, galaxies)
        cluster.compute_tangential_and_cross_components()
        found = cluster.make_radial_profile("arcmin", bins=np.linspace(4, 24, 21))
        return (np.asarray(found[name]) for name in ("radius", "gt", "gx"))

    radius, tangential, cross = profile("euclidean")
    inverse_critical = inverse_critical_density(0.3, 1.0)
    expected = -np.real(halo_shear(halo, radius, 0 * radius, inverse_critical))
    np.testing.assert_allclose(tangential, expected, rtol=0.01)
    assert np.abs(cross).max() < 0.02 * expected.max()
    _, mirrored, _ = profile("celestial")
    assert np.abs(mirrored).max() < 0.2 * expected.max()
