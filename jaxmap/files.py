"""Files that are whole or not there at all."""

from __future__ import annotations

import os
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
