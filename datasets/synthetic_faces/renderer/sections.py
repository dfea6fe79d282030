"""Solids as stacks of elliptical cross-sections, and the rays that meet them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from .camera import Shot
from .canvas import Plane, step


def closing(v, end, power, root):
    """1 at v = 0, closing to 0 at `end`."""
    return np.clip(1 - np.clip(v / end, 0, 1) ** power, 0, 1) ** root


class Sections(NamedTuple):
    """Half width, half depth and middle depth by v, and their slopes; evenly spaced from `top`."""

    top: float
    per_unit: float
    shape: Float32[np.ndarray, "3 n"]
    slope: Float32[np.ndarray, "3 n"]

    @classmethod
    def of(cls, v, width, depth, middle) -> "Sections":
        """From half width, half depth and middle depth at evenly spaced v; each may be constant."""
        width, depth = np.maximum(width, 1e-3), np.maximum(depth, 1e-3)
        shape = np.stack(np.broadcast_arrays(width, depth, middle))
        slope = np.clip(np.gradient(shape, v, axis=1), -6, 6)
        per_unit = float((len(v) - 1) / (v[-1] - v[0]))
        return cls(float(v[0]), per_unit, shape.astype(np.float32), slope.astype(np.float32))

    def at(self, v, slopes: bool = False):
        """Half width, half depth and middle depth at each v; or their slopes."""
        row = ((v - self.top) * self.per_unit).astype(np.intp)
        return (self.slope if slopes else self.shape).take(row, axis=1, mode="clip")

    def front(self, u, v):
        """z of the surface that faces the camera."""
        a, b, middle = self.at(v)
        return middle + b * np.sqrt(np.clip(1 - (u / a) ** 2, 0, 1))


class Surface(NamedTuple):
    """What each pixel sees of a stack of sections."""

    u: Plane
    v: Plane
    arc: Plane  # length around the section, from the nose
    psi: Plane
    normal: Float32[np.ndarray, "3 h w"]  # in the head's frame
    inside: Plane  # horizontal distance to the silhouette in fine pixels, negative outside

    def crop(self, box: tuple[slice, slice]) -> "Surface":
        """The pixels of a box."""
        return Surface(*(plane[..., *box] for plane in self))


def trace(
    sections, shot: Shot, share=1.0, rise=lambda u, v: 0.0, rest=lambda v: v, rounds=2
) -> Surface:
    """Pixels -> the solid. Sections are solved exactly, pitch and relief in fixed-point rounds.

    `share` of the head's turn that the solid follows; `rise` gives the relief's height at (u, v);
    `rest` undoes the jaw.
    """
    x, (s, c, up_s, up_c) = shot.x, shot.rotation(share)
    depth, height = np.full_like(x, 0.9), 0.0
    for _ in range(rounds):
        v = (shot.y + depth * up_s) * (1 / up_c)
        calm = rest(v)
        a, b, middle = sections.at(calm)
        ac, bs = a * c, b * s
        reach = np.sqrt(ac * ac + bs * bs)
        t = np.clip((x - middle * s - height * s) / reach, -0.999, 0.999)
        far = np.sqrt(1 - t * t)
        ac /= reach
        bs /= reach
        sin, cos = ac * t - bs * far, bs * t + ac * far
        u = a * sin
        height = rise(u, calm)
        depth = (middle + b * cos + height) * c - u * s
    # At the sides depth changes too fast for the rounds above, but there it is known exactly;
    # not so under the chin, where the silhouette is not a side.
    rim = middle * c + np.sign(t) * (b * bs * c - a * ac * s)
    edge_a, edge_b, edge_middle = sections.at(calm + (rim - depth) * up_s * step(1.25, 0.95, calm))
    reach = np.sqrt((edge_a * c) ** 2 + (edge_b * s) ** 2)
    # Nothing beyond crown and chin, not even a line.
    inside = reach - np.abs(x - edge_middle * s) - (a < 0.01)
    da, db, dm = sections.at(calm, slopes=True)
    flat = a / b
    normal = np.stack([sin, -(sin * sin * da + (cos * db + dm) * cos * flat), cos * flat])
    psi = np.arctan2(sin, cos)
    return Surface(u, v, a * psi, psi, normal, inside * shot.fine_unit)
