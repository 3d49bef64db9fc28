"""Writes one web page of some surfaces that needs no network: its data, its scripts and plotly."""
