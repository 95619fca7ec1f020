"""A survey on Slurm through dask-jobqueue: ``python jobqueue.py RUN`` on a login node.

Needs ``pip install dask-jobqueue``; change queue and account to yours.
"""

import sys

from dask_jobqueue import SLURMCluster

from jaxmap.cli import main

if __name__ == "__main__":
    cluster = SLURMCluster(
        queue="gpu",
        account="lensing",
        processes=1,
        cores=1,
        job_cpu=4,
        memory="16GB",
        walltime="04:00:00",
        job_extra_directives=["--gpus=1"],
        job_script_prologue=["export XLA_PYTHON_CLIENT_PREALLOCATE=false"],
    )
    cluster.adapt(minimum_jobs=1, maximum_jobs=64)
    sys.exit(main(["survey", "run", sys.argv[1], "--scheduler", cluster.scheduler_address]))
