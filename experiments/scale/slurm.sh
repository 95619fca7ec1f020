#!/bin/bash
# Scheduler and run in this job, workers as an array of jobs that may be pre-empted:
#   sbatch slurm.sh RUN
#SBATCH --job-name=jaxmap-survey
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=48:00:00
set -euo pipefail
run=$1
address_file=$run/scheduler.json
rm -f "$address_file"
dask scheduler --scheduler-file "$address_file" --no-dashboard &
trap 'kill %1; scancel --name=jaxmap-worker --user="$USER"' EXIT
until [ -s "$address_file" ]; do sleep 1; done
sbatch --job-name=jaxmap-worker --array=0-15 --requeue --gpus=1 --cpus-per-task=4 --mem=16G \
  --time=12:00:00 --wrap="XLA_PYTHON_CLIENT_PREALLOCATE=false dask worker \
  --scheduler-file $address_file --nthreads 1 --no-dashboard --death-timeout 600"
address=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$address_file")
jaxmap survey run "$run" --scheduler "$address"
jaxmap survey merge "$run"
