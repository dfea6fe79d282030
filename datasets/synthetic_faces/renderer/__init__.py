"""Draws parametric human faces, deterministically, with NumPy and OpenCV.

A head is a stack of elliptical cross-sections (an exact silhouette for any yaw) that carries a
relief (nose, sockets, lips, chin), a skin texture in arc-length coordinates, and a second, larger
stack of sections for the hair. Light is computed in linear space at the output size; texture, eyes,
mouth and edges are drawn at twice that size and averaged down.

Units: 1 = half the width of the face. Head coordinates: u to the image right, v down, z towards the
camera, origin between the eyes. psi is the angle around the vertical axis, 0 at the nose.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from .body import draw_clothes, draw_ears, draw_neck
from .camera import Shot, develop
from .canvas import cover
from .face import draw_face
from .hair import draw_hair, draw_hair_behind, hair_field, trace_hair
from .head import landmarks, trace_head
from .person import Identity, Pose, sample_identity, sample_poses
from .scene import Scene, background, sample_scene

__all__ = ["Identity", "Pose", "Scene", "render", "sample_identity", "sample_poses", "sample_scene"]


def render(
    identity: Identity, scene: Scene, pose: Pose, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float32[np.ndarray, "5 2"]]:
    """One frame, RGB, framed as an aligned face crop, and its five landmarks.

    Landmarks are x, y in pixels (0 is the centre of the first pixel): eye at image left, eye at
    image right, nose tip, mouth corner at image left, mouth corner at image right. Equal arguments
    give equal bytes.
    """
    shot = Shot(identity, scene, pose, size)
    head, hair = trace_head(shot), trace_hair(shot)
    mane = hair_field(identity, hair, head)
    fringe = shot.light.cast(cover(mane * 6), reach=0.03, down=0.012, blur=0.02)
    chin = shot.light.cast(cover(head.inside), reach=0.05, down=0.1, blur=0.03)

    picture = background(scene, 2 * size).copy()
    draw_hair_behind(picture, shot, hair, head, mane)
    draw_neck(picture, shot, chin)
    draw_clothes(picture, shot, chin)
    draw_ears(picture, shot)
    draw_face(picture, shot, head, fringe)
    draw_hair(picture, shot, hair, mane)
    return develop(picture, scene), landmarks(shot)
