#!/usr/bin/env bash
# The main job with no download: trains two small networks, with and without shortcuts, on shapes10, sweeps the loss
# around both with `mpirun -n 4` and draws them. `make demo` calls it; what is there already is not done again.
# `landscape-mpi demo` does the same with one network, in 30 s of processor time, wherever the package is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=(shortcuts noshort)

echo "Training two networks side by side (about a minute):"
pids=()
for job in "${jobs[@]}"; do
  [ -f "demo/nets/$job/epoch-0005.safetensors" ] && continue
  python -m landscape_mpi train "jobs/demo/train_$job.yaml" --overwrite 2>&1 | sed -u "s/^/  $job: /" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done

for job in "${jobs[@]}"; do
  echo "Sweeping the loss around $job on 4 ranks:"
  mpirun -n 4 python -m landscape_mpi sweep "jobs/demo/$job.yaml"
done

echo "The figures:"
surfaces=(demo/noshort.h5 demo/shortcuts.h5)
landscape-plot "${surfaces[@]}" --log -o demo/contours.png
landscape-plot "${surfaces[@]}" --kind surface --vmax 8 -o demo/landscapes.png
landscape-plot "${surfaces[@]}" --html demo/landscapes.html
