"""Faces found, followed and cut out of photographs and videos.

detection  FaceSettings, Face, and the finders: OpenCV's cascades, YuNet, or none
tracking   the people in a photograph or video: `extract` is where all callers begin
cropping   one face to a level, centred crop
geometry   landmarks, the fit of a similarity, patches
"""
