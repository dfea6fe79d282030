"""Rendered faces: the embedded dataset that needs no download."""
