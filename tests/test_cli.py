"""The command line: what it writes, and how it ends."""

import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from clicatalogs import QUICK, make_table

from jaxmap.cli import main
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain, write_denoiser
from jaxmap.mapfiles import read_mass_map, read_provenance, read_samples
from jaxmap.networks.unet import ResidualUNet, initialise

SURE = ["--num-samples", "10", "--pixel-arcmin", "1.5"]


def test_map_writes_everything(catalog, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert main(["map", str(catalog), "--out", str(out), *SURE]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["config.toml", "mass_map.fits", "mass_map.png", "samples.nc"]
    result = read_mass_map(out / "mass_map.fits")
    samples, grid = read_samples(out / "samples.nc")
    assert result.grid == grid and samples.shape == (10, *grid.shape)
    for plane in (result.convergence, result.std, result.b_mode, result.counts):
        assert np.all(np.isfinite(plane))
    assert int(result.counts.sum()) == 3000
    origin = read_provenance(out / "mass_map.fits")
    assert origin["num_galaxies"] == 3000 and len(origin["input"]["sha256"]) == 64
    said = capsys.readouterr().out
    assert "3,000 galaxies" in said and "Highest peak: S/N" in said and "mass_map.fits" in said
    assert "among 50 simulated skies without any: " in said
    assert "Power spectrum: for the n(z) of COSMOS, since no --nz is given" in said
    assert result.diagnostics["null_tests"]["b_modes"]["num"] == 50


def test_the_written_configuration_repeats_the_run(catalog, tmp_path):
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    flags = [*QUICK, "--size", "24x20", "--centre", "150.0,2.0", "--seed", "7", "--c1=-0.001"]
    assert main(["map", str(catalog), "--out", str(first), *flags]) == 0
    config = str(first / "config.toml")
    assert main(["map", "--config", config, "--out", str(second)]) == 0
    a, b = (read_mass_map(out / "mass_map.fits") for out in (first, second))
    assert a.grid.shape == (20, 24)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    samples = [read_samples(out / "samples.nc")[0] for out in (first, second)]
    np.testing.assert_array_equal(*samples)
    # A flag goes before the configuration.
    assert main(["map", "--config", config, "--out", str(third), "--seed", "8"]) == 0
    assert np.any(read_samples(third / "samples.nc")[0] != samples[0])


def test_kaiser_squires_leaves_no_stale_samples(catalog, tmp_path):
    out = str(tmp_path / "out")
    assert main(["map", str(catalog), "--out", out, *QUICK]) == 0
    assert main(["map", str(catalog), "--out", out, *QUICK, "--method", "ks", "-q"]) == 0
    assert not (tmp_path / "out" / "samples.nc").exists()
    assert read_mass_map(tmp_path / "out" / "mass_map.fits").std is not None


def test_quiet_says_nothing(catalog, tmp_path, capfd):
    assert main(["map", str(catalog), "--out", str(tmp_path / "out"), *QUICK, "-q"]) == 0
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


@pytest.mark.parametrize(
    ("kind", "ra", "dec"), [("wrap", 0.0, 2.0), ("pole", 30.0, 89.9), ("duplicates", 150.0, 2.0)]
)
def test_what_must_simply_work(tmp_path, kind, ra, dec):
    table = make_table(ra=ra, dec=dec)
    if kind == "pole":
        rng = np.random.default_rng(1)
        angle, distance = rng.uniform(0, 360, 3000), 0.3 * np.sqrt(rng.random(3000))
        table["ra"], table["dec"] = angle, 90 - distance
    if kind == "duplicates":
        table = table[np.random.default_rng(2).integers(0, 3000, 4000)]
        table["weight"][::3] = 0
    table.write(tmp_path / "galaxies.ecsv")
    out = tmp_path / "out"
    assert main(["map", str(tmp_path / "galaxies.ecsv"), "--out", str(out), *QUICK]) == 0
    result = read_mass_map(out / "mass_map.fits")
    # The field is about 0.6 degrees across, wherever it lies.
    assert 20 <= max(result.grid.shape) <= 30
    assert np.all(np.isfinite(result.convergence))


@pytest.mark.release
def test_glimpse_of_single_galaxies(tmp_path, capsys):
    """A halo in the middle: the same peak, the same map but for what pixels blur."""
    table = make_table()
    offset = -(table["ra"] - 150) * np.cos(np.radians(2)) + 1j * (table["dec"] - 2)
    halo = -0.5 * (offset / abs(offset)) ** 2 / (1 + (abs(offset) / 0.05) ** 2)
    table["e1"], table["e2"] = 0.3 * table["e1"] + halo.real, 0.3 * table["e2"] + halo.imag
    table.write(tmp_path / "galaxies.fits")
    flags = ["map", str(tmp_path / "galaxies.fits"), "--method", "glimpse", "--null-tests", "0"]
    found = []
    for number, more in enumerate(([], ["--unbinned"])):
        out = tmp_path / f"{number}"
        assert main([*flags, *more, "--margin", "4", "--out", str(out)]) == 0
        found.append(read_mass_map(out / "mass_map.fits").convergence)
    middle = np.array(found[0].shape) / 2
    for convergence in found:
        peak = np.unravel_index(np.argmax(convergence), convergence.shape)
        assert np.hypot(*(peak - middle)) < 2
    assert 0.9 < np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] < 0.9999
    assert "Convergence (glimpse)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a.fits", "a-map"), ("x/shear_z0.5.fits.gz", "shear_z0.5-map"), (".g.fits", ".g-map")],
)
def test_default_folder(name, folder):
    from jaxmap.map_command import default_out

    assert default_out(name) == folder


def test_odd_names_cost_nothing(tmp_path, capsys):
    path = tmp_path / "größe $x_$.fits"
    make_table().write(path)
    out = tmp_path / "κ map"
    assert main(["map", str(path), "--out", str(out), *QUICK]) == 0
    assert (out / "mass_map.png").exists()
    again = ["map", "--config", str(out / "config.toml"), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    assert "no picture" not in capsys.readouterr().err


def test_a_failing_picture_does_not_cost_the_map(catalog, tmp_path, capsys, monkeypatch):
    from jaxmap import plot

    def broken(*arguments):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plot, "plot_mass_map", broken)
    assert main(["map", str(catalog), "--out", str(tmp_path / "out"), *QUICK]) == 0
    assert "no picture: no ink" in capsys.readouterr().err
    assert (tmp_path / "out" / "mass_map.fits").exists()


HEEDFUL = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from jaxmap.cli import entry; entry()"
)
"""The command; jobs in the background of a shell are born deaf to SIGINT."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_leave_nothing(catalog, tmp_path, number):
    command = [sys.executable, "-c", HEEDFUL, "map", str(catalog), "--pixel-arcmin", "0.5"]
    command += ["--num-samples", "5000", "--out", str(tmp_path / "deep" / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, bufsize=0)
    assert process.stderr is not None
    said = ""
    while "posterior samples" not in said:
        read = process.stderr.read(20)
        assert read, f"it ended by itself ({process.wait()}), and said {said!r}"
        said += read
    time.sleep(1.5)
    process.send_signal(number)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "interrupted; nothing was written" in rest and "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["galaxies.fits"]


@pytest.fixture
def weights(tmp_path, spectrum):
    """A denoiser of little work, for pixels of 1.5 arcmin; untrained, so a Gaussian prior's."""
    network = ResidualUNet((4,))
    params = initialise(network, jax.random.key(0), NUM_FEATURES, NUM_CONDITIONS)
    path = tmp_path / "weights" / "denoiser.npz"
    write_denoiser(path, Denoiser(params, spectrum, network), Domain(1.5, (0.01, 0.3)), {})
    return path


def test_learned_posterior_from_the_command_line(catalog, weights, tmp_path, capsys):
    """In the network's pixels; stopped in the middle, the same command goes on to the same map."""
    flags = ["--method", "dlposterior", "--weights", str(weights), "--num-samples", "6"]
    command = ["map", str(catalog), *flags, "--num-steps", "3", "--null-tests", "0"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    said = capsys.readouterr().out
    assert "6 posterior samples drawn, 2.2 evaluations of the prior each" in said
    out = tmp_path / "parts"
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDFUL, *command, "--out", str(out)], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not list(out.glob("samples-*.partial/progress.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1].decode()
    if process.returncode:  # it may have been faster
        assert "the samples drawn so far are in" in message
        assert [path.suffix for path in out.iterdir()] == [".partial"]
    assert main([*command, "--out", str(out)]) == 0
    whole, parts = (read_mass_map(tmp_path / name / "mass_map.fits") for name in ("whole", "parts"))
    assert whole.grid.pixel_arcmin == 1.5
    np.testing.assert_allclose(parts.convergence, whole.convergence, atol=1e-12)
    assert parts.diagnostics["network_evaluations_per_sample"] == pytest.approx(2 + 1 / 6)
    names = ["config.toml", "mass_map.fits", "mass_map.png", "samples.nc"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_a_reader_that_leaves_is_no_failure(catalog, tmp_path):
    command = f"{sys.executable} -m jaxmap info | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_configurations_say_what_flags_say(catalog, tmp_path):
    config = tmp_path / "run.toml"
    text = f"""\ufeffcatalog = "{tmp_path / "other.fits"}"
size = [20, 24]
num-samples = 2
pixel_arcmin = 1.5
quiet = true
[columns]
e1 = "e2"
e2 = "e1"
"""
    config.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    # Flags and the input on the command line win, wherever they stand.
    assert main(["map", "--out", str(out), str(catalog), "--config", str(config)]) == 0
    origin = read_provenance(out / "mass_map.fits")
    assert origin["input"]["path"] == str(catalog)
    assert origin["settings"]["columns"] == "e1=e2,e2=e1"
    assert read_mass_map(out / "mass_map.fits").grid.shape == (24, 20)


@pytest.mark.release
def test_demo_recovers_its_truth(tmp_path, capsys):
    flags = ["--num-samples", "6", "--num-steps", "8"]
    assert main(["demo", "--out", str(tmp_path / "demo"), *flags]) == 0
    said = capsys.readouterr().out
    assert "correlation" in said and "Coverage" in said
    ratio = float(said.split("Quoted error over actual error: ")[1].split()[0])
    assert 0.85 < ratio < 1.15
    # The catalogue it writes is one that `jaxmap map` reads.
    catalog = str(tmp_path / "demo" / "catalog.fits")
    out = ["--out", str(tmp_path / "again"), "--method", "ks", "-q"]
    assert main(["map", catalog, *out]) == 0


def test_info(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert "jaxmap" in said and "Planck" in said


_REPEATED = """
from jaxmap.cli import main
assert main(["info"]) == 0
import jax, jax.numpy as jnp, numpy as np
turn = jax.jit(lambda x: jnp.fft.fft2(jax.lax.complex(x, x.T)))
wave = jnp.sin(jnp.arange(504.0))
found = {np.asarray(turn(jnp.outer(wave, wave))).tobytes() for _ in range(60)}
print("different:", len(found))
"""


def test_the_same_bits_every_time():
    """Of a transform whose rounding depends on how many threads take part (504 = 7 x 8 x 9)."""
    done = subprocess.run(
        [sys.executable, "-c", _REPEATED], capture_output=True, text=True, check=True
    )
    assert "different: 1\n" in done.stdout


def test_help_is_fast_and_complete():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "jaxmap", "--help"], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
    for command in ("map", "demo", "benchmark", "info"):
        assert command in done.stdout


def test_choices_are_those_of_the_package():
    from jaxmap import flags
    from jaxmap.reading import surveys

    assert set(flags.SURVEYS) == {"auto", *surveys.SURVEYS}
