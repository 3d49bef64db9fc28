"""Loss landscapes of neural networks, swept by many MPI ranks into one HDF5 surface file."""

__version__ = "0.1.0"
