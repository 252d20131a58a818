"""Networks: one page per family, each 2-D and 3-D where that makes sense. `catalogue` lists them all."""
