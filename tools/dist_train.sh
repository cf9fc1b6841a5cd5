#!/usr/bin/env bash
# Train on several GPUs: tools/dist_train.sh CONFIG NUM_GPUS [arguments of train.py]
# More machines: set NNODES, NODE_RANK, MASTER_ADDR (and PORT) on each.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
fi
config=$1
num_gpus=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$num_gpus" \
  -- "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
