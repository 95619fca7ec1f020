"""Outputs say where they come from, and no command writes over what jaxmap did not write."""

import json

import numpy as np
import pytest
from astropy.table import Table

from jaxmap.cli import main
from jaxmap.conformal import Conformal, read_conformal, write_conformal
from jaxmap.files import record_beside
from jaxmap.networks.weights import write_weights
from jaxmap.records import is_ours, read_record, with_record
from jaxmap.texttables import require_file
from jaxmap.two_columns import read_two_columns

MINE = "cluster,radius_mpc_h,velocity_km_s\n1,0.1,200\n"
TOML = "[schedule]\nnum_steps = 3\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("g.csv", "g.fits", "t.npz", "f.json", "case.npz"):
        (tmp_path / name).write_text(MINE)
    (tmp_path / "out").mkdir()
    for name in ("report.json", "log.jsonl", "calibration.png", "denoiser.npz"):
        (tmp_path / "out" / name).write_text(MINE)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "losses.png").write_text(MINE)
    (tmp_path / "train.toml").write_text(TOML)
    (tmp_path / "more.toml").write_text(f'start = "start/denoiser.npz"\n{TOML}')
    (tmp_path / "f.toml").write_text("num = 3\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dynamics estimate g.csv --out g.csv", "g.csv would be overwritten"),
        ("dynamics estimate g.csv --out ./out/../g.csv", "g.csv would be overwritten"),
        ("dynamics estimate g.csv --out g.fits", "g.fits that jaxmap did not write"),
        ("dynamics estimate g.csv --weights t.npz --out g.fits", "did not write"),
        ("dynamics train g.csv --out t.npz", "t.npz that jaxmap did not write"),
        ("dynamics mock --out g.fits", "g.fits that jaxmap did not write"),
        ("dynamics mock --config f.toml --out g.csv", "g.csv that jaxmap did not write"),
        ("dynamics evaluate --json f.json", "f.json that jaxmap did not write"),
        ("calibrate --out out", "report.json that jaxmap did not write"),
        ("calibrate --method ks --conformal t.npz", "t.npz that jaxmap did not write"),
        ("train train.toml --out out", "denoiser.npz, log.jsonl that jaxmap did not write"),
        ("train train.toml --out pictures", "losses.png that jaxmap did not write"),
        ("train more.toml --out start", "denoiser.npz would be overwritten"),
    ],
)
def test_nothing_of_the_users_is_overwritten(folder, capsys, words, message):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_figures_of_a_benchmark_do_not_replace_anything_else(folder, capsys):
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(8, 8))
    arrays = {"convergence": plane, "shear": [plane, plane], "noise_std": 1 + 0 * plane}
    np.savez("case.npz", **arrays, mask=1 + 0 * plane, pixel_arcmin=1.0)
    np.savetxt("power.txt", [[10, 1e-9], [1e5, 1e-10]])
    flags = ["benchmark", "case.npz", "--methods", "ks", "--spectrum", "power.txt", "--json"]
    for target in ("f.json", "power.txt", "case.npz"):
        assert main([*flags, target]) == 2
        said = capsys.readouterr().err
        assert target in said and "give another file with --json" in said


def test_records_of_files_without_room_for_one(tmp_path):
    path = tmp_path / "masses.csv"
    with with_record(path, {"command": "x"}) as temporary:
        temporary.write_text(MINE)
    assert read_record(path) == {"command": "x"} and record_beside(path).name == "masses.csv.json"
    path.write_text(f"{MINE}2,0.1,3\n")  # changed since: it is the user's now
    assert not is_ours(path) and not is_ours(tmp_path / "none.csv")
    write_weights(tmp_path / "w.npz", {"a": np.ones(2)}, {"about": {"command": "y"}})
    assert read_record(tmp_path / "w.npz") == {"command": "y"}
    (tmp_path / "other.json").write_text(json.dumps({"command": "make", "arguments": []}))
    assert not is_ours(tmp_path / "other.json")


@pytest.mark.parametrize("name", ["clusters.csv", "clusters.ecsv", "clusters.npy"])
def test_a_table_that_was_cut_or_changed_is_not_taken_for_the_whole(tmp_path, capsys, name):
    """Unless its record is taken away, as one does who changed it on purpose."""
    path, out = tmp_path / name, str(tmp_path / "masses.csv")
    assert main(["dynamics", "mock", "--num", "12", "-q", "--out", str(path)]) == 0
    flags = ["--model", "m_sigma_contaminated", "-q", "--out", out]
    assert main(["dynamics", "estimate", str(path), *flags]) == 0  # the control
    content = path.read_bytes()
    half = content[: content.rindex(b"\n", 0, len(content) // 2) + 1]
    for changed in (half, content.replace(b"1", b"2")):
        path.write_bytes(changed)
        assert main(["dynamics", "estimate", str(path), *flags]) == 2
        said = capsys.readouterr().err
        assert "was changed or cut short since" in said and f"remove {name}.json to" in said
    if name.endswith("csv"):
        path.write_bytes(half)
        record_beside(path).unlink()
        assert main(["dynamics", "estimate", str(path), *flags]) == 0


def test_records_of_others_beside_a_file_do_not_matter(tmp_path):
    path = tmp_path / "nz.txt"
    path.write_text("0 1\n1 2\n")
    for text in ("", "{", "[]", '{"sha256": "0"}', '{"file_sha256": 3}', "[" * 10**5):
        record_beside(path).write_text(text)
        require_file(path)
        assert read_two_columns(path, {"z"}, {"nz"}, "z and n(z)")[1].tolist() == [1, 2]
    record_beside(path).write_text(json.dumps({"file_sha256": "0" * 64}, indent=1))
    with pytest.raises(ValueError, match=r"nz\.txt was changed .* remove nz\.txt\.json"):
        read_two_columns(path, {"z"}, {"nz"}, "z and n(z)")


@pytest.mark.parametrize("suffix", [".csv", ".fits"])
def test_clusters_come_again(tmp_path, monkeypatch, capsys, suffix):
    monkeypatch.chdir(tmp_path)
    flags = ["--num", "12", "--seed", "3", "-q", "--out", f"a{suffix}"]
    assert main(["dynamics", "mock", *flags]) == 0
    assert main(["replay", f"a{suffix}", "--out", f"b{suffix}"]) == 0
    assert f"The same, bit for bit: b{suffix}." in capsys.readouterr().out
    flags = ["--model", "m_sigma_contaminated", "-q", "--out"]
    masses = [f"{name}{suffix}" for name in ("first", "again")]
    assert main(["dynamics", "estimate", f"a{suffix}", *flags, masses[0]]) == 0
    assert main(["dynamics", "estimate", f"a{suffix}", *flags, masses[0]]) == 0  # ours: replaced
    record = read_record(tmp_path / masses[0])
    assert list(record["networks"]) == ["dynamics/m_sigma_contaminated.npz"]
    assert main(["replay", masses[0], "--out", masses[1]]) == 0
    assert f"The same, bit for bit: {masses[1]}." in capsys.readouterr().out
    # The control: another table under the name of the second is told from the first.
    from jaxmap.replay_command import compare

    table = Table.read(masses[1])
    table["log10_mass"][0] += 0.1
    table.write(f"other{suffix}")
    said = compare(masses[0], f"other{suffix}")
    assert said == f"other{suffix} differs: log10_mass by 0.1 at most."


def test_trainings_of_masses_come_again_and_changed_networks_are_told(
    tmp_path, monkeypatch, capsys
):
    from jaxmap import replay_command

    monkeypatch.chdir(tmp_path)
    flags = ["--model", "m_sigma", "--num", "40", "-q", "--out", "relation.npz"]
    assert main(["dynamics", "train", *flags]) == 0
    assert main(["replay", "relation.npz", "--out", "again.npz"]) == 0
    assert "The same, bit for bit: again.npz." in capsys.readouterr().out
    flags = ["--num", "20", "--models", "m_sigma_pure", "-q", "--json"]
    assert main(["dynamics", "evaluate", *flags, "figures.json"]) == 0
    assert main(["replay", "figures.json", "--out", "again.json", "-q"]) == 0
    found = [json.loads((tmp_path / name).read_text()) for name in ("figures.json", "again.json")]
    for one in found:
        one["models"]["m_sigma_pure"].pop("milliseconds_per_cluster")
    assert found[0]["models"] == found[1]["models"]
    monkeypatch.setattr(replay_command, "shipped_sha256", lambda name: "0" * 64)
    assert main(["replay", "figures.json", "--out", "third.json"]) == 2
    said = capsys.readouterr().err
    assert "network dynamics/m_sigma_pure.npz" in said and "install jaxmap" in said


def test_what_is_made_again_in_another_way(tmp_path, capsys):
    write_weights(tmp_path / "gan.npz", {"a": np.ones(2)}, {"training": {"settings": {}}})
    assert main(["replay", str(tmp_path / "gan.npz"), "--out", str(tmp_path / "x")]) == 2
    assert "run `jaxmap train CONFIG.toml --out ANOTHER`" in capsys.readouterr().err
    (tmp_path / "maps").mkdir()
    (tmp_path / "plan.json").write_text("{}")
    for place in ("maps/std.fits", "maps", "."):
        assert main(["replay", str(tmp_path / place), "--out", str(tmp_path / "x")]) == 2
        assert "`jaxmap survey plan CONFIG.toml --out ANOTHER`" in capsys.readouterr().err


def test_records_nested_without_end(tmp_path, capsys):
    deep = "[" * 100_000
    (tmp_path / "deep.json").write_text(deep)
    (tmp_path / "deep.csv").write_text(MINE)
    (tmp_path / "deep.csv.json").write_text(deep)
    for name in ("deep.json", "deep.csv"):
        assert main(["replay", str(tmp_path / name), "--out", str(tmp_path / "x")]) == 2
        assert "does not say how it was made" in capsys.readouterr().err


def test_a_network_of_the_users_is_hashed_each(tmp_path, monkeypatch):
    import argparse

    from jaxmap.outputs import origin, settings

    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_text(name)
    options = argparse.Namespace(command="map", method="hong", weights="a.npz,b.npz")
    whole = [str(tmp_path / name) for name in ("a.npz", "b.npz")]
    assert settings(options)["weights"] == ",".join(whole)
    by_method = argparse.Namespace(command="map", method="hong", weights="hong=a.npz,b.npz")
    assert settings(by_method)["weights"] == f"hong={','.join(whole)}"
    assert sorted(origin(by_method, None)["files"]) == whole
    record = origin(options, None)
    assert sorted(record["files"]) == whole and record["networks"] == {}
    assert record["precision"] == "float64"
    shipped = origin(argparse.Namespace(command="map", method="hong", weights=None), None)
    assert list(shipped["networks"]) == ["hong_clusters.npz"] and shipped["files"] == {}


def test_intervals_are_calibrated_again_elsewhere(tmp_path, monkeypatch):
    """What was written then is not written over: the new file goes to the new folder."""
    old = tmp_path / "old" / "bounds.npz"
    record = {
        "command": "calibrate",
        "settings": {"method": "ks", "num": 20, "conformal": str(old)},
        "versions": {"jaxmap": "0.1.0"},
    }
    one = np.asarray(1.0)
    write_conformal(old, Conformal(0.68, "plain", one, one, 20, 0.3, (0.1, 0.2)), record)
    assert read_record(old) == record and read_conformal(old).level == 0.68
    called = []

    def remembered(words):
        called.append((words, (tmp_path / words[2]).read_text()))
        return 0

    monkeypatch.setattr("jaxmap.cli.main", remembered)
    assert main(["replay", str(old), "--out", str(tmp_path / "new"), "-q"]) == 0
    ((words, settings),) = called
    assert words[0] == "calibrate" and words[3:5] == ["--out", str(tmp_path / "new")]
    assert f'conformal = "{tmp_path / "new" / "bounds.npz"}"' in settings


RECORD = {
    "command": "map",
    "settings": {"method": "ks", "seed": 1, "catalog": "a; b.fits"},
    "versions": {"jaxmap": "0.1.0", "jax": "0.10"},
}


def found_nothing():
    from test_detect_command import made_map

    from jaxmap.clusters.detection import detect

    sky = made_map()
    return detect(np.asarray(sky.samples), sky.grid, scale=2, threshold=0.5)


def test_pictures_regions_catalogues_and_merged_maps_have_a_record(tmp_path):
    from jaxmap.catalog import shear_catalog
    from jaxmap.clusters.tables import write_regions
    from jaxmap.outputs import write_catalog
    from jaxmap.plot import new_figure, save_picture
    from jaxmap.survey.partial_maps import PartialMapWriter, read_partial_map

    save_picture(tmp_path / "a.png", new_figure(1, 1), RECORD)
    write_regions(tmp_path / "a.reg", found_nothing(), 1.0, RECORD)
    galaxies = shear_catalog([1.0, 2.0], [3.0, 4.0], np.array([0.1, 0.2j]))
    write_catalog(tmp_path / "catalog.fits", galaxies, RECORD)
    for rows in (0, 5):  # the header is written twice
        with PartialMapWriter(str(tmp_path / "map.fits"), 64, "KAPPA_E", RECORD) as writer:
            writer.write(np.arange(rows), np.ones(rows))
        assert len(read_partial_map(tmp_path / "map.fits")[1]) == rows
    for name in ("a.png", "a.reg", "catalog.fits", "map.fits"):
        assert read_record(tmp_path / name) == RECORD, name
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 4])
        assert name == "a.reg" or not is_ours(tmp_path / name), name
    new_figure(1, 1).savefig(tmp_path / "theirs.png")
    (tmp_path / "theirs.reg").write_text("# Region file format: DS9 version 4.1\nimage\n")
    (tmp_path / "long.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt")
    assert not any(is_ours(tmp_path / name) for name in ("theirs.png", "theirs.reg", "long.png"))


def test_regions_and_pictures_are_whole_or_not_there(tmp_path, monkeypatch):
    from jaxmap.clusters.tables import write_regions
    from jaxmap.training.pictures import draw_losses

    half = {"ratio": {"white": 0.5}}
    row = {"step": 1, "train": half, "validation": half, "seconds": 1.0}

    def draw():
        draw_losses(tmp_path / "losses.png", [row], "Wiener", {**RECORD, "command": "train"})

    def write():
        write_regions(tmp_path / "a.reg", found_nothing(), 1.0)

    def fails(*paths):
        raise OSError("no")

    draw()
    assert read_record(tmp_path / "losses.png")["command"] == "train"
    for name, make in (("losses.png", draw), ("a.reg", write)):
        (tmp_path / name).write_text("whole")
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no"):
            patch.setattr("os.replace", fails)
            make()
        assert (tmp_path / name).read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.reg", "losses.png"]


def test_records_of_simulated_fields_are_found(tmp_path):
    from test_detect_command import made_map

    from jaxmap.mapfiles import write_mass_map

    sky = made_map()
    write_mass_map(tmp_path / "convergence.fits", sky, {"holds": "surveys", "made_by": RECORD})
    assert read_record(tmp_path / "convergence.fits") == RECORD
    mine = {"made_by": "me", "input": "a file of mine"}  # from Python
    write_mass_map(tmp_path / "mine.fits", sky, mine)
    assert read_record(tmp_path / "mine.fits") == mine and is_ours(tmp_path / "mine.fits")


def test_headers_of_tables_that_stand_for_more_than_they_are(tmp_path, capsys):
    """A thousand million words in ten lines, a long header, and a deep one."""
    names = "lol," * 9 + "lol"
    lines = [f"- {{x0: &x0 [{names}]}}"]
    lines += [f"- {{x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    jaxmap = "- jaxmap: {command: map, settings: {catalog: %s}, versions: {jaxmap: '0', jax: '0'}}"
    metas = {
        "reference": [*lines, jaxmap % "*x9"],
        "longer than": [f"- {{a: '{'a' * 2**20}'}}", jaxmap % "a"],
        "too deep": [f"- {{a: {'[' * 100}{']' * 100}}}", jaxmap % "a"],
        "": [jaxmap % "a"],  # the control
    }
    for why, meta in metas.items():
        header = ["%ECSV 1.0", "---", "datatype:", "- {name: a, datatype: int64}", "meta: !!omap"]
        text = "".join(f"# {line}\n" for line in [*header, *meta, "schema: astropy-2.0"])
        (tmp_path / "t.ecsv").write_text(text + "a\n1\n")
        if not why:
            assert read_record(tmp_path / "t.ecsv")["settings"] == {"catalog": "a"}
            continue
        with pytest.raises(ValueError, match=why):
            read_record(tmp_path / "t.ecsv")
        assert main(["replay", str(tmp_path / "t.ecsv"), "--out", str(tmp_path / "x")]) == 2
        assert "does not say how it was made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"files": [1]}, "files of its record is [1]"),
        ({"files": {"a": 3}}, "files of its record"),
        ({"input": {}}, "input of its record is {}"),
        ({"networks": [1]}, "networks of its record is [1]"),
        ({"networks": {"../../../../etc/hostname": "x"}}, "is no name of a network"),
        ({"networks": {"/etc/hostname": "x"}}, "is no name of a network"),
        ({"networks": {"dynamics/../a": "x"}}, "is no name of a network"),
        ({"versions": {"jaxmap": 1}}, "versions of its record"),
        ({"device": [1]}, "device of its record is [1]"),
        ({"precision": 5}, "precision of its record is 5"),
        ({"settings": {"a b\nx": 1}}, "has the setting 'a b"),
        ({"settings": [1]}, "a record is list"),
    ],
)
def test_records_of_another_shape_are_refused(tmp_path, capsys, part, said):
    (tmp_path / "r.json").write_text(json.dumps({**RECORD, **part}))
    assert main(["replay", str(tmp_path / "r.json"), "--out", str(tmp_path / "x")]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_of_one_output_is_enough(tmp_path, capsys):
    """Whatever its files are called; of several outputs one has to be named."""
    from jaxmap import replay_command

    with with_record(tmp_path / "masses.csv", RECORD) as path:
        path.write_text(MINE)
    (tmp_path / "notes.txt").write_text("mine")
    assert replay_command.read_record(tmp_path) == RECORD
    with with_record(tmp_path / "others.csv", {**RECORD, "settings": {"seed": 2}}) as path:
        path.write_text(MINE)
    assert main(["replay", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "outputs of several commands (masses.csv" in said and "give one of them" in said


def test_what_is_made_again_in_another_way_says_so_in_every_file(tmp_path, capsys):
    """Also away from its folder."""
    from jaxmap.plot import new_figure, save_picture

    for command, remedy in (
        ("train", "run `jaxmap train CONFIG.toml --out ANOTHER`"),
        ("survey plan", "run `jaxmap survey plan CONFIG.toml --out ANOTHER`"),
    ):
        save_picture(tmp_path / "a.png", new_figure(1, 1), {**RECORD, "command": command})
        assert main(["replay", str(tmp_path / "a.png"), "--out", str(tmp_path / "x")]) == 2
        said = capsys.readouterr().err
        assert remedy in said and "read_record(pathlib.Path(" in said


def test_pictures_of_earlier_versions_are_ours(tmp_path):
    """They name the program alone; the control names another."""
    from PIL import Image, PngImagePlugin

    for software, ours in (("jaxmap 0.1.0", True), ("Matplotlib version3", False)):
        about = PngImagePlugin.PngInfo()
        about.add_text("Software", software)
        Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=about)
        assert is_ours(tmp_path / "a.png") is ours


def test_a_changed_table_is_said_to_be_changed(tmp_path):
    path = tmp_path / "masses.csv"
    with with_record(path, RECORD) as temporary:
        temporary.write_text("mass\n1\n")
    assert read_record(path)["command"] == RECORD["command"]
    path.write_text("mass\n2\n")
    with pytest.raises(ValueError, match="was changed since jaxmap wrote it"):
        read_record(path)
