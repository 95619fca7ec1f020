"""Cluster catalogues in files: every kind, foreign layouts, pickles that would run something."""

import gzip
import os
import pickle
import sys
import types
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from jaxmap.dynamics.box import observe_box, read_box_text
from jaxmap.dynamics.halo_cnn_files import read_halo_cnn, write_halo_cnn
from jaxmap.dynamics.member_files import read_members, write_members
from jaxmap.dynamics.members import clusters_from_lists, select


@pytest.fixture
def members():
    rng = np.random.default_rng(0)
    sizes = (12, 1, 30)
    return clusters_from_lists(
        [rng.uniform(0, 1.5, n) for n in sizes],
        [rng.normal(0, 500, n) for n in sizes],
        log10_mass=[14.1, 14.0, 14.6],
        halo=[9_007_199_254_740_993, 7, 7],  # which a float cannot hold
        line_of_sight=[0, 0, 1],
        num_true=[10, 1, 25],
        member=rng.random(43) < 0.7,
        aperture_mpc_h=1.6,
        velocity_cut_km_s=2200.0,
    )


@pytest.mark.parametrize("ending", [".fits", ".csv", ".ecsv", ".h5", ".parquet"])
def test_every_kind_of_file(members, tmp_path, ending):
    path = tmp_path / f"clusters{ending}"
    for name in (None, np.array(["A2142", "A85", "Coma"]), np.array([5, 3, 2**60 + 1])):
        written = replace(members, name=name)
        write_members(path, written)
        jax.tree.map(np.testing.assert_array_equal, read_members(path), written)


def test_tables_of_others(caplog):
    """Rows in any order, columns of other names, clusters by name."""
    table = Table(
        {
            "name": ["b", "a", "b", "a", "b"],
            "R": [0.1, 0.2, 0.3, 0.4, 0.5],
            "vlos": [1.0, 2, 3, 4, 5],
        }
    )
    found = read_members(
        table, columns={"cluster": "name", "radius_mpc_h": "R"}, aperture_mpc_h=1.0
    )
    assert found.richness.tolist() == [3, 2] and found.velocity_km_s.tolist() == [1, 3, 5, 2, 4]
    assert "says no redshift; 0.117 is taken" in caplog.text
    assert found.aperture_mpc_h == 1.0 and found.redshift == 0.117 and found.halo is None
    assert found.name.tolist() == ["b", "a"] and select(found, [1]).name.tolist() == ["a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vlos": [1.0, np.nan]}, "velocity_km_s is nan"),
        ({"log10_mass": [14.0, 14.5]}, "log10_mass is 14.5 in one row and 14 in another"),
        ({"redshift": [0.1, 0.2]}, "redshift goes from 0.1 to 0.2"),
        ({"vlos": ["a", "b"]}, "not numeric"),
        ({"cluster": [1.0, np.nan]}, "'cluster' .* holds nan; expected whole numbers"),
        ({"cluster": [1.5, 1.5]}, r"holds 1\.5; expected whole numbers"),
        ({"halo": [np.nan, np.nan]}, r"'halo' \(halo\) holds nan"),
        ({"log10_mass": [np.nan, np.nan]}, "log10_mass is nan for cluster 0"),
        ({"cluster": np.array(["a", None], object)}, "has no value in some rows"),
        ({"cluster": np.array(["a", pd.NA], object)}, "has no value in some rows"),
        ({"cluster": np.ma.array([1, 2], mask=[0, 1])}, "has no value in some rows"),
    ],
)
def test_bad_tables(changes, message):
    good = {"cluster": [1, 1], "rproj": [0.1, 0.2], "vlos": [1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        read_members({name: np.ma.array(values) for name, values in {**good, **changes}.items()})


def test_what_files_cannot_be(members, tmp_path):
    with pytest.raises(ValueError, match="no column for cluster; its columns are rproj, vlos"):
        read_members({"rproj": np.ones(2), "vlos": np.ones(2)})
    with pytest.raises(ValueError, match="no roles of columns"):
        read_members({}, columns={"colour": "b"})
    with pytest.raises(ValueError, match=r"expected a name ending in \.fits"):
        write_members(tmp_path / "a.xyz", members)
    empty = clusters_from_lists([[], [0.1]], [[], [1.0]])
    with pytest.raises(ValueError, match="1 clusters have no galaxies"):
        write_members(tmp_path / "a.fits", empty)
    with pytest.raises(ValueError, match="two clusters have one name"):
        write_members(tmp_path / "a.fits", replace(members, name=np.array(["a", "b", "a"])))
    with pytest.raises(FileNotFoundError):
        read_members(tmp_path / "none.fits")
    assert list(tmp_path.iterdir()) == []


def of_halo_cnn(members):
    """The parts of that code's catalogue, with what it calls its columns."""
    kinds = [("Rproj", "f4"), ("vlos", "f4"), ("memb_halo", "?"), ("obs_sm", "f8")]
    galaxies = np.empty(len(members), object)
    for i in range(len(members)):
        one = select(members, [i])
        galaxies[i] = np.zeros(one.richness[0], kinds)
        galaxies[i]["Rproj"], galaxies[i]["vlos"] = one.radius_mpc_h, one.velocity_km_s
        galaxies[i]["memb_halo"] = one.member
    properties = {
        "rockstarId": members.halo,
        "M200c": 10**members.log10_mass,
        "rotation": members.line_of_sight,
        "Ngal": members.richness,
    }
    return galaxies, properties


def require_same(found, members):
    np.testing.assert_allclose(found.velocity_km_s, members.velocity_km_s, rtol=1e-6)
    np.testing.assert_allclose(found.radius_mpc_h, members.radius_mpc_h, rtol=1e-6)
    np.testing.assert_allclose(found.log10_mass, members.log10_mass)
    for name in ("offsets", "halo", "line_of_sight", "member"):
        np.testing.assert_array_equal(getattr(found, name), getattr(members, name))


@pytest.fixture
def catalog_class(monkeypatch):
    """A class of the name that the public code's pickles have, only while they are written."""
    module = types.ModuleType("tools.catalog")
    kind = type("Catalog", (), {"__module__": "tools.catalog"})
    module.Catalog = kind
    monkeypatch.setitem(sys.modules, "tools", types.ModuleType("tools"))
    monkeypatch.setitem(sys.modules, "tools.catalog", module)
    return kind


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_halo_cnn(members, tmp_path, catalog_class, monkeypatch, protocol):
    galaxies, properties = of_halo_cnn(members)
    frame = pd.DataFrame(properties)
    frame.columns = pd.Index(list(properties), dtype=object)  # as pandas was when they were made
    made = catalog_class()
    made.par = {"z": 0.117, "aperture": 1.6, "vcut": 2200.0, "cosmo": {"Om0": 0.307}}
    made.prop, made.gal = frame, galaxies
    path = tmp_path / "catalog.p"
    path.write_bytes(pickle.dumps(made, protocol=protocol))
    monkeypatch.delitem(sys.modules, "tools.catalog")
    found = read_halo_cnn(path)
    require_same(found, members)
    assert found.aperture_mpc_h == 1.6 and found.velocity_cut_km_s == 2200.0


def test_padded_arrays_of_halo_cnn(members, tmp_path):
    galaxies, properties = of_halo_cnn(members)
    most = int(members.richness.max())
    fields = [(name, values.dtype) for name, values in properties.items()]
    names = ("Rproj", "vlos", "memb_halo")
    fields += [(f"gal_{n}", galaxies[0].dtype[n], (most,)) for n in names]
    table = np.zeros(len(members), fields)
    for name, values in properties.items():
        table[name] = values
    for i, one in enumerate(galaxies):
        for n in names:
            table[f"gal_{n}"][i, : len(one)] = one[n]
    np.save(tmp_path / "catalog.npy", table)
    require_same(read_halo_cnn(tmp_path / "catalog.npy"), members)
    write_halo_cnn(tmp_path / "ours.npy", members)
    require_same(read_halo_cnn(tmp_path / "ours.npy"), members)
    ours = np.load(tmp_path / "ours.npy")
    assert ours.dtype.names == table.dtype.names
    for wrong, message in (("a.npz", "ending in .npy"), ("a.npy", "without true masses")):
        with pytest.raises(ValueError, match=message):
            write_halo_cnn(tmp_path / wrong, replace(members, log10_mass=None))
    bare = table[["Ngal", "gal_Rproj", "gal_vlos"]]  # of real clusters nobody knows the mass
    np.save(tmp_path / "bare.npy", bare)
    assert read_halo_cnn(tmp_path / "bare.npy").log10_mass is None
    flat = np.ones(3, [("Ngal", int), ("gal_Rproj", float), ("gal_vlos", float)])
    np.save(tmp_path / "flat.npy", flat)
    with pytest.raises(ValueError, match="one row for each cluster"):
        read_halo_cnn(tmp_path / "flat.npy")
    np.save(tmp_path / "other.npy", np.ones(3))
    with pytest.raises(ValueError, match="expected Ngal, gal_vlos"):
        read_halo_cnn(tmp_path / "other.npy")


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {}"),
        (eval, "open({!r}, 'w')"),
        (exec, "open({!r}, 'w')"),
        (os.mkdir, "{}"),
        (pickle.loads, b"cos\nsystem\n(S'true'\ntR."),
        (getattr, np.ndarray, "tofile"),
        (np.load, "{}"),
        (__import__, "os"),
    ],
)
def test_pickles_cannot_run_anything(tmp_path, call):
    function, *arguments = call
    target = tmp_path / "ran"
    arguments = [a.format(str(target)) if isinstance(a, str) else a for a in arguments]
    path = tmp_path / "bad.p"
    path.write_bytes(pickle.dumps({"par": Calls(function, *arguments)}))
    with pytest.raises(ValueError, match="which is not part of a catalogue"):
        read_halo_cnn(path)
    assert not target.exists()
    # The control: an ordinary unpickler would have called it.
    if function is os.mkdir:
        pickle.loads(path.read_bytes())
        assert target.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("numpy.core.multiarray scalar", "it changes a function"),
        ("_codecs encode", "it changes a function"),
        ("numpy ndarray", "it changes a function"),
        ("numpy dtype", "read safely"),
        ("tools.catalog Catalog", "read safely"),
    ],
)
def test_pickles_cannot_change_what_reads_them(tmp_path, name, message):
    """A pickle can set attributes of anything it may name, which would last for the process."""
    module, _, what = name.partition(" ")
    path = tmp_path / "bad.p"
    path.write_bytes(f"c{module}\n{what}\n(N(dVharmful\nI1\nst".encode() + b"b.")
    with pytest.raises(ValueError, match=message):
        read_halo_cnn(path)


def test_other_bad_pickles(tmp_path):
    path = tmp_path / "bad.p"
    for content, message in [
        (pickle.dumps([1, 2]), "holds a list; expected"),
        (b"\x80\x04", "cannot|can be read safely"),
        (b"not a pickle", "can be read safely"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_halo_cnn(path)


ROCKSTAR = """#scale(0) id(1) upid(2) x(3) y(4) z(5) vx(6) vy(7) vz(8) M200c(9)
#Omega_M = 0.307115; comments as Rockstar writes them
0.895 9007199254740993 -1 2.0 499.9 250.0 0 0 300 1.0e14
0.895 12 9007199254740993 100 100 100 0 0 0 1.0e12
"""
GALAXIES = """#ID(0) UPID(1) X(2) Y(3) Z(4) VX(5) VY(6) VZ(7) SM(8)
1 9007199254740993 2.3 0.3 250.0 0 0 800 1e10
2 9007199254740993 2.0 499.9 250.4 0 500 0 1e10
3 12 1.0 499.9 270.0 0 0 -400 1e10
4 -1 2.0 499.9 250.1 0 0 0 1e11
5 12 2.0 490.0 250.0 0 0 0 1e10
"""


def test_boxes_are_seen_through_periodic_cylinders(tmp_path):
    (tmp_path / "hosts.list").write_text(ROCKSTAR)
    with gzip.open(tmp_path / "galaxies.txt.gz", "wt") as stream:
        stream.write(GALAXIES)
    hosts = read_box_text(tmp_path / "hosts.list")
    galaxies = read_box_text(tmp_path / "galaxies.txt.gz")
    assert hosts.identity[0] == 9007199254740993  # which a float cannot hold
    found = observe_box(hosts, galaxies, 500.0)
    assert len(found) == 3 and found.halo.tolist() == [9007199254740993] * 3
    assert found.num_true.tolist() == [2] * 3 and found.log10_mass[0] == pytest.approx(14)
    first = select(found, [0])  # along z: across the edge of y, and one far behind
    np.testing.assert_allclose(first.radius_mpc_h, [0.5, 0, 1.0], atol=1e-6)
    # 800 less the cluster's 300; -300; and 20 Mpc/h of Hubble flow less 700.
    expected = [500, -300 + 0.4 * 94.5, 20 * 94.5 - 700]
    np.testing.assert_allclose(first.velocity_km_s, expected, atol=25)
    assert first.member.tolist() == [True, True, False]
    along_x = select(found, [1])
    assert along_x.richness[0] == 2 and along_x.radius_mpc_h[1] == pytest.approx(0.4)
    everything = observe_box(hosts, galaxies, 500.0, num_lines=1, satellites_only=False)
    assert everything.richness.tolist() == [4]
    pure = observe_box(hosts, galaxies, 500.0, pure=True)
    assert pure.richness.tolist() == [2] * 3 and pure.member.all()
    assert pure.aperture_mpc_h is None
    heavy = observe_box(hosts, galaxies, 500.0, min_log10_stellar_mass=10.5)
    assert heavy.richness.tolist() == [0] * 3
    with pytest.raises(ValueError, match=r"none of 2 haloes is a host of log10 mass 14\.5"):
        observe_box(hosts, galaxies, 500.0, min_log10_mass=14.5)
    with pytest.raises(ValueError, match="the box is 50 Mpc/h"):
        observe_box(hosts, galaxies, 50.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "expected a first line that begins with #"),
        (GALAXIES.replace("VZ", "speed"), "no column vz"),
        (GALAXIES + "6 -1 2.0", "cut short"),
    ],
)
def test_bad_box_tables(tmp_path, text, message):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_box_text(tmp_path / "bad.txt")
