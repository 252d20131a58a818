"""A trained network made smaller and faster: whole numbers of 8 bits, fewer channels, a smaller pupil."""
