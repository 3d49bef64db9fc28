"""Sweeps: a job computed by many ranks into its surface file."""
