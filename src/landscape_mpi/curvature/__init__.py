"""Curvature of a loss: Hessian-vector products, the largest and smallest eigenvalue of the Hessian, its spectrum."""

from landscape_mpi.curvature.derivatives import Hessian, differs, silent
from landscape_mpi.curvature.lanczos import Extremes, Product, Search, basis_size, extremes, start_vector
from landscape_mpi.curvature.quadrature import Sample, spectrum

__all__ = [
    "Extremes",
    "Hessian",
    "Product",
    "Sample",
    "Search",
    "basis_size",
    "differs",
    "extremes",
    "silent",
    "spectrum",
    "start_vector",
]
