"""How good a picture of a face is."""
