"""Rendered faces: the built-in dataset that needs no download."""
