"""Workers, schedulers and GPUs that a survey is given: what fits, and what is refused in words."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest
import yaml
from surveyruns import small_plan

import jaxmap
from jaxmap.cli import main
from jaxmap.survey.clients import Cluster, _reached, gpus_for_workers
from jaxmap.survey.cluster import Report, _require_results, run_survey
from jaxmap.survey.gpus import OneGPU, gpus_here
from jaxmap.survey.plan import read_plan
from jaxmap.survey.results import Task, all_tasks
from jaxmap.survey.workers import require_fit_workers


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return small_plan(tmp_path_factory.mktemp("survey") / "run")


class Client:
    """What a client tells of two workers."""

    def __init__(self, plan, **second) -> None:
        same = {"jaxmap": jaxmap.__version__, "jax": "0.10.2", "python": "3.11.7"}
        self.packages = {"tcp://one": same, "tcp://two": same | second}
        self.here, self.digests = same, {address: plan.digest for address in self.packages}

    def get_versions(self, packages):
        assert packages == ["jaxmap", "jax"]
        workers = {address: {"packages": found} for address, found in self.packages.items()}
        return {"client": {"packages": self.here}, "workers": workers}

    def run(self, function, folder, on_error):
        assert (function(folder), on_error) == (self.digests["tcp://one"], "return")
        return self.digests


def test_workers_are_asked_before_they_get_tasks(plan, tmp_path):
    assert require_fit_workers(Client(plan), plan) == []
    assert require_fit_workers(Client(plan, jax="0.9.0"), plan) == ["jax 0.9.0, here 0.10.2"]
    for version, said in (("0.0.1", "0.0.1"), (None, "nowhere")):
        with pytest.raises(ValueError, match=rf"tcp://two has jaxmap {said}, and this command .*;"):
            require_fit_workers(Client(plan, jaxmap=version), plan)
    client = Client(plan)
    client.digests["tcp://two"] = OSError("it was killed while it was asked")
    assert require_fit_workers(client, plan) == []
    for answer, said in (("0" * 64, "it holds another plan"), (ValueError("no plan"), "no plan")):
        client.digests["tcp://two"] = answer
        with pytest.raises(ValueError, match=rf"tcp://two does not see .*\({said}\); put the run"):
            require_fit_workers(client, plan)


def test_plans_of_another_version_are_not_gone_on_with(plan, monkeypatch):
    monkeypatch.setattr(jaxmap, "__version__", "9.0")
    with pytest.raises(ValueError, match=r"was made with jaxmap .*, and this is 9\.0; install"):
        run_survey(plan, Cluster())
    with pytest.raises(ValueError, match=r"another plan, made with jaxmap .*, not 9\.0"):
        small_plan(plan.folder)


def test_results_that_do_not_appear_are_told(plan):
    """A worker that writes elsewhere must not make the run go round for ever."""
    first, second = all_tasks(plan)[:2]
    report, notes = Report(finished={first}), []
    _require_results(plan, report, notes.append, patience_s=0)
    assert list(report.failed) == [first] and report.done == 0
    assert "do all workers see the same folder?" in report.failed[first]
    assert [note["event"] for note in notes] == ["failed"]
    _require_results(plan, Report(finished=set()), notes.append, patience_s=0)
    assert len(notes) == 1 and isinstance(second, Task)


def test_dead_and_wrong_addresses(monkeypatch):
    said: list[str] = []

    def nobody(address, timeout):
        raise OSError("refused") if address.startswith("tcp") else ValueError("unknown scheme")

    monkeypatch.setattr(distributed, "Client", nobody)
    dead = Cluster("tcp://127.0.0.1:9", patience_s=-1)
    with pytest.raises(TimeoutError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 .*start"):
        _reached(dead, said.append)
    assert said == ["Nothing answers at tcp://127.0.0.1:9 yet; waiting up to -1 s (--patience)."]
    with pytest.raises(ValueError, match=r"address is 'smtp://here' .*; expected one such as tcp"):
        _reached(Cluster("smtp://here"), said.append)


def test_gpus(monkeypatch, tmp_path: Path):
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus_here(tmp_path) == ("0", "2", "10")
    for shown, expected in (("3,GPU-a", ("3", "GPU-a")), ("", ()), ("-1", ())):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert gpus_here(tmp_path) == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert gpus_for_workers(Cluster(workers=2)) == ("4", "5")
    assert gpus_for_workers(Cluster(workers=3)) == ()  # they share: nobody asked for one each
    assert gpus_for_workers(Cluster(workers=1, gpus=())) == ()
    with pytest.raises(ValueError, match="names 1 and --workers asks for 2; expected a GPU for"):
        gpus_for_workers(Cluster(workers=2, gpus=("0",)))
    for number, expected in enumerate(("7", "9")):
        OneGPU(("7", "9")).setup(SimpleNamespace(name=str(number)))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "--workers is 0; expected 1 or more"),
        (["--together", "0"], "--together is 0; expected 1 or more"),
        (["--scheduler", "tcp://a:1", "--workers", "2"], "--workers 2 is for workers on this"),
        (["--scheduler", "tcp://a:1", "--gpus", "0"], "--gpus 0 is for workers on this"),
    ],
)
def test_flags_that_do_not_go_together(plan, capsys, flags, message):
    assert main(["survey", "run", str(plan.folder), *flags]) == 2
    assert message in capsys.readouterr().err
    assert read_plan(plan.folder).digest == plan.digest


def test_files_for_clusters_are_well_formed():
    folder = Path(__file__).parents[1] / "experiments" / "scale"
    for script in folder.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
    compile((folder / "jobqueue.py").read_text(), "jobqueue.py", "exec")
    kinds = [one["kind"] for one in yaml.safe_load_all((folder / "kubernetes.yaml").read_text())]
    assert kinds == ["Service", "Deployment", "Deployment", "Job"]
