"""A survey run on dask.distributed: on processes of this machine, or on any scheduler's workers.

Tasks share nothing but the folder of the run. A worker that dies takes its task with it, which goes
to another; a scheduler that dies is waited for, and gets what is missing once it is back; and a run
that is stopped is completed by the same command, since finished tasks are found by their results.
A task that fails again and again is put aside and told, and does not stop the rest.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxmap.files import remove_leftovers
from jaxmap.survey.plan import RESULTS, Plan
from jaxmap.survey.results import Task, missing_tasks
from jaxmap.survey.tasks import run_tasks

log = logging.getLogger(__name__)

LOG = "log.jsonl"
_LEAST_WINDOW = 256  # tasks given to the scheduler at a time
_LOST = ("cancelled", "lost")


@dataclass(frozen=True)
class Cluster:
    """Where to run.

    Args:
        address: of a scheduler; None to start workers on this machine.
        workers: processes on this machine.
        threads: of each.
        gpus: one for each worker, as numbers of ``CUDA_VISIBLE_DEVICES``; empty for what there is.
        patience_s: how long a lost scheduler is waited for.
    """

    address: str | None = None
    workers: int = 1
    threads: int | None = None
    gpus: tuple[str, ...] = ()
    patience_s: float = 600.0


@dataclass
class Report:
    """What became of a run.

    Attributes:
        done: tasks done now.
        empty: patches without galaxies among them.
        failed: message of every task that was given up, by (patch, chunk).
        warnings: what tasks warned of, with the number of tasks.
        seconds: of the run.
    """

    done: int = 0
    empty: int = 0
    failed: dict[Task, str] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


Progress = Callable[[int, int], Any]
"""Given all tasks and those that were there, makes a bar with ``update`` and ``close``."""


def run_survey(
    plan: Plan,
    cluster: Cluster,
    *,
    retries: int = 2,
    together: int = 1,
    progress: Progress | None = None,
    say: Callable[[str], Any] = lambda text: None,
) -> Report:
    """Do what is missing of a survey.

    Args:
        plan: of the survey.
        cluster: where.
        retries: of a task that fails.
        together: patches in one task, for workers with several devices.
        progress: shows it.
        say: is told where the dashboard is, and of a lost scheduler.

    Raises:
        ValueError: if dask.distributed is not installed.
        TimeoutError: if no scheduler answers, or a lost one does not come back.
    """
    _require_distributed()
    report, start = Report(), time.perf_counter()
    remove_leftovers(plan.folder / RESULTS, ".h5")
    todo = missing_tasks(plan)
    total = len(plan.tiling.patches) * plan.num_chunks
    bar = progress(total, total - len(todo)) if progress is not None else None
    try:
        with (plan.folder / LOG).open("a", encoding="utf-8") as file:

            def note(record: dict[str, Any]) -> None:
                file.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")
                file.flush()

            note({"event": "start", "missing": len(todo)})
            while todo:
                with _client(cluster, say) as client:
                    lost = _round(client, plan, todo, retries, together, report, note, bar)
                todo = [task for task in missing_tasks(plan) if task not in report.failed]
                if lost and todo:
                    note({"event": "lost scheduler", "missing": len(todo)})
                    say(f"The scheduler is lost; waiting for it to go on with {len(todo)} tasks.")
            report.seconds = time.perf_counter() - start
            note({"event": "end", "done": report.done, "failed": len(report.failed)})
    finally:
        if bar is not None:
            bar.close()
    return report


def _round(
    client: Any,
    plan: Plan,
    todo: Sequence[Task],
    retries: int,
    together: int,
    report: Report,
    note: Callable[[dict[str, Any]], None],
    bar: Any,
) -> bool:
    """Do tasks until none is left, or the scheduler is lost; whether it was."""
    from distributed import as_completed

    groups = deque(_groups(todo, together))
    names: dict[str, list[Task]] = {}

    def submit() -> Any | None:
        if not groups:
            return None
        group = groups.popleft()
        where = str(plan.folder.absolute())
        name = f"patch-{group[0].patch}-chunk-{group[0].chunk}-{len(group)}-{plan.digest[:8]}"
        names[name] = group
        return client.submit(
            run_tasks,
            where,
            plan.digest,
            [tuple(task) for task in group],
            key=name,
            retries=retries,
            pure=False,
        )

    cores = sum(client.nthreads().values())
    first = [submit() for _ in range(max(_LEAST_WINDOW, 4 * cores))]
    pending = as_completed([future for future in first if future is not None])
    for future in pending:
        if future.status in _LOST:
            return True
        group = names.pop(future.key)
        if future.status == "finished":
            try:
                records = future.result(timeout="60s")
            except Exception:  # the connection went with the scheduler; the result is on disk
                return True
            _count(records, report, note)
        elif len(group) > 1:  # one of them may have stopped the others
            groups.extend([task] for task in group)
            group = []
        else:
            _put_aside(group[0], future.exception(), report, note)
        if bar is not None:
            bar.update(len(group))
        future.release()
        following = submit()
        if following is not None:
            pending.add(following)
    return False


def _groups(todo: Sequence[Task], together: int) -> Iterator[list[Task]]:
    """Tasks of different patches and one chunk, so many together."""
    by_chunk = sorted(todo, key=lambda task: (task.chunk, task.patch)) if together > 1 else todo
    held: list[Task] = []
    for task in by_chunk:
        if held and (len(held) == together or held[0].chunk != task.chunk):
            yield held
            held = []
        held.append(task)
    if held:
        yield held


def _count(
    records: Iterable[dict[str, Any]], report: Report, note: Callable[[dict[str, Any]], None]
) -> None:
    for record in records:
        note({"event": "task", **record})
        report.done += 1
        report.empty += record["state"] == "empty"
        for warning in record.get("warnings", ()):
            report.warnings[warning] = report.warnings.get(warning, 0) + 1


def _put_aside(
    task: Task,
    error: BaseException,
    report: Report,
    note: Callable[[dict[str, Any]], None],
) -> None:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    report.failed[task] = text
    note({"event": "failed", **task._asdict(), "error": text})


@contextmanager
def _client(cluster: Cluster, say: Callable[[str], Any]) -> Iterator[Any]:
    """A client of the scheduler there is, or of one that is started here."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    # Many tasks may be under way on a worker that is killed; none of them is to blame.
    with dask.config.set({"distributed.scheduler.allowed-failures": 5}):
        if cluster.address is not None:
            client = _reached(cluster)
            try:
                say(f"Scheduler {cluster.address}, dashboard {client.dashboard_link}")
                yield client
            finally:
                client.close(timeout=2)
            return
        with (
            LocalCluster(
                n_workers=cluster.workers,
                threads_per_worker=1,
                env=_environment(cluster),
                silence_logs=logging.CRITICAL,
                dashboard_address="127.0.0.1:0",  # any free port
            ) as local,
            Client(local) as client,
        ):
            say(f"{cluster.workers} workers here, dashboard {client.dashboard_link}")
            if cluster.gpus:
                from jaxmap.survey.gpus import OneGPU

                client.register_plugin(OneGPU(cluster.gpus))
            yield client


def _reached(cluster: Cluster) -> Any:
    """A client of a scheduler at an address, once it answers and has workers."""
    from distributed import Client

    deadline = time.monotonic() + cluster.patience_s
    while True:
        try:
            client = Client(cluster.address, timeout=5)
        except (OSError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no scheduler answers at {cluster.address} ({error}); start it (`dask "
                    "scheduler`) and give the same command again"
                ) from error
            time.sleep(1)
            continue
        try:
            client.wait_for_workers(1, timeout=max(deadline - time.monotonic(), 1))
        except (OSError, TimeoutError) as error:
            client.close(timeout=2)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the scheduler at {cluster.address} has no workers; start some (`dask worker "
                    f"{cluster.address}`) and give the same command again"
                ) from error
            continue
        return client


def _environment(cluster: Cluster) -> dict[str, str]:
    """Of workers on this machine: threads for XLA, which looks there when it starts."""
    threads = cluster.threads or max((os.cpu_count() or 1) // cluster.workers, 1)
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false"
    return {
        "NPROC": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "XLA_FLAGS": flags.strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def _require_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ValueError(
            'maps of whole surveys run on dask.distributed: pip install "jaxmap[survey]"'
        ) from error
