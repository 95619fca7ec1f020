"""A client of dask.distributed: of workers started on this machine, or of any scheduler."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class Cluster:
    """Where to run.

    Args:
        address: of a scheduler; None to start workers on this machine.
        workers: processes on this machine.
        threads: of each.
        gpus: one for each worker, as numbers of ``CUDA_VISIBLE_DEVICES``; None for those of this
            machine, empty to leave it to JAX.
        patience_s: how long a lost scheduler is waited for.
    """

    address: str | None = None
    workers: int = 1
    threads: int | None = None
    gpus: tuple[str, ...] | None = None
    patience_s: float = 600.0


@contextmanager
def connected(cluster: Cluster, say: Callable[[str], Any]) -> Iterator[Any]:
    """A client of the scheduler there is, or of one that is started here."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    # Many tasks may be under way on a worker that is killed; none of them is to blame.
    with dask.config.set({"distributed.scheduler.allowed-failures": 5}):
        if cluster.address is not None:
            client = _reached(cluster, say)
            try:
                say(f"Scheduler {cluster.address}, dashboard {client.dashboard_link}")
                yield client
            finally:
                client.close(timeout=2)
            return
        gpus = gpus_for_workers(cluster)
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
            needs = "" if find_spec("bokeh") else " (needs bokeh: pip install bokeh)"
            say(f"{cluster.workers} workers here, dashboard {client.dashboard_link}{needs}")
            if gpus:
                from jaxmap.survey.gpus import OneGPU

                client.register_plugin(OneGPU(gpus))
            yield client


def gpus_for_workers(cluster: Cluster) -> tuple[str, ...]:
    """GPUs for the workers of this machine; none where there are fewer and nobody asked for them.

    Raises:
        ValueError: if fewer were asked for than there are workers.
    """
    from jaxmap.survey.gpus import gpus_here

    gpus = gpus_here() if cluster.gpus is None else cluster.gpus
    if len(gpus) >= cluster.workers:
        return gpus
    if cluster.gpus:
        raise ValueError(
            f"--gpus names {len(gpus)} and --workers asks for {cluster.workers}; expected a GPU "
            "for every worker"
        )
    return ()


def _reached(cluster: Cluster, say: Callable[[str], Any]) -> Any:
    """A client of a scheduler at an address, once it answers and has workers."""
    from distributed import Client

    deadline, told = time.monotonic() + cluster.patience_s, False
    while True:
        try:
            client = Client(cluster.address, timeout=5)
        except ValueError as error:
            raise ValueError(
                f"the scheduler's address is {cluster.address!r} ({error}); expected one such as "
                "tcp://host:8786"
            ) from error
        except (OSError, TimeoutError) as error:
            if not told:
                say(
                    f"Nothing answers at {cluster.address} yet; waiting up to "
                    f"{cluster.patience_s:g} s (--patience)."
                )
                told = True
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no scheduler answers at {cluster.address} ({error}); start it (`dask "
                    "scheduler`) and give the same command again"
                ) from error
            time.sleep(1)
            continue
        try:
            if not client.scheduler_info()["workers"]:
                say(f"The scheduler at {cluster.address} has no workers yet; waiting for some.")
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
    affinity = getattr(os, "sched_getaffinity", None)  # what a batch system leaves us
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = cluster.threads or max(cores // cluster.workers, 1)
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false"
    return {
        "NPROC": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "XLA_FLAGS": flags.strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
