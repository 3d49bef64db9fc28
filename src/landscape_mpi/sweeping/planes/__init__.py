"""Builds the plane of a sweep: one module for each `plane.kind`, one for the path of a training run on any plane."""
