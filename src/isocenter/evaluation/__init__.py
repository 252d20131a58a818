"""Evaluation: predictions beside what was true -> numbers with intervals, and a page."""
