"""What a network looked at: maps, and how good they are."""
