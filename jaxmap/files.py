"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder, moved to ``path`` on success and removed on failure.

    Folders on the way are made, and taken away again if nothing comes of it.
    """
    path = Path(path)
    with folders_for(path.parent):
        temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{path.suffix}")
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def sha256_of(path: str | Path) -> str:
    """Hash of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FILE_HASH = "file_sha256"
"""What a record beside a file begins with: the file's hash."""


def record_beside(path: str | Path) -> Path:
    """Where a file without room for one has its record: ``masses.csv.json`` of ``masses.csv``."""
    return Path(path).with_name(f"{Path(path).name}.json")


def require_as_written(path: Path) -> None:
    """Refuse a file that is no longer what the record of ours beside it was written for.

    Raises:
        ValueError: if its hash is another one, as of half a table.
    """
    beside = record_beside(path)
    if not beside.is_file():
        return
    with beside.open("rb") as file:
        found = re.match(rf'{{\s*"{FILE_HASH}": "([0-9a-f]{{64}})"'.encode(), file.read(256))
    if found and found[1].decode() != sha256_of(path):
        raise ValueError(
            f"{path} was changed or cut short since jaxmap wrote it: {beside.name} beside it has "
            f"another hash; write or fetch it again, or, if it was changed on purpose, remove "
            f"{beside.name} to have it read as it is"
        )


def whole_lines(path: str | Path) -> bytes:
    """The lines of a file, without what an interruption left of a last one."""
    content = Path(path).read_bytes()
    return content[: content.rfind(b"\n") + 1]


def append_line(path: Path, line: str) -> None:
    """Add a line after the last whole one of a file, which is made if there is none.

    What an interruption left of a last line is taken away.
    """
    added = f"{line}\n".encode()
    kept = _length_of_lines(path) if path.exists() else 0
    if not kept:
        with atomic_path(path) as temporary:
            temporary.write_bytes(added)
        return
    with open(path, "r+b") as file:
        file.truncate(kept)
        file.seek(kept)
        file.write(added)


def _length_of_lines(path: Path, block: int = 2**16) -> int:
    """Bytes up to the end of the last whole line, looked for from the end on."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - block, 0)
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            end = start
    return 0


def reserve(path: Path, num_bytes: int) -> None:
    """Take the room of a file at once: libraries that find a full disk later may kill us.

    Raises:
        OSError: if there is not as much.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(num_bytes, 1))
    except OSError as error:
        raise OSError(
            error.errno,
            f"there is no room for {path} ({error.strerror}); free some, or choose another folder",
        ) from error


@contextmanager
def folders_for(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; on failure remove those that were made."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for part in missing:
            try:
                part.rmdir()
            except OSError:  # somebody else has used it meanwhile
                break
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, renamed to it on success and removed on failure.

    There must be nothing at ``path``, or an empty folder.
    """
    with folders_for(path.parent):
        temporary = path.with_name(f".{uuid.uuid4().hex[:12]}")
        temporary.mkdir()
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, suffix: str = "", age_s: float = 600.0) -> None:
    """Remove what a killed process left of `atomic_path` or `atomic_folder` in a folder.

    Args:
        folder: where to look.
        suffix: of the files, such as ``.h5``.
        age_s: younger ones stay, since somebody may be writing them.
    """
    for path in folder.glob(f".{'[0-9a-f]' * 12}{suffix}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime <= age_s:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
