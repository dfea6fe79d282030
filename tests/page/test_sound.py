"""The sound of an annotated video is that of its input: the same packets at the same times."""

import numpy as np
import pytest

from deepfidelity_jax.detector.predict import Examination, Prediction
from deepfidelity_jax.page.annotate import annotate

av = pytest.importorskip("av")
RATE = 16_000


def write_video(path, pictures, sound, late=0.0):
    """A second of grey with a tone, in these codecs; the tone begins `late` seconds later."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(pictures, 10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(sound, RATE, layout="mono", bit_rate=48_000) if sound else None
        for _ in range(10):
            grey = np.full((48, 64, 3), 120, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video.encode())
        if audio is None:
            return path
        tone = np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, round(late * RATE)
        resampler = av.AudioResampler(audio.format, audio.layout, RATE, audio.frame_size)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(audio.encode(part))
        container.mux(audio.encode())
    return path


def heard(path):
    """Bytes of each packet of sound, and the time of each from the first frame on."""
    with av.open(str(path)) as container:
        (audio,), (video,) = container.streams.audio, container.streams.video
        start = float((video.start_time or 0) * video.time_base)
        packets = [packet for packet in container.demux(audio) if packet.pts is not None]
        times = [float(packet.pts * packet.time_base) - start for packet in packets]
        return [bytes(packet) for packet in packets], times


def annotated(path, output):
    nobody = Examination(Prediction(str(path), "no face", threshold=0.5, frames=10), [])
    return annotate(path, nobody, output, lambda step, share: None)


@pytest.mark.parametrize(
    ("name", "codec", "late"),
    [("clip.mp4", "aac", 0.0), ("clip.mp4", "aac", 0.3), ("clip.mkv", "flac", 0.0)],
)
def test_it_is_copied_packet_by_packet_in_time(tmp_path, name, codec, late):
    clip = write_video(tmp_path / name, "mpeg4", codec, late)
    assert annotated(clip, tmp_path / "a.mp4") == ""
    (before, times), (after, copied) = heard(clip), heard(tmp_path / "a.mp4")
    assert len(before) > 10
    assert after == before
    np.testing.assert_allclose(copied, times, atol=1e-3)
    assert max(times) - min(times) > 0.8


def test_what_an_mp4_cannot_hold_is_named_and_silence_is_not(tmp_path):
    strange = write_video(tmp_path / "clip.wmv", "wmv2", "wmav2")
    assert annotated(strange, tmp_path / "a.mp4") == "mp4 files cannot hold its sound (wmav2)"
    silent = write_video(tmp_path / "silent.mp4", "mpeg4", None)
    assert annotated(silent, tmp_path / "b.mp4") == ""
    for name in "ab":
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert not container.streams.audio
            assert container.streams.video[0].frames == 10


def test_sound_that_goes_back_in_time_ends_there(tmp_path):
    clip = write_video(tmp_path / "clip.mkv", "mpeg4", "aac")
    packets, _ = heard(clip)
    held = bytearray(clip.read_bytes())
    # In Matroska a block's time is two bytes, before its flags.
    block = held.index(packets[8])
    held[block - 3 : block - 1] = (0).to_bytes(2)
    clip.write_bytes(held)
    assert annotated(clip, tmp_path / "a.mp4") == "its sound is damaged and ends early"
    assert heard(tmp_path / "a.mp4")[0] == packets[:8]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 10
