#!/bin/bash
# All GPUs of this machine through dask-cuda (pip install dask-cuda): ./cuda.sh RUN
set -euo pipefail
export XLA_PYTHON_CLIENT_PREALLOCATE=false
dask scheduler --port 8786 --no-dashboard &
dask cuda worker tcp://127.0.0.1:8786 --nthreads 1 &
trap 'kill %1 %2' EXIT
jaxmap survey run "$1" --scheduler tcp://127.0.0.1:8786
