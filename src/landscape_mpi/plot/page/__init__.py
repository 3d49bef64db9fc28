"""Writes a web page of some surfaces, which needs no network: data, scripts and plotly are inside."""
