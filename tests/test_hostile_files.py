"""Files made to do harm: absurd shapes, bombs, pickles, links elsewhere, text without end."""

from __future__ import annotations

import ast
import gzip
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import jaxmap
from jaxmap import machine
from jaxmap.arrayfiles import read_array, read_arrays, read_json
from jaxmap.benchmark import read_case
from jaxmap.calibration.checkpoint import open_records
from jaxmap.conformal import read_conformal
from jaxmap.dynamics.box import read_box_text
from jaxmap.dynamics.halo_cnn_files import read_halo_cnn
from jaxmap.mapfiles import read_mass_map, read_provenance, read_samples
from jaxmap.networks.checkpoint import read_checkpoint
from jaxmap.networks.weights import HEADER, read_weights
from jaxmap.production.folder import read_index
from jaxmap.reading.maps.source import open_maps
from jaxmap.reading.readers import open_shapes, read_shear
from jaxmap.reading.surveys import GENERIC
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.sample_store import SampleStore
from jaxmap.survey.patches import Patch, Tiling
from jaxmap.survey.plan import Plan, read_plan
from jaxmap.survey.results import Chunk, Task, patch_map, result_path, samples_of, write_result
from jaxmap.survey.store import ROW, cell_path, read_cells
from jaxmap.training.settings import read_training

MIB = 2**20


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 8 MiB left."""
    monkeypatch.setattr(machine, "_free_memory", lambda: 8 * MIB)


def npy_header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


READERS = {
    "weights": read_weights,
    "checkpoint": lambda path: read_checkpoint(path, {}),
    "case": read_case,
    "conformal": read_conformal,
    "redshifts": read_redshift_distribution,
}
NAMES = ("__header__", "__record__", "convergence", "observed", "z", "n")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy_header("(1000000000000,)") + bytes(64), "promises"),
        (npy_header("(-1,)") + bytes(64), "promises"),
        (npy_header("(1000000000000,)", "'S0'"), "neither numbers nor text"),
        (npy_header("(" * 5000), "file.npz"),
        (npy(np.array([{"a": 1}], object)), "object"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "npy format"),
    ],
    ids=["absurd", "negative", "of no bytes", "nested", "pickle", "future"],
)
def test_headers_of_archives_are_not_believed(tmp_path, reader, content, said):
    path = archive(tmp_path / "file.npz", **dict.fromkeys(NAMES, content))
    with pytest.raises(ValueError, match=said):
        READERS[reader](path)


def test_archives_that_unpack_into_more_than_memory(tmp_path, little_memory):
    content = npy(np.zeros(2 * MIB))
    path = archive(tmp_path / "bomb.npz", zipfile.ZIP_DEFLATED, **{HEADER: content})
    assert path.stat().st_size < MIB / 10
    with pytest.raises(ValueError, match=r"needs about 0\.0 GiB of memory|of memory, and"):
        read_weights(path)
    small = archive(tmp_path / "small.npz", zipfile.ZIP_DEFLATED, a=npy(np.zeros(1000)))
    np.testing.assert_array_equal(read_arrays(small)["a"], np.zeros(1000))
    (tmp_path / "large.npy").write_bytes(content)
    with pytest.raises(ValueError, match="of memory, and"):
        read_array(tmp_path / "large.npy")


def test_names_in_archives_lead_nowhere(tmp_path):
    path = archive(tmp_path / "in.npz", **{"../outside": npy(np.ones(2))})
    assert list(read_arrays(path)) == ["../outside"]  # a name like any other: nothing is unpacked
    assert sorted(p.name for p in tmp_path.parent.glob("outside*")) == []
    twice = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "w") as file:
        for value in (1, 2):
            file.writestr("a.npy", npy(np.full(2, value)))
    (tmp_path / "twice.npz").write_bytes(twice.getvalue())
    with pytest.raises(ValueError, match="one name"):
        read_arrays(tmp_path / "twice.npz")


def test_settings_nested_without_end(tmp_path):
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 20_000 + "]" * 20_000)
    with pytest.raises(ValueError, match="cannot read the configuration"):
        read_training(deep)
    header = np.frombuffer(b"[" * 100_000, np.uint8)
    path = archive(tmp_path / "deep.npz", **{HEADER: npy(header)})
    with pytest.raises(ValueError, match="not a whole file of jaxmap weights"):
        read_weights(path)


def test_records_nested_without_end(tmp_path):
    """JSON in the folders of simulations, surveys, samples and calibrations, and beside files."""
    deep = "[" * 100_000
    names = ("plan.json", "simulation.json", "progress.json", "fields.jsonl", "deep.json")
    for name in names:
        (tmp_path / name).write_text(deep + "\n")
    readers = {
        "is not a plan of jaxmap": read_plan,
        "does not describe simulations": read_index,
        "cannot go on with the samples": lambda folder: SampleStore(3, folder),
        "does not hold the fields of a calibration": lambda folder: open_records(folder, {}),
        "RecursionError": lambda folder: read_json(folder / "deep.json"),
    }
    for said, read in readers.items():
        with pytest.raises(ValueError, match=said):
            read(tmp_path)


def test_records_that_need_more_than_memory(tmp_path, little_memory):
    path = tmp_path / "long.json"
    path.write_text("[" + "{}," * 200_000 + "1]")
    with pytest.raises(ValueError, match="of memory, and"):
        read_json(path)


@lru_cache
def sources() -> list[tuple[str, ast.AST]]:
    folder = Path(jaxmap.__file__).parent
    return [
        (path.relative_to(folder).as_posix(), ast.parse(path.read_text()))
        for path in folder.rglob("*.py")
    ]


def called(node: ast.AST) -> str:
    function = getattr(node, "func", None)
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def test_json_is_read_in_one_place():
    """Elsewhere only what was written just before, by which tuples become lists."""
    for name, tree in sources():
        for node in ast.walk(tree):
            if called(node) in ("json.load", "json.loads") and name != "arrayfiles.py":
                assert called(node.args[0]) == "json.dumps", f"{name}, line {node.lineno}"


def test_nothing_of_the_package_runs_what_it_reads():
    """No file is code: no notebook is opened or run, nothing evaluated, no pickle but by ours."""
    runners = ("nbformat", "nbconvert", "nbclient", "jupytext", "papermill", "IPython", "runpy")
    pickles = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    for name, tree in sources():
        for node in ast.walk(tree):
            imported = {
                alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")
            }
            imported |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            roots = {module.partition(".")[0] for module in imported}
            place = f"{name}, line {getattr(node, 'lineno', 0)}"
            assert not roots & set(runners), place
            assert not roots & set(pickles) or name == "dynamics/halo_cnn_files.py", place
            assert called(node) not in ("eval", "exec", "compile", "__import__"), place
            assert called(node) not in ("pickle.load", "pickle.loads", "yaml.load"), place
            if called(node) == "np.load":
                allowed = [word.value for word in node.keywords if word.arg == "allow_pickle"]
                assert [ast.unparse(value) for value in allowed] == ["False"], place


PUT = 2**24
PICKLES = {
    "far index": (b"\x80\x04Nr" + PUT.to_bytes(4, "little") + b".", "puts an object at"),
    "far index in words": (f"Np{PUT}\n.".encode(), "puts an object at"),
    "bytes": (b"\x80\x04B" + PUT.to_bytes(4, "little") + b".", "expected 16777216 bytes"),
    "array of bytes": (b"\x80\x05\x96" + PUT.to_bytes(8, "little") + b".", "expected 16777216"),
    "sets": (b"\x80\x04(" + b"\x8f" * 50_000 + b"l.", "of memory, and"),
}


@pytest.mark.parametrize("content", PICKLES)
def test_pickles_that_need_more_than_memory(tmp_path, little_memory, content):
    path = tmp_path / "bomb.p"
    path.write_bytes(PICKLES[content][0])
    with pytest.raises(ValueError, match=f"read safely .*{PICKLES[content][1]}"):
        read_halo_cnn(path)


def test_boxes_that_unpack_into_more_than_memory(tmp_path, little_memory):
    names = "#ID(0) UPID(1) X(2) Y(3) Z(4) VX(5) VY(6) VZ(7)\n"
    row = "1 -1 2 3 4 5 6 7\n"
    path = tmp_path / "box.gz"
    path.write_bytes(gzip.compress((names + 9 * row).encode()))
    assert len(read_box_text(path).identity) == 9
    for text, said in (
        ("#" + "a" * MIB, "no column id"),
        (names + "1" * MIB, "a line of 65536 bytes or more"),
        (names + 60_000 * row, "a quarter of the memory holds no more"),
    ):
        path.write_bytes(gzip.compress(text.encode()))
        with pytest.raises(ValueError, match=said):
            read_box_text(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"box\.gz: .*write it again"):
        read_box_text(path)


def test_tables_of_two_columns_that_need_more_than_memory(tmp_path, little_memory):
    path = tmp_path / "nz.fits.gz"
    Table({"z": np.zeros(200_000), "n": np.zeros(200_000)}).write(path)
    with pytest.raises(ValueError, match=r"nz\.fits\.gz.* a quarter of the memory"):
        read_redshift_distribution(path)
    lists = np.array([np.zeros(3), np.zeros(2)], object)
    columns = [fits.Column("z", "PD()", array=lists), fits.Column("n", "D", array=np.ones(2))]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "lists.fits")
    with pytest.raises(ValueError, match="expected one number in each row"):
        read_redshift_distribution(tmp_path / "lists.fits")


@pytest.mark.parametrize("name", ["galaxies.csv.gz", "galaxies.fits.gz", "galaxies.csv"])
def test_catalogues_that_unpack_into_more_than_memory(tmp_path, little_memory, name):
    path = tmp_path / name
    table = Table({n: np.zeros(200_000) for n in ("ra", "dec", "e1", "e2")})
    table.write(path, format="fits" if "fits" in name else "ascii.csv")
    with pytest.raises(ValueError, match="quarter of the memory"):
        read_shear(path)


def test_parquet_of_many_equal_rows(tmp_path, little_memory):
    path = tmp_path / "galaxies.parquet"
    Table({n: np.zeros(400_000) for n in ("ra", "dec", "e1", "e2")}).write(path)
    assert path.stat().st_size < MIB / 4
    with pytest.raises(ValueError, match="400000 rows"):
        read_shear(path)


def hdf5(path: Path, shape: tuple[int, ...]) -> Path:
    """Datasets that hold nothing, and claim a shape."""
    with h5py.File(path, "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file.create_dataset(name, shape, "f8", chunks=(1, *shape[1:])[: len(shape)])
    return path


def test_columns_of_hdf5_are_held_together(tmp_path, monkeypatch):
    """Each would fit; of two tables of them the smaller is read."""
    for name, num in (("small", 10), ("large", 300_000)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for column in ("ra", "dec", "e1", "e2"):
                file[column] = np.linspace(0, 0.5, num)
    monkeypatch.setattr(machine, "_free_memory", lambda: 8 * MIB)
    assert len(read_shear(tmp_path / "small.h5", survey=GENERIC)) == 10
    with pytest.raises(ValueError, match=r"dataset /\w+ with 3 others needs .* of memory, and"):
        read_shear(tmp_path / "large.h5", survey=GENERIC)


def test_hdf5_that_claims_an_absurd_shape(tmp_path, little_memory):
    with pytest.raises(ValueError, match="of memory, and"):
        read_shear(hdf5(tmp_path / "galaxies.h5", (10**13,)))
    path = tmp_path / "samples.nc"
    with h5py.File(path, "w") as file:
        file.attrs["grid"] = json.dumps({"shape": [9, 9], "pixel_arcmin": 1, "centre_deg": None})
        file.create_dataset("posterior/kappa", (1, 10**9, 9, 9), "f4", chunks=(1, 1, 9, 9))
    with pytest.raises(ValueError, match="of memory, and"):
        read_samples(path)
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file.create_dataset("kappa", (2, 10**6, 10**6), "f4", chunks=(1, 9, 9))
    with pytest.raises(ValueError, match="of memory, and"):
        open_maps(tmp_path / "maps.h5", pixel_arcmin=1.0)


def test_hdf5_in_chunks_that_need_more_than_memory(tmp_path, little_memory):
    """Of ten numbers in one chunk of 16 MiB, which is unpacked as a whole."""
    path = tmp_path / "galaxies.h5"
    with h5py.File(path, "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file.create_dataset(
                name, data=np.zeros(10), chunks=(2**21,), maxshape=(None,), compression="gzip"
            )
    with pytest.raises(ValueError, match="of memory, and"):
        read_shear(path)


SHAPE = (4, 5)


@pytest.fixture
def plan(tmp_path) -> Plan:
    """Of one patch, which has a result with two samples."""
    tiling = Tiling(1, 1, SHAPE, 1.0, 0.0, (Patch(7, (10.0, 5.0), (3,), 1),))
    made = Plan(tmp_path / "run", {}, tiling, 1, (0.3, 0.3), 1, "a digest", "0")
    maps = (np.zeros(SHAPE), np.ones(SHAPE), None, np.ones(SHAPE, bool), np.ones(SHAPE))
    write_result(made, Task(7, 0), Chunk(*maps, 2, 1, np.zeros((2, *SHAPE))))
    return made


def test_results_of_surveys_that_do_harm(plan, little_memory):
    path, (patch,) = result_path(plan, Task(7, 0)), plan.tiling.patches
    whole = path.read_bytes()
    assert patch_map(plan, patch).std.shape == SHAPE and len(list(samples_of(plan, patch))) == 2
    secret = plan.folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["mean"] = np.ones(SHAPE)

    def absurd(file: h5py.File, name: str) -> None:
        file.create_dataset(name, (2, 10**6, 10**6), "f8", chunks=(1, 9, 9))

    def elsewhere(file: h5py.File, name: str) -> None:
        file[name] = h5py.ExternalLink("../secret.h5", "mean")

    def group(file: h5py.File, name: str) -> None:
        file.create_group(name)

    def small(file: h5py.File, name: str) -> None:
        file[name] = np.ones((2, 2))

    harm = {
        absurd: "of memory, and",
        elsewhere: "outside its folder",
        group: "no dataset",
        small: "shape",
    }
    readers = {"mean": patch_map, "samples": lambda *of: list(samples_of(*of))}
    for change, said in harm.items():
        for name, read in readers.items():
            path.write_bytes(whole)
            with h5py.File(path, "r+") as file:
                del file[name]
                change(file, name)
            with pytest.raises(OSError, match=rf"patch-0000007.*{said}.*run the survey again"):
                read(plan, patch)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["mean"]
    with pytest.raises(OSError, match="it lacks mean"):
        patch_map(plan, patch)
    path.write_bytes(whole)
    damaged_heap(path)
    with pytest.raises(OSError, match="heap of texts in it is damaged"):
        patch_map(plan, patch)


def test_galaxies_of_surveys_that_do_harm(tmp_path, little_memory):
    path = cell_path(tmp_path, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("galaxies", (10**12,), ROW, chunks=(9,))
    with pytest.raises(OSError, match=r"of memory, and.*restore the file"):
        read_cells(tmp_path, [3])
    with h5py.File(path, "w") as file:
        file["galaxies"] = np.ones(5)
    with pytest.raises(OSError, match=r"galaxies of float64.*restore the file"):
        read_cells(tmp_path, [3])


def test_hdf5_that_leads_to_other_files(tmp_path):
    secret = tmp_path / "secret" / "private.h5"
    secret.parent.mkdir()
    rng = np.random.default_rng(0)
    with h5py.File(secret, "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file[name] = rng.uniform(0, 0.5, 9)
    shown = tmp_path / "shown"
    shown.mkdir()
    with h5py.File(shown / "link.h5", "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file[name] = h5py.ExternalLink("../secret/private.h5", name)
    with h5py.File(shown / "virtual.h5", "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            layout = h5py.VirtualLayout((9,), "f8")
            layout[:] = h5py.VirtualSource("../secret/private.h5", name, (9,))
            file.create_virtual_dataset(name, layout)
    raw = tmp_path / "secret" / "raw"
    raw.write_bytes(rng.uniform(0, 0.5, 9).tobytes())
    with h5py.File(shown / "raw.h5", "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file.create_dataset(name, (9,), "f8", external=[("../secret/raw", 0, 72)])
    for name in ("link", "virtual", "raw"):
        with pytest.raises(ValueError, match="outside its folder"):
            read_shear(shown / f"{name}.h5")
        reader = open_shapes(shown / f"{name}.h5")
        with pytest.raises(ValueError, match="outside its folder"):
            next(reader.table.in_parts(reader.names, 4))
    # The control: inside the folder it is a survey in several files, as DES has them.
    (shown / "part.h5").write_bytes(secret.read_bytes())
    with h5py.File(shown / "whole.h5", "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file[name] = h5py.ExternalLink("part.h5", name)
    assert len(read_shear(shown / "whole.h5")) == 9


def test_fits_maps_that_claim_an_absurd_shape(tmp_path):
    header = fits.PrimaryHDU(np.zeros((4, 4))).header
    header["NAXIS1"], header["NAXIS2"] = 10**7, 10**7
    content = header.tostring().encode() + bytes(2880)
    for name, data in (("map.fits", content), ("gz.fits", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        for read in (read_mass_map, read_provenance):
            with pytest.raises(ValueError, match="not a whole jaxmap map"):
                read(tmp_path / name)
    with pytest.raises(ValueError, match=r"of memory, and|cut short"):
        open_maps(tmp_path / "map.fits", pixel_arcmin=1.0)[0]


def test_objects_in_hdf5_are_not_unpickled(tmp_path):
    path = tmp_path / "objects.h5"
    with h5py.File(path, "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            words = [pickle.dumps(1).hex()] * 3
            file.create_dataset(name, data=words, dtype=h5py.string_dtype())
    with pytest.raises(ValueError, match="is not numeric"):
        read_shear(path)


def damaged_heap(path: Path) -> None:
    """The last object of the heap of texts becomes longer than the heap says: on the way from one
    object to the next, the HDF5 library comes to one of no length, and stays there."""
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL") + 16
    while content[at + 16 + 8 * -(-content[at + 8] // 8)]:
        at += 16 + 8 * -(-content[at + 8] // 8)
    content[at + 9] += 3
    path.write_bytes(content)


def test_hdf5_whose_texts_never_end(tmp_path):
    """Refused at once, as attributes, as units and as columns; whole ones are read."""
    samples, galaxies, words = (tmp_path / name for name in ("samples.nc", "units.h5", "words.h5"))
    with h5py.File(samples, "w") as file:
        file.attrs["grid"] = json.dumps({"shape": [2, 2], "pixel_arcmin": 1, "centre_deg": None})
        file["posterior/kappa"] = np.zeros((1, 3, 2, 2))
    with h5py.File(galaxies, "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file[name] = np.linspace(0, 0.5, 9)
            file[name].attrs["unit"] = "deg" if name in ("ra", "dec") else ""
    with h5py.File(words, "w") as file:
        for name in ("ra", "dec", "e1", "e2"):
            file.create_dataset(name, data=["0.1", "0.2"], dtype=h5py.string_dtype())
    assert read_samples(samples)[0].shape == (3, 2, 2) and len(read_shear(galaxies)) == 9
    fixed = tmp_path / "fixed.nc"
    shutil.copy(samples, fixed)
    with h5py.File(fixed, "r+") as file:
        file.attrs["grid"] = np.bytes_(file.attrs["grid"])
    assert read_samples(fixed)[0].shape == (3, 2, 2)
    for path, read in ((samples, read_samples), (galaxies, read_shear), (words, read_shear)):
        damaged_heap(path)
        with pytest.raises(ValueError, match="heap of texts in it is damaged"):
            read(path)


@pytest.mark.slow
def test_a_bomb_takes_no_memory(tmp_path):
    """In a process that may take 4 GiB of address space: refused, where numpy runs out."""
    path = archive(tmp_path / "bomb.npz", a=npy_header("(4000000000,)") + bytes(64))
    code = (
        "import re, resource, sys, numpy as np\n"
        "from jaxmap.arrayfiles import read_arrays\n"
        "limit = 4 * 2**30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "def ended(work):\n"
        "    try: work()\n"
        "    except Exception as error: return type(error).__name__\n"
        "print(ended(lambda: read_arrays(sys.argv[1])))\n"
        "print(ended(lambda: np.load(sys.argv[1])['a']))\n"
        # Not ru_maxrss, which begins with the peak of the process that started this one.
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    run = [sys.executable, "-c", code, str(path)]
    ours, numpys, peak = subprocess.run(
        run, capture_output=True, text=True, check=True
    ).stdout.split()
    assert ours == "ValueError" and "Memory" in numpys
    assert int(peak) * 1024 < 2**30
