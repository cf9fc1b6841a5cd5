#!/usr/bin/env bash
# Evaluate under Slurm: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments
# of test.py]. Variables: GPUS (4), GPUS_PER_NODE (at most 4), CPUS_PER_TASK (5), SRUN_ARGS,
# PORT.
set -euo pipefail
if [ $# -lt 4 ]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
exec "$(dirname "$0")/_srun.sh" "$1" "$2" test.py "${@:3}"
