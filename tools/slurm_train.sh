#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of train.py]
# Variables: GPUS (4), GPUS_PER_NODE (at most 4), CPUS_PER_TASK (5), SRUN_ARGS, PORT.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
fi
exec "$(dirname "$0")/_srun.sh" "$1" "$2" train.py "${@:3}"
