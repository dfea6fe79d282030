"""Photographs and videos, read safely.

formats     file types, by the first bytes
containers  what a video file says about its tracks and its end
media       the files in a folder, and whether each is an image or a video
pictures    photographs to pixels, and the one JPEG encoder
videos      the frames of a video
h264        H.264 encoding by x264
"""
