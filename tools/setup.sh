#!/usr/bin/env bash
# Makes a virtual environment with everything: MPI, HDF5, PyTorch, this package (editable), its tests and linters.
#
#   make setup [VENV=.venv] [MPI=auto|apt|pip] [PYTHON=python3] [TORCH_FROM=FOLDER]
#
# MPI=apt    Debian and Ubuntu: Open MPI and parallel HDF5 from the distribution, h5py built against them.
#            The built wheel is kept, so that the next environment takes seconds.
# MPI=pip    anywhere, without root and without a compiler: MPICH and h5py as PyPI ships them (h5py without MPI).
# MPI=auto   keeps the way the environment was made; for a new one apt where its packages are there or can be had
#            (root, or sudo that asks nothing), else pip.
# TORCH_FROM a site-packages folder whose torch is linked instead of installed again.
#
# Runs again in no time: VENV/.landscape-setup records what was set up. What an interrupted set-up left is made anew.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv} MPI=${MPI:-auto} PYTHON=${PYTHON:-python3} TORCH_FROM=${TORCH_FROM:-}
HINT=""
MARKER=$VENV/.landscape-setup
WORK=$(mktemp -d)
LOG=$WORK/log
BUILD=""
trap 'end_build; rm -rf "$WORK"' EXIT
APT_PACKAGES=(openmpi-bin libopenmpi-dev libhdf5-openmpi-dev hdf5-tools pkg-config gcc libc6-dev)
BUILD_PACKAGES=(setuptools wheel)
H5PY_BUILD_PACKAGES=("${BUILD_PACKAGES[@]}" Cython numpy pkgconfig mpi4py)

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
end_build() { [ -z "$BUILD" ] || kill -- -"$BUILD" 2>/dev/null || true; }
fail() { printf 'make setup: %s\n' "$*" >&2; exit 1; }
pin() { sed -n "s/^$1==//p" constraints.txt; }

# --- the Python to start from -------------------------------------------------------------------------------------

find_python() { # the interpreter itself, also where an environment is active
  local ask='import sys; print("%d.%d" % sys.version_info[:2], int(sys.version_info >= (3, 11)), sys._base_executable)'
  local answer new
  answer=$("$PYTHON" -c "$ask" 2>/dev/null) || fail "'$PYTHON' is no Python that runs; name Python 3.11 or newer with PYTHON=..."
  read -r PYTHON_VERSION new PYTHON <<<"$answer"
  [ "$new" = 1 ] || fail "$PYTHON is Python $PYTHON_VERSION, but 3.11 or newer is needed; name one with PYTHON=..."
}

has_venv() { "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }
has_headers() { [ -f "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; }

# --- which way ----------------------------------------------------------------------------------------------------

missing_packages() {
  local package
  for package in "${APT_PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
  done
  has_headers || printf 'python%s-dev ' "$PYTHON_VERSION"
  has_venv || printf 'python%s-venv ' "$PYTHON_VERSION"
}

can_apt() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || return 1
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || [ -z "$(missing_packages)" ]
}

recorded() { sed -n "s/^$1=//p" "$MARKER" 2>/dev/null || true; }

choose_way() {
  WAY=$MPI
  case $MPI in
    apt) command -v apt-get >/dev/null || fail "MPI=apt needs apt-get, which is not here; use MPI=pip" ;;
    pip) ;;
    auto) WAY=$(recorded way); [ -n "$WAY" ] || { if can_apt; then WAY=apt; else WAY=pip; fi; } ;;
    *) fail "MPI=$MPI is unknown; it is one of auto, apt, pip" ;;
  esac
}

fingerprint() { # changes with everything that the environment depends on
  {
    cat setup.cfg setup.py pyproject.toml constraints.txt tools/setup.sh tools/check_setup.py src/landscape_mpi/__init__.py \
      src/landscape_mpi/engines/kernel/* src/landscape_mpi/plane/kernel/*
    echo "$WAY $PWD $PYTHON $PYTHON_VERSION"
    [ "$WAY" = pip ] || dpkg-query -W "${APT_PACKAGES[@]}" 2>/dev/null || true
  } | cksum | tr ' ' -
}

# --- steps --------------------------------------------------------------------------------------------------------

logged() { # its output is shown only where it fails
  "$@" >>"$LOG" 2>&1 && return
  tail -n 25 "$LOG" >&2
  end_build
  trap - EXIT
  fail "this failed: $* (all that was said is in $LOG)$HINT"
}

pip() { logged "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
pip_install() { pip install --constraint constraints.txt "$@"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then env DEBIAN_FRONTEND=noninteractive "$@"; else sudo env DEBIAN_FRONTEND=noninteractive "$@"; fi
}

install_packages() {
  local missing
  read -ra missing <<<"$(missing_packages)"
  [ "${#missing[@]}" -gt 0 ] || return 0
  say "installing with apt-get: ${missing[*]} (under a minute)"
  as_root apt-get update -q >>"$LOG" 2>&1 || true # a broken third-party list need not matter
  HINT="; without apt-get: make setup MPI=pip"
  logged as_root apt-get install -y -q --no-install-recommends "${missing[@]}"
  HINT=""
}

make_environment() {
  has_venv || fail "this Python has no venv module: install the package python$PYTHON_VERSION-venv, or name another Python with PYTHON=..."
  if [ -f "$MARKER" ]; then
    say "making $VENV anew: $1"
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name "$(basename "$MARKER")" -exec rm -rf {} +
  elif [ -x "$VENV/bin/pip" ]; then
    say "using the environment that is there: $VENV"
    return
  elif [ -d "$VENV" ] && [ -n "$(ls -A "$VENV")" ]; then
    fail "VENV=$VENV holds something that is no virtual environment; choose another folder or remove it"
  else
    say "making $VENV with Python $PYTHON_VERSION"
  fi
  mkdir -p "$VENV"
  printf 'way=%s\nstate=unfinished\n' "$WAY" >"$MARKER"
  logged "$PYTHON" -m venv "$VENV"
}

prepare_environment() {
  if [ ! -f "$MARKER" ] || [ ! -x "$VENV/bin/python" ]; then make_environment "it has no Python"
  elif [ "$(recorded state)" = unfinished ]; then make_environment "its set-up was interrupted"
  elif [ "$(recorded way)" != "$WAY" ]; then make_environment "it was made with MPI=$(recorded way)"
  else say "bringing $VENV up to date"
  fi
}

link_torch() {
  [ -n "$TORCH_FROM" ] || return 0
  local site entry
  site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  compgen -G "$TORCH_FROM/torch-$(pin torch)*.dist-info" >/dev/null || fail "TORCH_FROM=$TORCH_FROM holds no torch $(pin torch)"
  for entry in "$TORCH_FROM"/{torch,torchgen,functorch,torch-*.dist-info,nvidia*,cuda*,triton*}; do
    [ ! -e "$entry" ] || [ -e "$site/${entry##*/}" ] || ln -s "$(realpath "$entry")" "$site/"
  done
}

# --- h5py with parallel HDF5 --------------------------------------------------------------------------------------

parallel_h5py() { # true where the environment's h5py is the pinned one, built against the HDF5 that is installed
  "$VENV/bin/python" - "$(pin h5py)" "$HDF5_VERSION" 2>/dev/null <<'PYTHON'
import sys, h5py
sys.exit([h5py.version.version, h5py.version.hdf5_version] != sys.argv[1:] or not h5py.get_config().mpi)
PYTHON
}

build_h5py() { # no wheel of pip's own cache: that one does not know which HDF5 it was built against
  say "building h5py $(pin h5py) against parallel HDF5 $HDF5_VERSION (a minute on two free cores, once)"
  printf '[build_ext]\nparallel = %s\n' "$(getconf _NPROCESSORS_ONLN)" >"$WORK/build.cfg"
  HDF5_MPI=ON CC=mpicc.openmpi HDF5_PKGCONFIG_NAME=hdf5-openmpi CFLAGS="-O1 -g0" DIST_EXTRA_CONFIG=$WORK/build.cfg \
    pip wheel --no-cache-dir --no-binary=h5py --no-build-isolation --no-deps --wheel-dir "$WORK" "h5py==$(pin h5py)"
  mkdir -p "$1"
  cp "$WORK"/h5py-*.whl "$1/.new"
  mv "$1/.new" "$1/$(basename "$WORK"/h5py-*.whl)"
}

kept_h5py() { # the folder of the wheel that fits this Python, MPI and HDF5
  local tag
  tag=$("$VENV/bin/python" -c 'import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform(), sep="-")')
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/landscape_mpi/h5py-$(pin h5py)_hdf5-${HDF5_VERSION}_openmpi-$(pkg-config --modversion ompi)_mpi4py-$(pin mpi4py)_$tag"
}

start_h5py() { # builds the wheel, where it is not kept, while everything else is installed
  HDF5_VERSION=$(pkg-config --modversion hdf5-openmpi)
  ! parallel_h5py || return 0
  pip_install "${H5PY_BUILD_PACKAGES[@]}"
  KEPT=$(kept_h5py)
  ! compgen -G "$KEPT/h5py-*.whl" >/dev/null || return 0
  set -m # a process group of its own, which an interruption ends
  (LOG=$WORK/h5py.log; build_h5py "$KEPT") &
  BUILD=$!
  set +m
}

install_h5py() {
  ! parallel_h5py || return 0
  if [ -n "$BUILD" ]; then
    wait "$BUILD" || { trap - EXIT; exit 1; } # it has said why
    BUILD=""
  fi
  say "installing h5py $(pin h5py) with parallel HDF5 $HDF5_VERSION"
  pip install --no-deps --force-reinstall "$KEPT"/h5py-*.whl
  parallel_h5py || { rm -r "$KEPT"; fail "the h5py in $KEPT has no MPI; it is removed: run make setup again"; }
}

# ------------------------------------------------------------------------------------------------------------------

install_everything() {
  pip_install "${BUILD_PACKAGES[@]}"
  if [ "$WAY" = apt ]; then start_h5py; else pip_install mpich; fi
  say "installing everything else${TORCH_FROM:+, torch from $TORCH_FROM} (PyTorch is large)"
  link_torch
  rm -f src/landscape_mpi/*/*.abi3.so # kernels of version 0.1, which Python finds before those of today
  pip_install --no-build-isolation --editable ".[dev,docs,html,test]"
  [ "$WAY" = pip ] || install_h5py
}

main() {
  local state
  find_python
  choose_way
  state=$(fingerprint)
  if [ "$(recorded state)" = "$state" ] && [ -x "$VENV/bin/python" ]; then return; fi
  say "setting up $VENV with MPI=$WAY"
  [ "$WAY" = pip ] || install_packages
  prepare_environment
  install_everything
  VENV=$VENV tools/run.sh mpirun -n 2 python tools/check_setup.py "$WAY" || fail "MPI does not work in $VENV: see above"
  printf 'way=%s\nstate=%s\n' "$WAY" "$(fingerprint)" >"$MARKER"
  say "$VENV is ready: . $VENV/bin/activate"
}

main
