#!/usr/bin/env bash
# Builds dist/: the sources, and a wheel with the kernels for the machines of this architecture and every Python 3.
# `make wheel` calls it. The wheel is built from those sources, so that no older build lends it a file.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }

quietly python -m build --no-isolation --outdir "$work" .
kernels=$(python -m zipfile --list "$work"/*.whl | grep -c '\.so ') || true
[ "$kernels" = 2 ] || { cat "$work/log" >&2; echo "make wheel: $kernels of 2 kernels were compiled" >&2; exit 1; }

mkdir -p dist
rm -f dist/landscape_mpi-*
cp "$work"/*.tar.gz dist/
quietly auditwheel repair --wheel-dir dist "$work"/*.whl # its name says on which systems it runs
auditwheel show dist/*.whl
ls -l dist/
