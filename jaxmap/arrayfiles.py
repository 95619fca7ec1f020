"""Arrays from ``.npz`` and ``.npy`` files of strangers: no pickles, and no more than is there.

A header may promise any shape, and NumPy makes room for it before it reads. Here the promise is
compared with the bytes of the file, and these with the memory of the machine, before anything is
allocated. Archives are never unpacked to disk, so that names in them cannot lead anywhere.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxmap.machine import check_memory

LARGEST_HEADER = 2**24
"""Bytes of a JSON text inside a file; ours have some thousands."""

_JSON_GROWTH = 32
"""Bytes of memory for one of JSON text, at most: a dictionary with its key in seven letters."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, all of them or those that are named and there.

    Raises:
        ValueError: for a file that is no whole archive of plain arrays, or too large for memory.
        FileNotFoundError: if there is no such file.
    """
    with plain_errors(), zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("two arrays in it have one name")
        wanted = {
            member.removesuffix(".npy"): info
            for member, info in members.items()
            if names is None or member.removesuffix(".npy") in names
        }
        # What the directory of the archive says is all that zipfile will unpack.
        check_memory(
            sum(info.file_size for info in wanted.values()),
            f"reading {path}",
            "is it what it should be? Fetch it again, or use a larger machine",
            host=True,
        )
        arrays = {}
        for name, info in wanted.items():
            with archive.open(info) as stream:
                arrays[name] = _array(stream, info.file_size)
                if stream.read(1):  # to the end, where the checksum is compared
                    raise ValueError(f"{name} is followed by other bytes")
        return arrays


def read_array(path: str | Path) -> np.ndarray:
    """The array of an ``.npy`` file.

    Raises:
        ValueError: for a file that is no whole array, or too large for memory.
        FileNotFoundError: if there is no such file.
    """
    size = Path(path).stat().st_size
    check_memory(size, f"reading {path}", "use a larger machine", host=True)
    with plain_errors(), open(path, "rb") as stream:
        return _array(stream, size)


def read_header(stream: IO[bytes], size: int) -> Header:
    """Shape, order and type of the array that a stream begins with.

    Args:
        stream: at its beginning.
        size: bytes of header and array together.

    Raises:
        ValueError: for objects, or if the array is not of that many bytes.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"npy format {version} is not one of plain arrays")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, neither numbers nor text")
    if stream.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(
            f"its header promises {dtype} of shape {shape}, which is not what its {size} bytes "
            "hold: it is cut short or damaged"
        )
    return shape, fortran, dtype


def json_of(array: np.ndarray) -> dict[str, Any]:
    """The JSON object that an array of bytes holds.

    Raises:
        ValueError: if it is none, or longer than `LARGEST_HEADER`.
    """
    if array.dtype != np.uint8 or array.ndim != 1 or array.size > LARGEST_HEADER:
        raise ValueError(f"its header is an array of {array.dtype} of shape {array.shape}")
    found = parsed_json(array.tobytes())
    if not isinstance(found, dict):
        raise ValueError(f"its header is a {type(found).__name__}, not an object")
    return found


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        ValueError: for a file that cannot be read, is no JSON, nested too deeply or too large.
        FileNotFoundError: if there is no such file.
    """
    with plain_errors():
        check_memory(
            _JSON_GROWTH * path.stat().st_size, f"reading {path}", "use a larger machine", host=True
        )
        return parsed_json(path.read_bytes())


def parsed_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: if it is none, or nested too deeply.
    """
    with plain_errors():
        return json.loads(text)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what libraries raise for damaged bytes into a ValueError with the reason.

    zipfile, zlib and lzma have classes of their own; nesting too deep is a RecursionError.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from error
    except ValueError as error:
        if type(error) is ValueError:
            raise
        raise ValueError(" ".join(str(error).split())) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise ValueError(f"{type(error).__name__}: {reason}") from error


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    shape, fortran, dtype = read_header(stream, size)
    content: Any = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    reader: Any = stream
    filled = 0
    while filled < content.size:
        got = reader.readinto(memoryview(content)[filled:])
        if not got:
            raise ValueError("it is cut short")
        filled += got
    return content.view(dtype).reshape(shape, order="F" if fortran else "C")
