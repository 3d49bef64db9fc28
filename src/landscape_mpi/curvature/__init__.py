"""Curvature of a loss: Hessian-vector products, and the largest and smallest eigenvalue of the Hessian."""

from landscape_mpi.curvature.derivatives import Hessian, differs, silent
from landscape_mpi.curvature.lanczos import Extremes, Product, Search, basis_size, extremes, start_vector

__all__ = ["Extremes", "Hessian", "Product", "Search", "basis_size", "differs", "extremes", "silent", "start_vector"]
