"""Imports point down only, and heavy packages stay where they belong."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxmap

PACKAGE = Path(jaxmap.__file__).parent

LAYERS = [
    ["jaxmap", "files", "config", "flags", "machine", "program_memory", "progress"],
    ["arrayfiles", "digests", "hdf5files", "texttables"],
    ["two_columns"],
    ["grid", "solvers", "networks", "sampling"],
    ["operators", "spectra", "spectral_gain"],
    ["starlet"],
    ["redshifts", "catalog", "massmap", "metrics"],
    ["matter_power", "likelihood", "prior", "binning"],
    ["cosmology", "gaussian_posterior", "wiener_solvers", "galaxies"],
    ["sparse_solver"],
    ["diagnostics", "simulation"],
    ["annealed_posterior", "denoiser", "denoiser_files", "posterior"],
    ["trained_survey", "generator", "survey_denoiser", "survey_network_files", "cluster_network"],
    ["hybrid_prior", "hybrid_prior_files"],
    ["sample_store", "sampler_prior", "samplers"],
    ["estimators", "footprint", "clusters"],
    ["conformal", "null_tests"],
    ["reading", "mapfiles", "plot", "methods", "benchmark", "demo", "datasets"],
    ["training", "calibration"],
    ["dynamics"],
    ["summary", "records", "outputs", "production", "survey", "comparison"],
    [
        "commands",
        "simulate_flags",
        "train_flags",
        "calibrate_flags",
        "detect_flags",
        "dynamics_flags",
        "survey_flags",
    ],
    ["simulate_survey"],
    [
        "map_command",
        "simulate_command",
        "train_command",
        "calibrate_command",
        "detect_command",
        "dynamics_command",
        "survey_command",
    ],
    ["cli"],
    ["replay_command", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "jaxmap"


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_imports_point_down():
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if relative.name == "__init__.py" and len(relative.parts) == 1:
            continue  # the table of public names
        layer = relative.parts[0].removesuffix(".py")
        assert layer in RANK, f"{relative} has no layer; place it in {__name__}.LAYERS"
        for name in imports_of(path):
            if name.split(".")[0] != "jaxmap":
                continue
            used = layer_of(name)
            used = (
                used if (PACKAGE / used).exists() or (PACKAGE / f"{used}.py").exists() else "jaxmap"
            )
            assert RANK[used] <= RANK[layer], f"{relative} imports {name}, which stands above it"


def test_one_file_touches_jax_cosmo():
    users = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "jax_cosmo" for name in imports_of(path))
    ]
    assert users == ["matter_power.py"]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_package_and_help_import_nothing_heavy():
    code = (
        "import sys, jaxmap, jaxmap.cli; jaxmap.cli.build_parser().format_help(); "
        "print([m for m in ('jax', 'numpy', 'astropy', 'scipy') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_core_runs_without_astropy_and_jax_cosmo():
    """Simulation and sampling must run on machines that have neither."""
    code = (
        "import sys; sys.modules['astropy'] = None; sys.modules['jax_cosmo'] = None\n"
        "import jax, numpy as np\n"
        "from jaxmap import Grid, Wiener, convergence_power, shear_map\n"
        "from jaxmap.simulation.fields import lognormal_field\n"
        "grid, spectrum = Grid((16, 16), 1.0), convergence_power()\n"
        "lognormal_field(jax.random.key(0), spectrum, grid)\n"
        "data = shear_map(np.zeros(grid.shape, complex), grid, noise_std=np.ones(grid.shape))\n"
        "print(Wiener(spectrum, num_samples=2)(jax.random.key(0), data).std.shape)\n"
    )
    assert run(code) == "(16, 16)"


@pytest.mark.slow
def test_light_cone_runs_without_colossus_and_the_rest():
    code = (
        "import sys\n"
        "for name in ('colossus', 'astropy', 'jax_cosmo', 'scipy.interpolate'):\n"
        "    sys.modules[name] = None\n"
        "import jax\n"
        "from jaxmap import Grid\n"
        "from jaxmap.simulation.build import build_light_cone\n"
        "from jaxmap.simulation.lightcone import halo_light_cone\n"
        "grid = Grid((16, 16), 2.0)\n"
        "simulate = jax.jit(halo_light_cone, static_argnums=2)\n"
        "field = simulate(jax.random.key(0), build_light_cone(grid), grid)\n"
        "print(field.shape, field.dtype)\n"
    )
    assert run(code) == "(16, 16) float64"


def test_public_names_resolve():
    for name in jaxmap.__all__:
        assert getattr(jaxmap, name) is not None
    assert set(jaxmap.__all__) <= set(dir(jaxmap))


def test_public_names_say_what_they_take():
    """Every argument of every public function and class is in its docstring."""
    for name in jaxmap.__all__:
        value = getattr(jaxmap, name)
        if not callable(value) or name == "Estimator":
            continue
        text = inspect.getdoc(value) or ""
        _, _, arguments = text.partition("Args:")
        for argument in inspect.signature(value).parameters:
            assert re.search(rf"^    [\w, ]*\b{argument}\b[\w, ]*:", arguments, re.M), (
                f"{name} says nothing of {argument}"
            )
