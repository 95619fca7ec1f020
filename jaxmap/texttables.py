"""Input files: which can be opened at all, and where text has its column names."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import lzma
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from jaxmap.files import require_as_written
from jaxmap.machine import host_memory

log = logging.getLogger(__name__)

MISSING = ("", "NA", "N/A", "NULL", "null", "None", "--")
"""What text files have in place of a number that is not known; "nan" is a number."""


def require_file(path: Path) -> None:
    """Refuse what is no file, may not be read, or is not what its record says.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, a pipe or a device, the system refuses it, or a record of
            ours beside it is of another content (`jaxmap.files.require_as_written`).
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{path} is a folder; expected one file")
        if not stat.S_ISREG(mode):  # a pipe would block, and could be read only once
            raise ValueError(f"{path} is a pipe or a device; expected a file: write it to one")
        require_as_written(path)
        open(path, "rb").close()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {path}; check the name") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    """The content of a file, which may be compressed by gzip or xz, whatever its name."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    return lzma.open(path) if head.startswith(b"\xfd7zXZ") else open(path, "rb")


def content_of(path: Path) -> bytes:
    """All of a file, decompressed, as long as it takes no more than a quarter of the memory.

    Raises:
        ValueError: for more; whatever gzip and lzma raise for damaged files.
    """
    parts: list[bytes] = []
    size, limit = 0, host_memory() // 4
    with opened(path) as file:
        while part := file.read(2**20):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise ValueError(
                    f"it holds more than {limit / 2**30:.2g} GiB, a quarter of the memory that is "
                    "free; give a part of it, or use a larger machine"
                )
    return b"".join(parts)


def read_text(path: Path) -> str:
    """Text in UTF-8, or else in Latin-1 (which takes any bytes), with ``\\n`` as line ends."""
    content = content_of(path)
    try:
        return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError:
        return io.TextIOWrapper(io.BytesIO(content), "latin-1").read()


def text_layout(text: str, path: Path, *, allow_empty: bool = False) -> dict[str, Any]:
    """Options with which astropy's ``Table.read`` reads columns separated by , ; | or spaces.

    The names are the first line or stand in the comments before it. A ``.tsv`` file has tabs,
    which elsewhere count as spaces.

    Raises:
        ValueError: if there are no rows (unless that is allowed) or no names.
    """
    if not text.endswith("\n"):
        log.warning("%s: the last line is not ended; is the file complete?", path)
    comments: list[str] = []
    rows: list[str] = []
    for line in io.StringIO(text):
        if line.lstrip().startswith("#"):
            comments += [] if rows else [line.strip().lstrip("#").strip()]
        elif line.strip():
            rows.append(line.strip(" \n"))
        if len(rows) == 2:
            break
    candidates = "\t,;|" if ".tsv" in path.name.lower() else ",;|"
    delimiter = next((d for d in candidates if rows and all(d in row for row in rows)), None)
    words = _split(rows[0], delimiter) if rows else []
    has_header = not all(_is_number(word) for word in words)
    if len(rows) <= has_header and not (allow_empty and rows):
        raise ValueError(f"{path} holds no rows; write or fetch it again")
    names = words if has_header else _names_in_comments(comments, len(words), delimiter)
    if names is None:
        raise ValueError(
            f"{path}: no line with column names before the numbers {rows[0][:60]!r}; put "
            "one in front, as in: ra dec e1 e2 weight"
        )
    return {
        "format": "ascii.tab" if delimiter == "\t" else "ascii.basic",
        "names": names,
        "header_start": None,
        "data_start": int(has_header),
        "delimiter": delimiter or r"\s",
        "comment": r"\s*#",
        "fill_values": [(word, "0") for word in MISSING],  # masked; the 0 only lets them be numbers
        "guess": False,
        "fast_reader": False,
    }


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:  # "ra (deg)" is one name
        line = re.sub(r"\s+(?=[(\[])", "", " ".join(line.split()))
    words = next(csv.reader([line], delimiter=delimiter or " ", skipinitialspace=True))
    return [word.strip() for word in words]


def _names_in_comments(
    comments: Sequence[str], count: int, delimiter: str | None
) -> list[str] | None:
    """Names from comments: one line with all, or a numbered line for each (as SExtractor does)."""
    lines = [_split(line, delimiter) for line in comments if any(map(str.isalpha, line))]
    whole = [words for words in lines if len(words) == count]
    if whole and not any(_is_number(word) for word in whole[-1]):
        return whole[-1]
    numbered = [re.match(r"(\d+)\s+([A-Za-z_]\S*)", line) for line in comments]
    known = {int(match[1]): match[2] for match in numbered if match}
    if len(known) > 1:
        return [known.get(i, f"col{i}") for i in range(1, count + 1)]
    return None


def _is_number(word: str) -> bool:
    try:
        float("nan" if word in MISSING else word)
    except ValueError:
        return False
    return True
