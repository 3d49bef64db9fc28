"""Ranks: their world, messages and arrays, who does which piece of work, how they stop and die; the only MPI."""
