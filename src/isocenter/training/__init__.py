"""Training: from tables (and, in time, images) to models that state how they were made."""
