"""Where a text file has its column names: the layouts that surveys and their users write."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def text_layout(path: Path) -> dict[str, Any]:
    """Options with which astropy's ``Table.read`` reads CSV or columns separated by spaces.

    The names are the first line (CSV, if it has commas) or stand in the comments before it.

    Raises:
        ValueError: if there are no rows or no names.
    """
    with open(path, "rb") as raw:
        encoding = "utf-8-sig" if raw.read(3) == b"\xef\xbb\xbf" else "latin-1"
        raw.seek(-1, os.SEEK_END)
        if raw.read(1) not in b"\r\n":
            log.warning("%s: the last line is not ended; is the file complete?", path)
    comments: list[str] = []
    first = ""
    with open(path, encoding=encoding) as file:
        for line in filter(None, map(str.strip, file)):
            if not line.startswith("#"):
                first = line
                break
            comments.append(line.lstrip("#").strip())
    if not first:
        raise ValueError(f"{path} holds no rows; write or fetch it again")
    delimiter = "," if "," in first else None
    words = first.split(delimiter)
    layout: dict[str, Any] = {"format": "ascii.basic"}
    if all(_is_number(word) for word in words):
        names = _names_in_comments(comments, len(words), delimiter)
        if names is None:
            raise ValueError(
                f"{path}: no line with column names before the numbers {first[:60]!r}; put "
                "one in front, as in: ra dec e1 e2 weight"
            )
        layout = {"format": "ascii.no_header", "names": names}
    reading = {"delimiter": delimiter or r"\s", "comment": r"\s*#", "encoding": encoding}
    return {**layout, **reading, "guess": False}


def _names_in_comments(
    comments: Sequence[str], count: int, delimiter: str | None
) -> list[str] | None:
    """Names from comments: one line with all, or a numbered line for each (as SExtractor does)."""
    lines = [[word.strip() for word in line.split(delimiter)] for line in comments]
    whole = [words for words in lines if len(words) == count and len(set(words)) == count]
    if whole and not any(_is_number(word) for word in whole[-1]):
        return whole[-1]
    numbered = [re.match(r"(\d+)\s+([A-Za-z_]\S*)", line) for line in comments]
    known = {int(match[1]): match[2] for match in numbered if match}
    if len(known) > 1:
        return [known.get(i, f"col{i}") for i in range(1, count + 1)]
    return None


def _is_number(word: str) -> bool:
    try:
        float(word or "nan")
    except ValueError:
        return False
    return True
