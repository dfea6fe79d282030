"""Celeb-DF v2."""
