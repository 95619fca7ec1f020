"""Several methods side by side, on the user's own data and on a case of known truth."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap import commands, map_command, plot
from jaxmap.cli import main
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain, write_denoiser
from jaxmap.flags import SHIPPED, methods, weights_of
from jaxmap.grid import Grid
from jaxmap.mapfiles import read_mass_map, read_provenance, read_samples
from jaxmap.massmap import MassMap
from jaxmap.networks.unet import ResidualUNet, initialise

FIELD = ["--size", "14x12", "--pixel-arcmin", "2", "--margin", "3", "--num-samples", "10"]
QUICK = [*FIELD, "--null-tests", "0"]


@pytest.fixture(autouse=True)
def without_single_pictures(monkeypatch):
    """They are most of the time of a small map, and of no matter here."""

    def missing(*arguments):
        raise ImportError("none")

    monkeypatch.setattr(plot, "plot_mass_map", missing)


@pytest.mark.slow
def test_every_map_is_that_of_its_method_alone(catalog, tmp_path, capsys):
    """One command; then each folder replays as one method does, to the same bits and figures."""
    out = tmp_path / "out"
    command = ["map", str(catalog), "--method", "ks,wiener", "--out", str(out), *FIELD]
    assert main([*command, "--null-tests", "19"]) == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["ks", "mass_maps.png", "wiener"]
    assert said.count("3,000 galaxies from") == said.count("B modes have") == 1
    table = {line.split()[0]: line.split() for line in said.splitlines() if len(line.split()) == 7}
    for method in ("ks", "wiener"):
        again = tmp_path / method
        assert read_provenance(out / method / "mass_map.fits")["settings"]["method"] == method
        assert main(["replay", str(out / method), "--out", str(again)]) == 0
        assert "same, bit for bit" in capsys.readouterr().out
        first, second = (read_mass_map(f / "mass_map.fits") for f in (out / method, again))
        jax.tree.map(np.testing.assert_array_equal, first, second)
        assert first.diagnostics == second.diagnostics
        chi2 = first.diagnostics["null_tests"]["residual_chi2"]
        assert float(table[method][5]) == pytest.approx(chi2, abs=1e-3)
        highest = first.convergence[first.mask].argmax()
        peak = float(first.signal_to_noise[first.mask][highest])
        assert float(table[method][6]) == pytest.approx(peak, abs=0.06)
        first, second = ((f / "config.toml").read_text() for f in (out / method, again))
        assert first == second
    samples = [read_samples(f / "wiener" / "samples.nc")[0] for f in (out,)]
    samples.append(read_samples(tmp_path / "wiener" / "samples.nc")[0])
    np.testing.assert_array_equal(*samples)


def test_pictures_of_the_users_stay_and_ours_are_replaced(catalog, tmp_path, capsys):
    command = ["map", str(catalog), "--method", "ks,ksplus", "--out", str(tmp_path / "out"), *QUICK]
    picture = tmp_path / "out" / "mass_maps.png"
    picture.parent.mkdir()
    picture.write_bytes(b"mine")
    assert main(command) == 2
    assert "mass_maps.png that jaxmap did not write" in capsys.readouterr().err
    assert [path.name for path in picture.parent.iterdir()] == ["mass_maps.png"]
    picture.unlink()
    for _ in range(2):
        assert main([*command, "-q"]) == 0
        assert picture.read_bytes()[1:4] == b"PNG"
    assert "no picture: none" in capsys.readouterr().err  # of each method's own
    foreign = tmp_path / "out" / "wiener"
    foreign.mkdir()
    (foreign / "config.toml").write_text("mine")
    assert main([*command[:3], "ks,wiener", *command[4:]]) == 2
    assert "config.toml that jaxmap did not write" in capsys.readouterr().err


@pytest.mark.parametrize("failure", [RuntimeError("no luck"), KeyboardInterrupt()])
def test_what_fails_in_the_middle_costs_no_other_map(
    catalog, tmp_path, capsys, monkeypatch, failure
):
    build = map_command.build_estimator

    def failing(key, shear):
        raise failure

    def faulty(method, *rest, **settings):
        return failing if method == "wiener" else build(method, *rest, **settings)

    monkeypatch.setattr(map_command, "build_estimator", faulty)
    monkeypatch.setattr(plot, "plot_mass_maps", plot.plot_mass_map)
    out = tmp_path / "out"
    command = ["map", str(catalog), "--out", str(out), *QUICK, "--method", "ks,wiener,ksplus"]
    assert main(command) == 1
    made = sorted(path.name for path in out.iterdir())
    said = capsys.readouterr()
    if isinstance(failure, KeyboardInterrupt):
        assert made == ["ks"] and f"interrupted; the maps of ks are in {out}" in said.err
        return
    assert made == ["ks", "ksplus"]
    assert "wiener failed, and the other methods go on: RuntimeError: no luck" in said.err
    assert "wiener         failed" in said.out
    assert read_mass_map(out / "ksplus" / "mass_map.fits").grid.shape == (12, 14)
    # The control: alone it fails as it always did, and leaves nothing.
    assert main(["map", str(catalog), "--out", str(tmp_path / "w"), *QUICK]) == 1
    said = capsys.readouterr().err
    assert "the work failed: RuntimeError: no luck" in said or "interrupted" in said
    assert not (tmp_path / "w").exists()


def test_what_can_be_known_is_refused_before_the_work(catalog, tmp_path, capsys):
    for flags, message in (
        (["--method", "ks,gan"], "no GAN is shipped; train one"),
        (["--method", "ks,gan", "--weights", "gan=none.npz"], "there is no file"),
        (["--method", "ks,glimpse", "--unbinned"], "--unbinned is of glimpse, not of ks"),
        (
            ["--method", "ks,hong", "--pixel-arcmin", "1"],
            "pixels are 1 arcmin wide; expected 0.064",
        ),
        (["--method", "deepmass,hong"], r"0.29 arcmin (deepmass), 0.064 arcmin (hong)"),
    ):
        arguments = ["map", str(catalog), *flags, "--out", str(tmp_path / "out"), "-q"]
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    for bad in ("ks,magic", "ks,ks", "all,ks", "ks,"):
        with pytest.raises(SystemExit):
            main(["map", str(catalog), "--method", bad])
        assert "each once with commas between them" in capsys.readouterr().err
    assert methods("all,gan") == [*SHIPPED, "gan"] and methods(" ks, wiener") == ["ks", "wiener"]


@pytest.mark.slow
def test_all_maps_have_the_pixels_of_a_network(catalog, tmp_path, spectrum):
    """And say so, that each comes again without the network."""
    network = ResidualUNet((4,))
    params = initialise(network, jax.random.key(0), NUM_FEATURES, NUM_CONDITIONS)
    path = tmp_path / "denoiser.npz"
    write_denoiser(path, Denoiser(params, spectrum, network), Domain(2.5, (0.01, 0.3)), {})
    flags = ["--method", "ks,deepmass", "--weights", os.path.relpath(path), "--size", "12", "-q"]
    out, again = tmp_path / "out", tmp_path / "again"
    assert main(["map", str(catalog), *flags, "--null-tests", "0", "--out", str(out)]) == 0
    records = {name: read_provenance(out / name / "mass_map.fits") for name in ("ks", "deepmass")}
    assert records["deepmass"]["settings"]["weights"] == str(path)
    assert "weights" not in records["ks"]["settings"]
    assert main(["replay", str(out / "ks"), "--out", str(again), "-q"]) == 0
    first, second = (read_mass_map(f / "mass_map.fits") for f in (out / "ks", again))
    assert first.grid.pixel_arcmin == 2.5
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_one_scale_of_colours():
    grid = Grid((6, 8), 1.0)
    rng = np.random.default_rng(0)
    mask = jnp.asarray(rng.random(grid.shape) < 0.8)
    one = MassMap(jnp.asarray(rng.normal(size=grid.shape)), grid, mask)
    far = replace(one, convergence=3 * one.convergence + 5)
    figure = plot.plot_mass_maps({"one": one, "far": far, "same": one}, "title")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["one", "far", "same"]
    assert len(figure.axes) == 4  # with one colour bar
    images = [axes.get_images()[0] for axes in panels]
    assert len({image.get_clim() for image in images}) == 1
    shown = [np.asarray(image.get_array()) for image in images]
    for image in shown:
        assert abs(image[np.asarray(mask)].mean()) < 1e-6
    np.testing.assert_allclose(shown[1], 3 * shown[0], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "chosen", "found"),
    [
        (None, ["gan"], {}),
        ("/a.npz", ["gan"], {"gan": "/a.npz"}),
        ("/a.npz", ["ks", "gan", "wiener"], {"gan": "/a.npz"}),
        ("gan=/a.npz", ["gan"], {"gan": "/a.npz"}),
        (
            "gan=/g.npz,deepmass=/d.npz",
            ["deepmass", "gan"],
            {"gan": "/g.npz", "deepmass": "/d.npz"},
        ),
        (
            "gan=/g.npz, deepmass=/d.npz",
            ["deepmass", "gan"],
            {"gan": "/g.npz", "deepmass": "/d.npz"},
        ),
        ("gan=/g.npz", ["deepmass", "gan"], {"gan": "/g.npz"}),
        (
            "hong=/a.npz,/b.npz,gan=/g.npz",
            ["hong", "gan"],
            {"hong": "/a.npz,/b.npz", "gan": "/g.npz"},
        ),
        ("gan=/a,b=c.npz", ["gan"], {"gan": "/a,b=c.npz"}),
        ("~/a.npz", ["gan"], {"gan": os.path.expanduser("~/a.npz")}),
        ("a.npz,b.npz", ["hong"], {"hong": ",".join(map(os.path.abspath, ("a.npz", "b.npz")))}),
    ],
)
def test_weights_of_methods(text, chosen, found):
    assert weights_of(text, chosen) == found
    # What a configuration keeps of it reads back.
    kept = ",".join(f"{name}={file}" for name, file in found.items()) or None
    assert weights_of(kept, chosen) == found


@pytest.mark.parametrize(
    ("text", "chosen", "message"),
    [
        ("a.npz", ["deepmass", "gan"], "deepmass and gan take weights; write --weights deepmass=F"),
        ("a.npz", ["ks"], "of ks none takes weights; leave --weights out"),
        ("a.npz", ["ks", "wiener"], "of ks, wiener none takes weights; leave --weights out"),
        ("gan=a.npz", ["ks", "deepmass"], "names gan; expected methods that are run and take"),
        ("ks=a.npz", ["ks", "gan"], "names ks; .* gan: write --weights gan=FILE"),
        ("ks=a.npz", ["ks"], "names ks; .* none: leave --weights out"),
        ("gan=a.npz,gan=b.npz", ["gan"], "expected a file for a method, once"),
        ("gan=,deepmass=b.npz", ["gan", "deepmass"], "expected a file for a method, once"),
        ("a.npz,gan=b.npz", ["gan", "deepmass"], "expected a file for a method, once"),
    ],
)
def test_weights_of_no_clear_method(text, chosen, message):
    with pytest.raises(ValueError, match=message):
        weights_of(text, chosen)


def test_a_benchmark_gives_every_method_its_own_weights(tmp_path, monkeypatch, capsys, spectrum):
    """And its report keeps them, to be made again from another folder."""
    from test_benchmark import case_fields

    np.savez(tmp_path / "case.npz", **case_fields(spectrum))
    given = {}

    def recorded(method, spectrum, *, weights, **settings):
        given[method] = weights
        return method

    monkeypatch.setattr(commands, "build_estimator", recorded)
    monkeypatch.setattr(commands, "score", lambda case, estimators, key: dict.fromkeys(estimators))
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "case.npz", "--methods", "ks,deepmass,gan", "--json", "report.json"]
    assert main([*command, "--weights", "gan.npz"]) == 2
    assert "deepmass and gan take weights" in capsys.readouterr().err and not given
    assert main([*command, "--weights", "gan=gan.npz", "-q"]) == 0
    expected = {"ks": None, "deepmass": None, "gan": str(tmp_path / "gan.npz")}
    assert given == expected
    made_by = json.loads((tmp_path / "report.json").read_text())
    assert made_by["settings"]["weights"] == f"gan={tmp_path / 'gan.npz'}"
    given.clear()
    monkeypatch.chdir("/")
    again = ["replay", str(tmp_path / "report.json"), "--out", str(tmp_path / "again.json"), "-q"]
    assert main(again) == 0 and given == expected
