"""What flows from stage to stage: frozen values with their refusals always on."""
