"""Token mixing: whole tokens change places, and come back."""

import jax
import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.network.ssaaformer import PatchEmbed
from deepfidelity_jax.training.token_mixing import draw_box, exchange

SIDE = 7


def draw(count):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.vmap(lambda key: draw_box(key, SIDE))(keys))


def test_a_box_is_one_rectangle_anywhere_of_any_size():
    boxes = draw(2000)
    for box in boxes[:50]:
        rows, columns = box.any(axis=1), box.any(axis=0)
        np.testing.assert_array_equal(box, rows[:, None] & columns)
        for inside in (rows, columns):
            assert np.abs(np.diff(np.pad(inside.astype(int), 1))).sum() in (0, 2)
    assert boxes.any(axis=0).all()
    shares = boxes.mean(axis=(1, 2))
    assert shares.min() == 0
    assert boxes.sum(axis=(1, 2)).max() == 6 * 6
    # A quarter of the area on average: the drawn half, less what lies outside and the rounding.
    assert 0.2 < shares.mean() < 0.3


def test_inside_the_box_is_the_other_image_and_outside_the_own():
    x = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 14, 14, 2))
    box = np.zeros((7, 7), bool)
    box[1:3, 4:7] = True
    found = exchange(x, jnp.asarray(box))
    inside = np.kron(box, np.ones((2, 2), bool))
    for i in range(4):
        assert (found[i][inside] == 3 - i).all()
        assert (found[i][~inside] == i).all()


def test_twice_is_never():
    x = jax.random.normal(jax.random.key(1), (6, 14, 14, 3))
    for box in jnp.asarray(draw(5)):
        np.testing.assert_array_equal(exchange(exchange(x, box), box), x)


def test_exchanging_pixels_is_exchanging_the_patches_of_stage_1():
    embed = PatchEmbed(8, 4, "float32")
    x = jax.random.normal(jax.random.key(2), (4, 32 * 3, 32 * 3, 3))
    variables = embed.init(jax.random.key(3), x)
    box = jnp.asarray([[True, True, False], [True, True, False], [False, False, False]])
    of_pixels = embed.apply(variables, exchange(x, box))
    of_patches = exchange(embed.apply(variables, x), box)
    np.testing.assert_allclose(of_pixels, of_patches, atol=1e-6)
    assert not np.allclose(of_pixels, embed.apply(variables, x))
