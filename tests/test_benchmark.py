"""Benchmark cases: reading them, scoring, and refusing bad ones."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxmap import commands
from jaxmap.benchmark import read_case, score, table, write_case
from jaxmap.cli import main
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.grid import Grid
from jaxmap.metrics import accuracy_observed, accuracy_published
from jaxmap.operators import shear_from_convergence, spin2_phase, two_map_phase
from jaxmap.simulation.fields import gaussian_field


def case_fields(spectrum, shape=(20, 24)):
    grid = Grid(shape, 1.0)
    truth = gaussian_field(jax.random.key(0), spectrum, grid)
    std = np.full((2, *shape), 0.03)
    noise = std * np.random.default_rng(0).normal(size=std.shape)
    shear = np.asarray(shear_from_convergence(truth, grid))
    mask = np.ones(shape, bool)
    mask[3:8, 4:9] = False
    return {
        "convergence": np.asarray(truth),
        "shear": (np.stack([shear.real, shear.imag]) + noise) * mask,
        "noise_std": std,
        "mask": mask,
        "pixel_arcmin": np.asarray(1.0),
        "power_spectrum": np.stack([spectrum.ell, spectrum.c_ell]),
    }


@pytest.fixture
def case_file(tmp_path, spectrum):
    path = tmp_path / "case.npz"
    np.savez(path, **case_fields(spectrum))
    return path


def test_scoring(case_file):
    case = read_case(case_file)
    estimators = {
        "ks": KaiserSquires(1.0, margin=0),
        "wiener": Wiener(case.spectrum, num_samples=5, margin=0),
    }
    methods = score(case, estimators, jax.random.key(0))
    assert methods["wiener"]["rmse_C"] < methods["ks"]["rmse_C"]
    assert methods["wiener"]["r_C"] > methods["ks"]["r_C"]
    assert methods["wiener"]["num_samples"] == 5
    assert methods["wiener"]["network_evaluations_per_sample"] == 0
    assert 0.8 < methods["wiener"]["std_over_error"] < 1.25
    assert 0.9 < methods["wiener"]["chi2_per_pixel"] < 1.1
    assert "num_samples" not in methods["ks"]
    assert len(table(methods).splitlines()) == 4


@pytest.mark.parametrize("with_spectrum", [True, False])
def test_a_case_comes_back(case_file, tmp_path, with_spectrum):
    case = read_case(case_file)
    if not with_spectrum:
        case = replace(case, spectrum=None)
    path = tmp_path / "again.npz"
    write_case(path, case)
    again = read_case(path)
    assert again.shear.grid == case.shear.grid and (again.spectrum is not None) == with_spectrum
    exact = 1e-14 if jax.config.read("jax_enable_x64") else 1e-6  # std is a root of the weight
    before, after = (
        (one.truth, one.shear.shear, one.shear.weight, one.spectrum) for one in (case, again)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=exact), before, after)


def test_a_pixel_with_one_component_is_no_case(case_file, tmp_path):
    case = read_case(case_file)
    row, column = np.argwhere(np.asarray(case.shear.mask))[0]
    half = case.shear.weight.at[1, row, column].set(0)
    with pytest.raises(ValueError, match="1 pixels have one component"):
        write_case(tmp_path / "half.npz", replace(case, shear=replace(case.shear, weight=half)))
    assert not (tmp_path / "half.npz").exists()


def test_metrics_against_numpy(case_file):
    """The definitions, written out with numpy's own mean, cov and std."""
    case = read_case(case_file)
    rng = np.random.default_rng(0)
    truth, mask = np.asarray(case.truth), np.asarray(case.shear.mask)
    estimate = 0.7 * truth + 0.02 * rng.normal(size=truth.shape) + 0.4
    a, b = estimate[mask] - estimate[mask].mean(), truth[mask] - truth[mask].mean()
    found = accuracy_observed(estimate, truth, mask)
    exact = 1e-10 if jax.config.read("jax_enable_x64") else 1e-5
    expected = [np.sqrt(np.mean((a - b) ** 2)), np.corrcoef(a, b)[0, 1]]
    np.testing.assert_allclose(found, expected, rtol=exact)
    a, b = estimate * mask, truth * mask
    shifted = (estimate - a.mean()) - (truth - b.mean())
    r = np.cov(a.ravel(), b.ravel())[0, 1] / (a.std() * b.std())
    found = accuracy_published(estimate, truth, mask)
    np.testing.assert_allclose(found, [np.sqrt(np.mean(shifted[mask] ** 2)), r], rtol=exact)


@pytest.mark.parametrize("layout", ["complex shear", "one noise plane", "flat noise"])
def test_layouts_of_a_case(tmp_path, spectrum, layout):
    fields = case_fields(spectrum)
    expected = dict(fields)
    if layout == "complex shear":
        fields["shear"] = fields["shear"][0] + 1j * fields["shear"][1]
    else:
        fields["noise_std"] = (
            fields["noise_std"][:1] if "plane" in layout else fields["noise_std"][0]
        )
    for name, values in (("a.npz", fields), ("b.npz", expected)):
        np.savez(tmp_path / name, **values)
    a, b = (read_case(tmp_path / name).shear for name in ("a.npz", "b.npz"))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def spoil(name, change):
    def apply(fields):
        fields[name] = change(fields[name])
        return fields

    return apply


BAD_CASES = {
    "missing": (lambda f: {k: v for k, v in f.items() if k != "mask"}, r"lacks \['mask'\]"),
    "shape": (spoil("shear", lambda a: a[:, :-1]), "shear has shape"),
    "mask shape": (spoil("mask", lambda a: a[:-1]), "and mask"),
    "noise": (spoil("noise_std", lambda a: 0 * a), "not a number above 0 in 910 "),
    "noise shape": (spoil("noise_std", lambda a: a[:, :, :-1]), "noise_std has shape"),
    "masked": (spoil("mask", np.zeros_like), "every pixel is masked"),
    "nan truth": (spoil("convergence", lambda a: a * np.nan), "convergence holds"),
    "nan shear": (spoil("shear", lambda a: a * np.nan), "not finite"),
    "pixel": (spoil("pixel_arcmin", lambda a: -a), "pixel scale is -1.0"),
    "two pixels": (spoil("pixel_arcmin", lambda a: np.ones(2)), "has 2 values"),
    "negative power": (spoil("power_spectrum", lambda a: a * [[1], [-1]]), "power spectrum is -"),
    "power shape": (spoil("power_spectrum", lambda a: a[0]), "power_spectrum has shape"),
    "complex truth": (spoil("convergence", lambda a: a + 0j), "not real numbers"),
    "nan mask": (spoil("mask", lambda a: a * np.nan), "the mask holds NaN"),
    "one value": (spoil("convergence", np.ones_like), "is the same in all 455"),
    "real shear": (spoil("shear", lambda a: a[0]), "is real"),
    "text": (spoil("convergence", lambda a: a.astype(str)), "convergence"),
}


@pytest.mark.parametrize("name", BAD_CASES)
def test_bad_cases_are_refused(tmp_path, spectrum, capsys, name):
    change, message = BAD_CASES[name]
    path = tmp_path / "case.npz"
    np.savez(path, **change(case_fields(spectrum)))
    with pytest.raises(ValueError, match=message):
        read_case(path)
    assert main(["benchmark", str(path), "--json", str(tmp_path / "out.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_broken_files_are_refused(tmp_path, case_file, keep):
    case_file.write_bytes(case_file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"not a whole \.npz"):
        read_case(case_file)
    with pytest.raises(ValueError, match="there is no file"):
        read_case(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not a whole"):
        read_case(tmp_path / "array.npy")


def test_no_pickle_is_ever_loaded(tmp_path, spectrum):
    fields = case_fields(spectrum)
    fields["convergence"] = np.asarray([{"code": 1}], dtype=object)
    np.savez(tmp_path / "case.npz", **fields)
    with pytest.raises(ValueError, match="plain arrays"):
        read_case(tmp_path / "case.npz")


@pytest.mark.release
def test_command_writes_the_figures(case_file, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["benchmark", str(case_file), "--methods", "wiener,ks", "--json", str(report)]) == 0
    methods = json.loads(report.read_text())["methods"]
    assert list(methods) == ["wiener", "ks"]
    assert {"rmse_A", "r_A", "rmse_C", "r_C", "seconds"} <= methods["ks"].keys()
    assert "wiener" in capsys.readouterr().out
    # Without a spectrum in the case the default one serves.
    with np.load(case_file) as file:
        fields = {name: file[name] for name in file.files if name != "power_spectrum"}
    np.savez(case_file, **fields)
    assert main(["benchmark", str(case_file), "--json", str(report)]) == 0
    other = json.loads(report.read_text())["methods"]
    assert other["ks"]["rmse_C"] == methods["ks"]["rmse_C"]
    assert other["wiener"]["rmse_C"] != methods["wiener"]["rmse_C"]


def test_a_method_that_fails_costs_no_figures(case_file, tmp_path, capsys, monkeypatch):
    def failing(case, estimators, key):
        if "wiener" in estimators:
            raise FloatingPointError("the map is not finite; use float64 (--x64)")
        return score(case, estimators, key)

    monkeypatch.setattr(commands, "score", failing)
    report = tmp_path / "report.json"
    flags = ["benchmark", str(case_file), "--json", str(report), "--methods"]
    assert main([*flags, "ks,wiener"]) == 1
    assert list(json.loads(report.read_text())["methods"]) == ["ks"]
    told = capsys.readouterr()
    assert told.out.splitlines()[1].startswith("ks ") and "not finite" in told.err
    report.unlink()
    assert main([*flags, "wiener"]) == 1 and not report.exists()


def test_command_takes_shear_as_two_real_maps(case_file, tmp_path):
    """On an even grid the Wiener map is that of the two-map phase, and not of the unitary one."""
    report = tmp_path / "report.json"
    assert main(["benchmark", str(case_file), "--methods", "wiener", "--json", str(report)]) == 0
    found = json.loads(report.read_text())["methods"]["wiener"]["rmse_C"]
    case = read_case(case_file)
    exact, unitary = (
        score(
            case,
            {"wiener": Wiener(case.spectrum, num_samples=0, margin=0, phase=phase)},
            jax.random.key(0),
        )["wiener"]["rmse_C"]
        for phase in (two_map_phase, spin2_phase)
    )
    assert found == pytest.approx(exact, rel=1e-6)
    assert found != pytest.approx(unitary, rel=1e-4)


def test_the_case_itself_is_never_overwritten(case_file, tmp_path, capsys):
    before = case_file.read_bytes()
    for target in (case_file, tmp_path, case_file / "out.json"):
        assert main(["benchmark", str(case_file), "--json", str(target)]) == 2
        assert "--json" in capsys.readouterr().err
    assert case_file.read_bytes() == before


def test_unknown_methods_are_usage_errors(case_file, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", str(case_file), "--methods", "ks,magic"])
    assert stop.value.code == 2 and "magic" in capsys.readouterr().err
    assert main(["benchmark"]) == 2
