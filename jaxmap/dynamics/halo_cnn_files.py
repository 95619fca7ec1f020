"""Catalogues in the layouts of the public halo_cnn code: pickles, and padded npy arrays.

Pickles are read without running anything from them. A pickle can name any function and call it; the
reader here knows a short list of names. numpy's own (arrays, types) are the only real ones. For the
classes of pandas and of halo_cnn itself it puts in empty shells that do nothing but remember what
they were given, from which the arrays are taken. Any other name is refused. What a pickle makes is
counted before, and refused where it needs more memory than there is.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.arrayfiles import read_array
from jaxmap.dynamics.members import ClusterMembers, cluster_members, halo_groups, require_masses
from jaxmap.files import atomic_path
from jaxmap.machine import check_memory
from jaxmap.texttables import require_file


class _Shell:
    """Remembers how it was made and what state it was given; does nothing."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> _Shell:
        made = super().__new__(cls)
        made.arguments = (arguments, keywords)
        made.state = None
        return made

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.arguments: Any
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Catalog(_Shell):
    pass


class _Frame(_Shell):
    pass


class _Manager(_Shell):
    pass


class _Index(_Shell):
    pass


class _Range(_Shell):
    pass


class _Block(_Shell):
    pass


class _Slice(_Shell):
    pass


class _Call:
    """A function that a pickle may call but not change: pickles can set attributes of functions."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work

    def __call__(self, *arguments: Any) -> Any:
        return self._work(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _no_array(*arguments: Any) -> Any:
    """Stands for the class of arrays, which would make one of any size when called."""
    raise pickle.UnpicklingError("it makes an array by its shape")


_ARRAY = _Call(_no_array)
_MANAGERS = ("pandas.core.internals.managers", "pandas.core.internals")
_SHELLS: dict[tuple[str, str], type] = {
    ("tools.catalog", "Catalog"): _Catalog,
    ("halo_cnn.tools.catalog", "Catalog"): _Catalog,
    ("pandas", "DataFrame"): _Frame,
    ("pandas.core.frame", "DataFrame"): _Frame,
    **{(module, "BlockManager"): _Manager for module in _MANAGERS},
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas", "Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _Range,
    ("pandas.core.indexes.numeric", "Int64Index"): _Index,
    ("pandas", "RangeIndex"): _Range,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("builtins", "slice"): _Slice,
}
_COLUMNS = ("Rproj", "vlos", "memb_halo", "true_memb")
"""Of galaxies, as far as they are read."""

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")


def _array_shell(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """What numpy's pickles call first; arrays only."""
    del shape, code
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("an array of an unknown class")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(kind: np.dtype, content: Any = None) -> Any:
    if not isinstance(kind, np.dtype) or not isinstance(content, bytes) or kind.hasobject:
        raise pickle.UnpicklingError("a number of an unknown kind")
    return np.frombuffer(content, kind, 1)[0]


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(kind, np.dtype) or kind.hasobject:
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.frombuffer(content, kind).reshape(shape, order=order)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Old pickles keep bytes as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text of encoding {encoding!r}")
    return text.encode("latin1")


class _Restricted(pickle.Unpickler):
    """An unpickler that resolves the names above and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # as Python 2 called it
        if (module, name) in _SHELLS:
            return _SHELLS[module, name]
        if module in _ARRAYS and name == "_reconstruct":
            return _Call(_array_shell)
        if module in _ARRAYS and name == "scalar":
            return _Call(_scalar)
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _Call(_from_buffer)
        if (module, name) == ("numpy", "ndarray"):
            return _ARRAY
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):
            return _Call(_encoded)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of a catalogue")

    def persistent_load(self, identity: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of it")


_BYTES_OF_OBJECT = 512
"""At most, for what one instruction of a pickle makes, without its text, and its place in lists."""

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def _unpickled(content: bytes) -> Any:
    """What a pickle holds, if its instructions make no more than there is memory for.

    The unpickler makes its list of objects as long as the highest number in it, and room for texts
    before it reads them. ``genops`` goes through the instructions and makes nothing: numbers must
    be those of objects that are there, and a text that the file does not hold is an error.

    Raises:
        UnpicklingError, ValueError: for more, or damage; whatever else the unpickler raises.
    """
    count = 0
    for code, argument, _ in pickletools.genops(content):
        if code.name in _PUTS and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"it puts an object at {argument}, and has made {count}")
        count += 1
    _check_memory(_BYTES_OF_OBJECT * count + 4 * len(content))  # a letter can take four bytes
    return _Restricted(io.BytesIO(content)).load()


def _check_memory(needed: float) -> None:
    remedy = "is it what it should be? Fetch it again, or use a larger machine"
    check_memory(needed, "reading it", remedy, host=True)


def read_halo_cnn(path: str | Path) -> ClusterMembers:
    """Read a catalogue of the public halo_cnn code, ``.p``/``.pkl``/``.pickle`` or ``.npy``.

    Pickles hold parameters, a table of clusters and an array of galaxies for each cluster; npy
    files one structured array with galaxy columns ``gal_...`` padded to the richest cluster, and no
    parameters. Nothing in a pickle is run.

    Args:
        path: of the file.

    Returns:
        Clusters with masses, halos, lines of sight and, where known, members.

    Raises:
        ValueError: for files of another layout, and pickles that name anything but their arrays.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path).expanduser()
    require_file(path)
    if path.suffix == ".npy":
        return _from_padded(path)
    try:
        _check_memory(path.stat().st_size)
        catalogue = _unpickled(path.read_bytes())
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not a halo_cnn catalogue that can be read safely ({error}); expected a "
            "pickle of tools.catalog.Catalog; save it as npy with that code if it is one"
        ) from error
    if not isinstance(catalogue, _Catalog):
        raise ValueError(
            f"{path} holds a {type(catalogue).__name__}; expected a pickle of tools.catalog.Catalog"
        )
    try:
        return _from_catalogue(catalogue)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} is a halo_cnn catalogue of an unknown layout ({type(error).__name__}: "
            f"{error}); save it as npy with that code"
        ) from error


def write_halo_cnn(path: str | Path, members: ClusterMembers) -> None:
    """Write clusters as halo_cnn's padded array, ``.npy``; it has no place for the cylinder.

    Raises:
        ValueError: for another ending, or clusters without true masses.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"cannot write a halo_cnn array to {path}; expected a name ending in .npy")
    masses, sizes = require_masses(members), members.richness
    galaxies = {"Rproj": members.radius_mpc_h, "vlos": members.velocity_km_s}
    if members.member is not None:
        galaxies["memb_halo"] = members.member
    lines = members.line_of_sight
    properties = {
        "rockstarId": halo_groups(members),
        "M200c": 10**masses,
        "rotation": np.zeros(len(members), int) if lines is None else lines,
        "Ngal": sizes,
    }
    inside = np.arange(sizes.max(initial=0))[None, :] < sizes[:, None]
    kinds: list[Any] = [(name, values.dtype) for name, values in properties.items()]
    kinds += [(f"gal_{name}", one.dtype, inside.shape[1:]) for name, one in galaxies.items()]
    table = np.zeros(len(members), kinds)
    for name, values in properties.items():
        table[name] = values
    for name, one in galaxies.items():
        table[f"gal_{name}"][inside] = one
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, table, allow_pickle=False)


def _from_catalogue(catalogue: _Catalog) -> ClusterMembers:
    content = catalogue.state
    parameters, galaxies = dict(content["par"]), content["gal"]
    properties = _frame_columns(content["prop"])
    sizes = [len(one) for one in galaxies]
    names = [name for name in _COLUMNS if sizes and name in galaxies[0].dtype.names]
    columns = {name: [one[name] for one in galaxies] for name in names}
    parts = [part for column in columns.values() for part in column]
    if not all(part.dtype.kind in "biuf" for part in parts):
        raise TypeError("galaxies that are not numbers")
    _check_memory(16 * sum(part.size for part in parts))  # one array can stand in many places
    flat = {name: np.concatenate(column) for name, column in columns.items()}
    return _members(flat, sizes, properties, parameters)


def _from_padded(path: Path) -> ClusterMembers:
    try:
        table = read_array(path)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read safely ({error}); expected one structured array without objects"
        ) from error
    names = table.dtype.names or ()
    galaxies = [name for name in names if name.startswith("gal_")]
    if "Ngal" not in names or "gal_vlos" not in names or "gal_Rproj" not in names:
        raise ValueError(
            f"{path} has the columns {', '.join(names) or 'none'}; expected Ngal, gal_vlos and "
            "gal_Rproj, as halo_cnn's save_npy writes"
        )
    shapes = {table.dtype[name].shape for name in galaxies}
    if table.ndim != 1 or len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"{path} has shape {table.shape} and galaxy columns of shape {sorted(shapes)}; "
            "expected one row for each cluster, and one length for all of its galaxy columns"
        )
    sizes = table["Ngal"].astype(int)
    inside = np.arange(table["gal_vlos"].shape[1])[None, :] < sizes[:, None]
    flat = {name.removeprefix("gal_"): table[name][inside] for name in galaxies}
    properties = {name: table[name] for name in names if name not in galaxies}
    return _members(flat, sizes, properties, {})


def _members(
    galaxies: dict[str, np.ndarray], sizes: Any, properties: dict, parameters: dict
) -> ClusterMembers:
    truth = next((galaxies[n] for n in ("memb_halo", "true_memb") if n in galaxies), None)
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=int)])
    masses = properties.get("M200c")
    cumulative = None if truth is None else np.concatenate([[0], np.cumsum(truth.astype(bool))])
    return cluster_members(
        galaxies["Rproj"].astype(float),
        galaxies["vlos"].astype(float),
        offsets,
        log10_mass=None if masses is None else _log10_mass(masses.astype(float)),
        halo=properties.get("rockstarId"),
        line_of_sight=properties.get("rotation"),
        num_true=None if cumulative is None else np.diff(cumulative[offsets]),
        member=truth,
        aperture_mpc_h=parameters.get("aperture"),
        velocity_cut_km_s=parameters.get("vcut"),
        redshift=float(parameters.get("z", 0.117)),
    )


def _log10_mass(mass: np.ndarray) -> np.ndarray:
    if np.any(mass <= 0):
        raise ValueError(
            f"M200c is {mass.min():g} for {np.sum(mass <= 0)} clusters; expected masses above 0 in "
            "Msun/h (leave these clusters out)"
        )
    return np.log10(mass)


def _frame_columns(frame: Any) -> dict[str, np.ndarray]:
    """The columns of a pandas table from the shells of its pickle, of old or new pandas."""
    state = frame.state
    manager: Any = state.get("_mgr", state.get("_data")) if isinstance(state, dict) else state
    if manager.state is not None:  # pandas before 1.3
        new = manager.state[3]["0.14.1"]
        axes, blocks = new["axes"], [(b["values"], b["mgr_locs"]) for b in new["blocks"]]
    else:
        blocks_given, axes = manager.arguments[0]
        blocks = [block.arguments[0][:2] for block in blocks_given]
    names = _index_values(axes[0])
    columns: dict[str, np.ndarray] = {}
    for values, where in blocks:
        places = np.arange(len(names))[_as_slice(where)]
        columns |= {
            str(names[place]): np.asarray(row) for place, row in zip(places, values, strict=True)
        }
    return columns


def _as_slice(where: Any) -> Any:
    return slice(*where.arguments[0]) if isinstance(where, _Slice) else np.asarray(where)


def _index_values(index: Any) -> np.ndarray:
    given = index.arguments[0]
    content = given[1] if len(given) > 1 else index.state
    return np.asarray(content["data"])
