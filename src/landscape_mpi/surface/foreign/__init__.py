"""Files of other tools: one module for each."""
