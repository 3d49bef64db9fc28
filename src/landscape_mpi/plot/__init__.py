"""Figures of surfaces: one module a picture; knows nothing of torch or MPI, nor how a surface was computed."""
