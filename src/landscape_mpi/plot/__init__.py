"""Draws surfaces and training histories: landscape-plot; never imports torch or MPI."""
