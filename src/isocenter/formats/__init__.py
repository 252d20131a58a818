"""One codec per file type, reading and writing, and the proof that what was written says what was meant."""
