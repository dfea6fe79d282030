"""Faces found, followed and cut out of photographs and videos.

detection  FaceSettings, Face, and the finders: MTCNN, YuNet, OpenCV's cascades, or none
mtcnn      the three networks of MTCNN, one after the other
tracking   the people in a photograph or video: `extract` is where all callers begin
cropping   one face to a level, centred crop
geometry   landmarks, the fit of a similarity, patches
"""
