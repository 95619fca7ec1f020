"""Surveys on dask.distributed: workers and schedulers that die, full disks, several devices."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from distributed import Client
from surveyruns import do_all, small_plan

from jaxmap.cli import main
from jaxmap.records import read_record
from jaxmap.survey.clients import Cluster
from jaxmap.survey.cluster import _groups, run_survey
from jaxmap.survey.plan import GALAXIES, read_plan
from jaxmap.survey.results import Task, missing_tasks
from jaxmap.survey.store import cell_path

# One thread each: sums of more threads may differ in their last bits.
ENVIRONMENT = {
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]),
}


def contents(plan) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for path in sorted((plan.folder / "results").iterdir()):
        with h5py.File(path) as file:
            found[path.name] = {name: file[name][:] for name in file}
    return found


def assert_same(first, second) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].keys() == second[name].keys()
        for part, values in first[name].items():
            np.testing.assert_array_equal(values, second[name][part], err_msg=f"{name} {part}")


def test_tasks_go_together_by_chunk():
    tasks = [Task(patch, chunk) for patch in range(5) for chunk in range(2)]
    groups = list(_groups(tasks, 2))
    assert [len(group) for group in groups] == [2, 2, 1, 2, 2, 1]
    assert all(len({task.chunk for task in group}) == 1 for group in groups)
    assert sorted(task for group in groups for task in group) == tasks
    assert list(_groups(tasks, 1)) == [[t] for t in tasks]


SHARDED = """
import sys
from pathlib import Path
import jax, numpy as np
from jaxmap.survey.estimates import patch_solver
from jaxmap.survey.plan import read_plan
from jaxmap.survey.tasks import patch_shear
jax.config.update("jax_enable_x64", True)
assert len(jax.devices()) == 4
from dataclasses import replace
for folder in sys.argv[1:]:
    plan = read_plan(Path(folder))
    shears = [replace(patch_shear(plan, patch), counts=None) for patch in plan.tiling.patches[:5]]
    keys = list(jax.random.split(jax.random.key(1), 5))
    estimator, num = plan.estimator(), plan.settings["num_samples"]
    solver = patch_solver(estimator, num)
    assert len(solver.devices) == 4
    sharded = solver(keys, shears)
    alone = replace(solver, devices=solver.devices[:1])(keys, shears)
    for one, other in zip(sharded, alone, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name]), (folder, name)
    assert not np.array_equal(sharded[0]["mean"], sharded[1]["mean"])
    print(folder, sorted(one), one["mean"].shape)
"""


@pytest.mark.release
@pytest.mark.parametrize("methods", [("ks", "dlposterior"), ("wiener", "deepmass")])
def test_sharded_over_four_devices_is_the_same_as_on_one(tmp_path, methods):
    """Bit for bit. Every device compiles for itself, which is what takes long."""
    sizes = {"patch_deg": 1.8, "pixel_arcmin": 12.0, "overlap_arcmin": 30.0}
    for method in methods:
        more = {} if method in ("ks", "deepmass") else {"num_samples": 2, "num_steps": 2}
        small_plan(tmp_path / method, method=method, **sizes, **more)
    environment = os.environ | ENVIRONMENT
    environment["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"
    folders = [str(folder) for folder in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, *folders], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean") == 2 and done.stdout.count("samples") == 1


@pytest.mark.slow
def test_commands_plan_run_tell_and_merge(tmp_path, capsys):
    parts, run = tmp_path / "sky", tmp_path / "run"
    simulated = [
        "simulate", "survey", "--area", "6", "--lmax", "400", "--density", "1", "--shape-noise",
        "0.2", "--centre", "0,0", "-q",
    ]  # fmt: skip
    assert main([*simulated, "--out", str(parts)]) == 0
    config = tmp_path / "plan.toml"
    config.write_text(
        f'catalog = "{parts}"\nmethod = "ks"\nsmoothing_arcmin = 6.0\npatch_deg = 1.8\n'
        "pixel_arcmin = 6.0\nseed = 3\n"
    )
    plan = ["survey", "plan", str(config), "--out", str(run)]
    assert main(plan) == 0
    said = capsys.readouterr().out
    assert "Power spectrum: for the n(z) of COSMOS, since no --nz is given" in said
    assert "Memory: about" in said and "Time: " in said and "Disk: " in said
    assert main([*plan, "--seed", "4"]) == 2
    assert "another plan, made with seed = 3, not 4" in capsys.readouterr().err
    assert main(["survey", "run", str(run)]) == 0
    assert main(["survey", "run", str(run)]) == 0  # nothing is left to do
    assert "0 tasks in" in capsys.readouterr().out
    assert main(["survey", "status", str(run)]) == 0
    assert "tasks are done" in capsys.readouterr().out
    assert main(["survey", "merge", str(run), "-q"]) == 0
    assert {path.name for path in (run / "maps").glob("[!p]*")} == {
        "convergence.fits", "std.fits", "signal_to_noise.fits", "b_mode.fits",
    }  # fmt: skip
    for path in (run / "plan.json", *(run / "maps").iterdir()):
        record = read_record(path)
        assert record["command"] == "survey plan" and record["settings"]["catalog"] == str(parts)
        assert record["files"][str(parts / "part-00000.h5")] and record["versions"]["jaxmap"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"start", "task", "end"} <= {line["event"] for line in log}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Results of a single worker that nothing happened to."""
    plan = wiener_plan(tmp_path_factory.mktemp("single") / "run")
    run_survey(plan, Cluster(workers=1, threads=1))
    assert missing_tasks(plan) == []
    return contents(plan)


def wiener_plan(folder: Path):
    return small_plan(
        folder, method="wiener", num_samples=16, samples_per_task=4, keep_samples=True,
        pixel_arcmin=3.0, overlap_arcmin=60.0,
    )  # fmt: skip


def start(stack: ExitStack, *command: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # with its nannies and workers
    )
    stack.callback(kill, process)
    return process


def kill(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_in_mid_task(process: subprocess.Popen, name: str, address: str) -> None:
    """Stop a worker with its nanny, see that it has a task in hand, and kill it as it stands."""

    def stands_in_task() -> bool:
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.2)  # what it had finished has reached the scheduler
        with Client(address) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"]
            tasks = client.processing()
        if any(tasks.get(one) for one, about in workers.items() if about["name"] == name):
            return True
        os.killpg(process.pid, signal.SIGCONT)
        return False

    wait_for(stands_in_task)
    kill(process)


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.mark.release
def test_killed_workers_and_schedulers_leave_no_trace(tmp_path, undisturbed):
    plan, port = wiener_plan(tmp_path / "run"), "18786"
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ("dask_scheduler", "--port", port, "--host", "127.0.0.1", "--no-dashboard")
    worker = ("dask_worker", address, "--nthreads", "1", "--no-dashboard")
    total, results = len(missing_tasks(plan)), plan.folder / "results"

    def done() -> int:
        return len(list(results.glob("patch-*"))) if results.exists() else 0

    with ExitStack() as stack:
        first = start(stack, *scheduler)
        workers = [start(stack, *worker, "--name", name) for name in ("first", "second")]
        runner = subprocess.Popen(
            [sys.executable, "-m", "jaxmap", "survey", "run", str(plan.folder), "--scheduler",
             address, "--patience", "120"],
            env=os.environ | ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        stack.callback(runner.kill)
        wait_for(lambda: done() >= 3)
        kill_in_mid_task(workers[0], "first", address)
        before = done()
        wait_for(lambda: done() >= before + 3)
        kill(first)
        at_kill = done()
        assert at_kill < total - 4
        kill(workers[1])
        start(stack, *scheduler)
        for _ in range(2):
            start(stack, *worker)
        _, said = runner.communicate(timeout=300)
        assert runner.returncode == 0 and "The scheduler is lost" in said
    assert missing_tasks(plan) == []
    assert_same(contents(plan), undisturbed)
    log = [json.loads(line) for line in (plan.folder / "log.jsonl").read_text().splitlines()]
    assert any(line["event"] == "lost scheduler" for line in log)


@pytest.mark.release
def test_a_worker_killed_here_is_replaced(tmp_path, undisturbed):
    plan = wiener_plan(tmp_path / "run")
    killed = []

    class Bar:
        def update(self, count: int) -> None:
            import psutil

            workers = [
                child
                for child in psutil.Process().children(recursive=True)
                if any("spawn_main" in part for part in child.cmdline())
            ]
            if len(killed) < 2 and workers:
                workers[0].kill()
                killed.append(workers[0].pid)

        def close(self) -> None:
            pass

    report = run_survey(plan, Cluster(workers=2, threads=1), progress=lambda *numbers: Bar())
    assert len(killed) == 2 and report.failed == {} and missing_tasks(plan) == []
    assert_same(contents(plan), undisturbed)


@pytest.mark.release
def test_full_disk_and_unreadable_galaxies_do_not_stop_the_rest(tmp_path, capsys):
    plan = small_plan(tmp_path / "run")
    patches = plan.tiling.patches
    poisoned = [patch for patch in patches if patches[0].cells[0] in patch.cells]
    damaged = cell_path(plan.folder / GALAXIES, patches[0].cells[0])
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    # Another patch without galaxies.
    empty = next(patch for patch in reversed(patches) if patch not in poisoned)
    emptied = {}
    for cell in empty.cells:
        path = cell_path(plan.folder / GALAXIES, cell)
        emptied[path] = path.read_bytes()
        with h5py.File(path, "a") as file:
            file["galaxies"].resize(0, axis=0)
    assert main(["survey", "run", str(plan.folder), "--retries", "1"]) == 1
    said = capsys.readouterr()
    assert f"{len(poisoned)} tasks failed" in said.err
    assert "cannot read the galaxies in" in said.err
    assert "have no galaxies" in said.out
    assert len(missing_tasks(plan)) == len(poisoned) < len(patches)
    for path, whole in {damaged: content, **emptied}.items():
        path.write_bytes(whole)
    # A quota on files that is too small for any result.
    script = tmp_path / "quota.py"
    script.write_text(
        "import resource, signal, sys\n"
        "if __name__ == '__main__':\n"
        "    from jaxmap.cli import main\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"    sys.exit(main(['survey', 'run', {str(plan.folder)!r}, '--retries', '0', '-q']))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 1 and f"{len(poisoned)} tasks failed" in done.stderr, done.stderr
    assert len(missing_tasks(plan)) == len(poisoned)
    assert not list((plan.folder / "results").glob(".*"))
    assert main(["survey", "run", str(plan.folder), "-q"]) == 0
    assert missing_tasks(read_plan(plan.folder)) == []
    assert do_all(plan) == []
