"""Photographs and videos, read safely.

formats    what a file is, by its first bytes
media      what lies in a folder, and whether it is an image or a video
pictures   photographs to pixels, and the one JPEG encoder
videos     the frames of a video
"""
