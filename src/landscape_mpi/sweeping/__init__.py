"""Sweeps a job: many ranks compute its points into its surface file."""
