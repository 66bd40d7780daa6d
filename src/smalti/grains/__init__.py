"""What sounds: the source's frames, finding them, shifting them, adding them up."""
