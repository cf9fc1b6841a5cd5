#!/usr/bin/env bash
# Runs a tool in one process per GPU: _srun.sh PARTITION JOB_NAME TOOL [arguments of TOOL]
set -euo pipefail
partition=$1
job_name=$2
tool=$3
shift 3
if ! command -v srun > /dev/null; then
  echo "srun is not found: start this on a machine of the Slurm cluster" >&2
  exit 1
fi
num_gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$((num_gpus < 4 ? num_gpus : 4))}
export MASTER_PORT="${PORT:-29500}"
# SRUN_ARGS holds several arguments. srun takes the rest of its line as the command.
exec srun --partition="$partition" --job-name="$job_name" \
  --gres="gpu:$per_node" --ntasks="$num_gpus" --ntasks-per-node="$per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$(dirname "$0")/$tool" "$@" --launcher slurm
