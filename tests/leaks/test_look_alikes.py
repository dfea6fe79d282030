"""Near-duplicates are found whatever their coding; strangers are not."""

import cv2
import numpy as np

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.leaks import look_alikes


def looks(images, videos):
    return look_alikes.look(np.stack([look_alikes.shrink(image) for image in images]), videos)


def render(seed, size=96):
    rng = np.random.default_rng(seed)
    person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
    return renderer.render(person, scene, renderer.sample_poses(rng, 1)[0], size)[0]


def jpeg(image, quality):
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def test_near_duplicates_are_found_and_strangers_are_not():
    people = [render(seed) for seed in range(10)]
    train = looks([encode_image(image) for image in people], [f"train/{n}" for n in range(10)])
    strangers = [encode_image(render(seed)) for seed in range(100, 110)]
    small = cv2.resize(people[3], (64, 64), interpolation=cv2.INTER_AREA)
    bright = np.clip(people[7].astype(int) * 1.1 + 8, 0, 255).astype(np.uint8)
    copies = [jpeg(people[1], 30), encode_image(small), encode_image(bright)]
    copies.append(jpeg(people[5][:, ::-1], 60))
    flat = [encode_image(np.full((96, 96, 3), grey, np.uint8)) for grey in (0, 128, 255)]
    names = [
        *(f"test/{n}" for n in range(10)),
        "jpeg",
        "small",
        "bright",
        "mirrored",
        *(["flat"] * 3),
    ]
    test = looks([*strangers, *copies, *flat], names)
    found = look_alikes.find_alike({"train": train, "test": test})
    assert {(one.videos, one.frames) for one in found} == {
        (("train/1", "jpeg"), 1), (("train/3", "small"), 1), (("train/7", "bright"), 1),
        (("train/5", "mirrored"), 1),
    }  # fmt: skip
    # Within one split there is nothing to find; flat pictures say nothing.
    assert not look_alikes.find_alike({"test": test, "train": looks(flat, ["black"] * 3)})


def test_many_frames_count_as_their_videos():
    image = encode_image(render(0))
    one, other = looks([image] * 3, ["a", "a", "b"]), looks([image] * 4, ["c", "c", "c", "d"])
    found = look_alikes.find_alike({"train": one, "test": other})
    assert [(*pair.videos, pair.frames) for pair in found] == [
        ("a", "c", 3), ("b", "c", 3), ("a", "d", 1), ("b", "d", 1),
    ], "most frames first, then by name"  # fmt: skip


def test_hashes_differ_in_the_bits_that_differ():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (50, 32, 32), dtype=np.uint8)
    hashes = look_alikes.hash_pictures(pictures)
    # Half of 63 bits are above the median; strangers differ in about half of them.
    assert {int(count) for count in np.bitwise_count(hashes)} <= {31, 32}
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])[np.triu_indices(50, 1)]
    assert 28 < apart.mean() < 36
    darker = (pictures // 2 + 10).astype(np.uint8)
    assert np.bitwise_count(hashes ^ look_alikes.hash_pictures(darker)).max() <= 4


def test_alike_are_at_most_eight_bits_and_clearly_not_nine():
    picture = np.tile(np.arange(16, dtype=np.uint8) * 8, (1, 16, 1))
    far = np.uint64(2**63 - 1)
    known = look_alikes.Looks(np.array([0], np.uint64), np.array([far]), picture, ["known"])
    hashes, others = np.array([0xFF, 0x1FF], np.uint64), np.array([far, far])
    two = np.repeat(picture, 2, axis=0)
    tried = look_alikes.Looks(hashes, others, two, ["8 bits", "9 bits"])
    (found,) = look_alikes.find_alike({"train": known, "test": tried})
    assert found.videos == ("known", "8 bits")


def test_a_contrast_of_one_level_tells_nothing():
    squares = np.indices((16, 16)).sum(axis=0) % 2
    for step, expected in ((0, 0), (1, 0), (2, 1)):
        picture = (128 + step * (2 * squares - 1)).astype(np.uint8)
        np.testing.assert_allclose(look_alikes.correlate(picture[None], picture), expected)
