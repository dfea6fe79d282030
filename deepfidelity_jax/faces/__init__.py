"""Faces: found, followed through a video, cut out."""
