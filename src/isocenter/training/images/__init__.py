"""Learning from images: fingerprint -> plan -> run."""
