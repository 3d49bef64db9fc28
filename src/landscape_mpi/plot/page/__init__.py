"""One web page of some surfaces that needs no network: data, scripts and plotly; knows nothing of command lines."""
