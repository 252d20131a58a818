"""Measurements beside peers, in one run on one machine; ratios are what counts."""
