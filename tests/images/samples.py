"""Pictures and videos whose content tests know."""

import struct
import zlib

import cv2
import numpy as np


def gradient(height=40, width=64):
    """Red rises to the right, green downwards."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 60
    return image


def png(width, height, depth, colour, rows=b""):
    """A PNG made by hand, for what Pillow does not write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def counted_video(path, frames=90, size=(160, 128), codec="mp4v", rate=30):
    """A video whose frames tell their number: ten blocks, black or white, spell it in binary."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
    assert writer.isOpened()
    for number in range(frames):
        image = np.full((size[1], size[0], 3), 128, np.uint8)
        for bit in range(10):
            image[:, bit * 16 : bit * 16 + 16] = 235 if number >> bit & 1 else 20
        writer.write(image)
    writer.release()
    return path


def told(image):
    return sum(int(image[:, bit * 16 + 4 : bit * 16 + 12].mean() > 128) << bit for bit in range(10))
