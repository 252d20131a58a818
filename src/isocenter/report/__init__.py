"""Report: an examination becomes pictures, a page for a physician, and data for machines."""
