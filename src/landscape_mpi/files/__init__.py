"""Atomic writes, locks, records with checksums, and HDF5 files read as untrusted data; knows no surface."""
