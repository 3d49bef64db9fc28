"""Ranks: their world, messages and shared arrays, who does which piece of work, and how they stop or die."""
