"""Pictures and videos whose content tests know."""

import struct
import zlib
from fractions import Fraction

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
        writer.write(numbered(number, size))
    writer.release()
    return path


def timed_video(path, times, shape=1, turned=False, streams=1, transfer=None, **options):
    """A video as `counted_video` writes, of frames at these seconds. It takes PyAV.

    shape: width of a pixel over its height. turned: it says it is to be shown a quarter clockwise.
    streams: of those after the first, frames have numbers from 100, 200 ... on. transfer: the
    transfer function that it states. options: of the container.
    """
    import av

    with av.open(str(path), "w", options=options) as container:
        written = [container.add_stream("libx264", 30) for _ in range(streams)]
        for stream in written:
            stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
            stream.options = {"preset": "ultrafast", "crf": "20", "g": "50"}
            stream.codec_context.time_base = Fraction(1, 90_000)
            stream.codec_context.sample_aspect_ratio = Fraction(shape)
            if transfer is not None:
                stream.codec_context.color_trc = transfer
                stream.codec_context.color_primaries = stream.codec_context.colorspace = 9
        for number, time in enumerate(times):
            for place, stream in enumerate(written):
                image = numbered(number + 100 * place)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
                container.mux(stream.encode(frame))
        for stream in written:
            container.mux(stream.encode())
    if turned:
        held = bytearray(path.read_bytes())
        matrix = held.index(b"tkhd") + 44
        held[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -1 << 16, 0)
        path.write_bytes(held)
    return path


def sound_file(path, codec, container):
    """Half a second of silence. It takes PyAV."""
    import av

    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=48_000)
        resampler = av.AudioResampler(stream.format, stream.layout, stream.rate)
        for number in range(25):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 48_000, 960 * number
            for part in resampler.resample(frame):
                file.mux(stream.encode(part))
        file.mux(stream.encode())
    return path


def trimmed_video(path, source, start):
    """A copy of an MP4 without its first frames: packets that are needed stay, hidden."""
    import av

    with av.open(str(source)) as held, av.open(str(path), "w") as container:
        (video,) = held.streams.video
        stream = container.add_stream_from_template(video)
        shift = round(start / 30 / video.time_base)
        for packet in held.demux(video):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    stream,
                )
                container.mux(packet)
    return path


def numbered(number, size=(160, 128)):
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    for bit in range(10):
        image[:, bit * 16 : bit * 16 + 16] = 235 if number >> bit & 1 else 20
    return image


def told(image):
    return sum(int(image[:, bit * 16 + 4 : bit * 16 + 12].mean() > 128) << bit for bit in range(10))
