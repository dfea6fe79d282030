"""Faces found, tracked and cropped from photographs and videos.

detection  FaceSettings, Face, and the detectors: MTCNN, YuNet, OpenCV's cascades, or none
mtcnn      the three networks of MTCNN
tracking   the people in a photograph or video; `extract` is the entry point for all callers
cropping   a face as a level, centred crop
geometry   landmarks, the fit of a similarity transform, patches
"""
