"""Text as people write it, and inputs that cannot be opened."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxmap.reading.readers import read_shear

ROWS = [["150.1", "2.2", "0.1", "-0.2"], ["150.3", "2.1", "0.3", "0.05"], ["1", "2", "0", "0.5"]]


def text(header: list[str], delimiter: str, rows: list[list[str]] = ROWS) -> str:
    return "".join(delimiter.join(row) + "\n" for row in [header, *rows])


def assert_expected(path: Path, **options: Any) -> None:
    catalog = read_shear(path, **options)
    e = catalog.ellipticity
    read = np.stack([catalog.ra_deg, catalog.dec_deg, e.real, e.imag], axis=1)
    np.testing.assert_array_equal(read, np.array(ROWS, float))


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("a.csv", ";"), ("a.txt", "|"), ("a.csv", " | "), ("a.tsv", "\t"), ("a.txt", "\t")],
)
@pytest.mark.parametrize(
    "header", ["ra dec e1 e2", "RA_DEG DEC_DEG e1 e2", "ra_(deg) Dec_[deg] e1 e2"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_layouts(name: str, delimiter: str, header: str, packed: bool, tmp_path: Path) -> None:
    names = [word.replace("_(", " (").replace("_[", " [") for word in header.split()]
    content = text(names, delimiter).encode()
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert_expected(path)


def test_units_after_names_of_spaced_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(["ra (deg)", "dec (degrees)", "e1", "e2"], "  "))
    assert_expected(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("#" + text(['"ra (deg)"', "dec[deg]", "e1", "e2"], " "))
    assert_expected(tmp_path / "b.txt")
    (tmp_path / "rad.txt").write_text(text(["ra (rad)", "dec (rad)", "e1", "e2"], " "))
    with pytest.raises(ValueError, match=r"no column for 'ra'.*\(--columns ra=name\)"):
        read_shear(tmp_path / "rad.txt")


def test_bars_in_names_are_no_delimiters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        text(["ra", "dec", "e1", "e2", "|e|"], " ", [[*row, "0.2"] for row in ROWS])
    )
    assert_expected(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_names_beyond_ascii(encoding: str, tmp_path: Path) -> None:
    names = ["ä", "δ" if "utf" in encoding else "ö", "e1", "e2"]
    (tmp_path / "a.csv").write_text(text(names, ","), encoding=encoding)
    assert_expected(tmp_path / "a.csv", columns={"ra": "ä", "dec": names[1]})


@pytest.mark.parametrize("missing", ["", "NA", "N/A", "NULL", "null", "None", "--", "nan"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", " ")])
@pytest.mark.parametrize("header", ["", "# "])
def test_missing_values(
    missing: str, name: str, delimiter: str, header: str, tmp_path: Path
) -> None:
    if delimiter == " " and not missing:
        pytest.skip("spaces leave no empty cells")
    gap = ["5", "5", "0", missing]
    path = tmp_path / name
    path.write_text(header + text(["ra", "dec", "e1", "e2"], delimiter, [gap, *ROWS]))
    with pytest.raises(ValueError, match=r"'e2' holds 1 values.*row 0"):
        read_shear(path)
    assert_expected(path, drop_invalid=True)


@pytest.mark.parametrize("delimiter", [",", " ", "\t"])
@pytest.mark.parametrize("start", ["", "# "])
def test_repeated_names(delimiter: str, start: str, tmp_path: Path) -> None:
    rows = [[*row, "0.4"] for row in ROWS]
    for name in ("a.txt", "a.tsv"):
        (tmp_path / name).write_text(start + text(["ra", "dec", "e1", "e2", "e2"], delimiter, rows))
        with pytest.raises(ValueError, match="more than one column is called 'e2'; rename"):
            read_shear(tmp_path / name)


def test_compressed_text_cut_short(tmp_path: Path) -> None:
    packed = gzip.compress(text(["ra", "dec", "e1", "e2"], ",", ROWS * 100).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(ValueError, match=r"a\.csv\.gz.*cut short"):
        read_shear(tmp_path / "a.csv.gz")


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/null")):
        with pytest.raises(ValueError, match="is a pipe or a device; expected a file"):
            read_shear(path)
    with pytest.raises(ValueError, match=r"^cannot read .*: File name too long$"):
        read_shear(tmp_path / ("x" * 300 + ".csv"))
    (tmp_path / "a.csv").write_text(text(["ra", "dec", "e1", "e2"], ","))
    with pytest.raises(ValueError, match=r"^cannot read .*: Not a directory$"):
        read_shear(tmp_path / "a.csv" / "b.csv")

    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    for owner, name in (("builtins", "open"), ("pathlib.Path", "stat")):  # a file, a folder
        with monkeypatch.context() as patch:
            patch.setattr(f"{owner}.{name}", refuse)
            with pytest.raises(ValueError, match=r"^cannot read .*a\.csv: Permission denied$"):
                read_shear(tmp_path / "a.csv")
