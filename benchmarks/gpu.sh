#!/usr/bin/env bash
# Test and measure on a CUDA device, within eight minutes: gpu.json and gpu.md in the folder given (default: here).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "${1:-.}" && cd "${1:-.}" && pwd)
cd "$root"
status=0
timeout 180 python -m pytest -m gpu -n0 -q tests/gpu || status=$?
timeout 270 python benchmarks/gpu.py --json "$out/gpu.json" --table "$out/gpu.md"
exit "$status"
