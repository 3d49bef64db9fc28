"""The metrics: what may be computed at a point, one module each, and what everything else has to know of them."""
