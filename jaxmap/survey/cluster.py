"""A survey run on dask.distributed: on processes of this machine, or on any scheduler's workers.

Tasks share nothing but the folder of the run. A worker that dies takes its task with it, which goes
to another; a scheduler that dies is waited for, and gets what is missing once it is back; and a run
that is stopped is completed by the same command, since finished tasks are found by their results.
A task that fails again and again is put aside and told, and does not stop the rest.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from jaxmap.files import remove_leftovers
from jaxmap.survey.clients import Cluster, connected
from jaxmap.survey.plan import RESULTS, Plan, require_version
from jaxmap.survey.results import Task, missing_tasks, result_path
from jaxmap.survey.tasks import run_tasks
from jaxmap.survey.workers import require_fit_workers

LOG = "log.jsonl"
_WINDOW = 2048  # tasks given to the scheduler at a time
_LOST = ("cancelled", "lost")
_NUMBER = re.compile(r"\d[\d.]*(e[+-]?\d+)?")
_FILES_S = 90.0  # that a network file system may take to show a file that another machine wrote


@dataclass
class Report:
    """What became of a run.

    Attributes:
        finished: tasks that workers reported.
        empty: patches without galaxies among them.
        failed: message of every task that was given up, by (patch, chunk).
        warnings: what tasks warned of, with the number of tasks (`count_warning`).
        seconds: of the run.
    """

    finished: set[Task] = field(default_factory=set)
    empty: int = 0
    failed: dict[Task, str] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Number of tasks done in this run."""
        return len(self.finished)


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
        ValueError: if dask.distributed is not installed, the plan is another version's, or the
            workers of a scheduler are not fit for it (`require_fit_workers`).
        TimeoutError: if no scheduler answers, or a lost one does not come back.
    """
    _require_distributed()
    require_version(plan)
    report, start = Report(), time.perf_counter()
    remove_leftovers(plan.folder / RESULTS, ".h5")
    todo = missing_tasks(plan)
    total = len(plan.tiling.patches) * plan.num_chunks
    bar = progress(total, total - len(todo)) if progress is not None else None
    try:
        with (plan.folder / LOG).open("ab", buffering=0) as file:

            def note(record: dict[str, Any]) -> None:
                line = json.dumps({"time": round(time.time(), 3), **record}) + "\n"
                with suppress(OSError):  # a disk too full for the log stops nothing
                    file.write(line.encode())

            note({"event": "start", "missing": len(todo)})
            while todo:
                with connected(cluster, say) as client:
                    lost = cluster.address is not None and not _are_fit(client, plan, say)
                    lost = lost or _round(client, plan, todo, retries, together, report, note, bar)
                _require_results(plan, report, note)
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


def _are_fit(client: Any, plan: Plan, say: Callable[[str], Any]) -> bool:
    """Whether workers may have tasks; not if the scheduler went away while they were asked."""
    try:
        others = require_fit_workers(client, plan)
    except OSError:
        return False
    for other in others:
        say(f"Some workers have {other}: last bits of results may differ.")
    return True


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

    first = [submit() for _ in range(_WINDOW)]
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
        report.finished.add(Task(record["patch"], record["chunk"]))
        report.empty += record["state"] == "empty"
        for warning in record.get("warnings", ()):
            count_warning(report.warnings, warning)


def count_warning(counted: dict[str, int], text: str) -> None:
    """Count a warning, as the first of those that differ from it in numbers alone."""
    alike = (one for one in counted if _NUMBER.sub("", one) == _NUMBER.sub("", text))
    first = next(alike, text)
    counted[first] = counted.get(first, 0) + 1


def _require_results(
    plan: Plan, report: Report, note: Callable[[dict[str, Any]], None], patience_s: float = _FILES_S
) -> None:
    """Put tasks aside whose results are reported and cannot be seen here."""
    deadline = time.monotonic() + patience_s
    while unseen := report.finished & set(missing_tasks(plan)):
        if time.monotonic() > deadline:
            for task in unseen:
                error = OSError(
                    f"a worker reported {result_path(plan, task)}, and it is not there; do all "
                    "workers see the same folder?"
                )
                _put_aside(task, error, report, note)
            report.finished -= unseen
            return
        time.sleep(0.5)


def _put_aside(
    task: Task,
    error: BaseException,
    report: Report,
    note: Callable[[dict[str, Any]], None],
) -> None:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    report.failed[task] = text
    note({"event": "failed", **task._asdict(), "error": text})


def _require_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ValueError(
            'maps of whole surveys run on dask.distributed: pip install "jaxmap[survey]"'
        ) from error
