"""Atomic writes, locks, names of files, and HDF5 files read as untrusted data; knows no surface."""
