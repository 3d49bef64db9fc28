#!/bin/sh
# Installs Open MPI, parallel HDF5 and the wheels in a folder within an image of Debian and Python; Dockerfile and
# landscape_mpi.def call it.
#
#   container.sh FOLDER
set -eu

apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
  openmpi-bin libopenmpi-dev libhdf5-openmpi-dev pkg-config gcc libc6-dev

# h5py as PyPI has it knows no MPI: it is built against the HDF5 that does.
HDF5_MPI=ON CC=mpicc.openmpi HDF5_PKGCONFIG_NAME=hdf5-openmpi pip install --no-cache-dir --no-binary=h5py h5py
pip install --no-cache-dir "$1"/landscape_mpi-*.whl
landscape-mpi --version

rm -rf /var/lib/apt/lists/*
