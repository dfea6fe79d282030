"""iResNet: the architecture by its numbers, and the same outputs as the network it is read from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.quality.iresnet import DEPTHS, INPUTS, IResNet, from_torch, to_torch

SMALL = (1, 1, 1, 1)


def random_variables(depths, seed=0):
    """Variables that keep the signal's size, BatchNorm's statistics far from 0 and 1."""
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    shapes = jax.eval_shape(IResNet(depths).init, jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    ranges = {"scale": (0.5, 1.0), "var": (0.5, 2.0), "mean": (-0.5, 0.5), "bias": (-0.5, 0.5)}

    def draw(path, leaf):
        if path[-1].key == "kernel":
            values = rng.standard_normal(leaf.shape, np.float32)
            return values * np.float32(np.prod(leaf.shape[:-1]) ** -0.5)
        return rng.uniform(*ranges.get(path[-1].key, (0.0, 0.5)), leaf.shape).astype(np.float32)

    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


def random_images(count, seed=1):
    images = np.random.default_rng(seed).uniform(-1, 1, (count, 112, 112, 3))
    return jnp.asarray(images, jnp.float32)


@pytest.fixture(scope="module")
def variables50():
    return random_variables(DEPTHS["iResNet-50"])


def count_by_hand(depths):
    """Trained numbers, added up from the architecture's description."""
    convolution, batch_norm = (lambda i, o, k: i * o * k * k), (lambda c: 2 * c)
    total = convolution(3, 64, 3) + batch_norm(64) + 64
    before = 64
    for depth, width in zip(depths, (64, 128, 256, 512), strict=True):
        for block in range(depth):
            total += batch_norm(before) + convolution(before, width, 3)
            total += batch_norm(width) + width
            total += convolution(width, width, 3) + batch_norm(width)
            if block == 0:
                total += convolution(before, width, 1) + batch_norm(width)
            before = width
    return total + batch_norm(512) + 512 * 7 * 7 * 512 + 512 + batch_norm(512)


@pytest.mark.parametrize(
    ("variant", "count"), [("iResNet-50", 43_590_848), ("iResNet-100", 65_156_160)]
)
def test_parameters_are_those_of_the_architecture(variant, count):
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    shapes = jax.eval_shape(IResNet(DEPTHS[variant]).init, jax.random.key(0), images)
    found = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    assert found == count_by_hand(DEPTHS[variant]) == count


@pytest.mark.slow
def test_every_tensor_counts():
    """Nothing is read and left unused: a change of any tensor changes the embedding."""
    variables, images = random_variables(SMALL), random_images(1)

    def output(variables):
        return IResNet(SMALL).apply(variables, images).sum()

    gradients = jax.jit(jax.grad(output))(variables)
    for path, gradient in flatten_dict(gradients).items():
        assert np.abs(gradient).max() > 0, path


def test_the_embedding_is_that_of_the_description():
    """Every 64th number, as a second implementation in NumPy and float64 gave it."""
    expected = [1.357010, -0.728755, 0.389372, 1.068872, 0.090444, 0.665604, 0.062291, -0.215060]
    (found,) = jax.jit(IResNet(SMALL).apply)(random_variables(SMALL), random_images(1))
    np.testing.assert_allclose(found[::64], expected, atol=1e-4)


def test_factors_multiply_the_last_layers_inputs():
    """Rows of ones change nothing; a row of zeros leaves the bias; rows do not mix."""
    variables, images = random_variables(SMALL), random_images(3)
    apply = jax.jit(IResNet(SMALL).apply)
    plain = apply(variables, images)
    factors = np.ones((4, INPUTS), np.float32)
    factors[1], factors[2] = 0, 2 * (np.arange(INPUTS) % 2)
    factors = jnp.asarray(factors)
    found = apply(variables, images, factors)
    assert found.shape == (3, 4, 512)
    np.testing.assert_allclose(found[:, 0], plain, atol=1e-5)
    np.testing.assert_allclose(found[:, 3], plain, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], np.broadcast_to(found[0, 1], (3, 512)), atol=1e-6)
    assert np.abs(found[:, 2] - plain).max() > 0.1
    fc = variables["params"]["fc"]
    masked = fc | {"kernel": fc["kernel"] * factors[2][:, None]}
    halved = variables | {"params": variables["params"] | {"fc": masked}}
    np.testing.assert_allclose(found[:, 2], apply(halved, images), atol=1e-5)


def test_there_and_back_is_exact(variables50):
    state = to_torch(variables50)
    assert state["conv1.weight"].shape == (64, 3, 3, 3)
    assert state["layer1.0.downsample.0.weight"].shape == (64, 64, 1, 1)
    assert state["layer3.13.conv2.weight"].shape == (256, 256, 3, 3)
    assert state["layer4.0.prelu.weight"].shape == (512,)
    assert state["fc.weight"].shape == (512, 25088)
    assert state["features.running_var"].shape == (512,)
    counters = {"bn1.num_batches_tracked": np.array(3), "features.num_batches_tracked": np.array(3)}
    depths, variables = from_torch(state | counters)
    assert depths == DEPTHS["iResNet-50"]
    expected = flatten_dict(variables50)
    found = flatten_dict(variables)
    assert found.keys() == expected.keys()
    for path, value in found.items():
        np.testing.assert_array_equal(value, expected[path], err_msg=str(path))


def test_the_last_layer_reads_channels_first(variables50):
    """PyTorch flattens the map channel by channel, we row by row."""
    weight = to_torch(variables50)["fc.weight"].reshape(512, 512, 7, 7)
    kernel = variables50["params"]["fc"]["kernel"].reshape(7, 7, 512, 512)
    assert weight[11, 22, 3, 4] == kernel[3, 4, 22, 11]


@pytest.mark.slow
def test_the_variant_is_that_of_the_tensors():
    """Tensors without memory of their own, for the names and shapes alone."""
    for variant, depths in DEPTHS.items():
        images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
        shapes = jax.eval_shape(IResNet(depths).init, jax.random.key(0), images)
        state = to_torch(
            jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
        )
        del state["bn2.bias"]
        with pytest.raises(InputError, match=f"not the {variant} .*: bn2.bias is missing$"):
            from_torch(state)


@pytest.mark.slow
def test_all_that_is_wrong_is_told_at_once(variables50):
    state = to_torch(variables50)
    del state["layer2.1.bn3.bias"], state["fc.bias"]
    state["classifier.weight"] = np.zeros((10, 512), np.float32)
    state["prelu.weight"] = np.zeros(1, np.float32)
    with pytest.raises(InputError) as told:
        from_torch(state)
    text = str(told.value)
    for part in (
        "not the iResNet-50",
        "layer2.1.bn3.bias is missing",
        "fc.bias is missing",
        "classifier.weight is unexpected",
        "prelu.weight has shape [1] where [64] is expected",
    ):
        assert part in text
    assert text.count(";") == 3
    with pytest.raises(InputError, match="none of its 1 tensors"):
        from_torch({"head.weight": np.zeros(3)})


def build_in_pytorch(torch, depths):
    """The same network in PyTorch, by its description."""
    nn = torch.nn

    def norm(width):
        return nn.BatchNorm2d(width, eps=1e-5)

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.bn1 = norm(before)
            self.conv1 = nn.Conv2d(before, width, 3, 1, 1, bias=False)
            self.bn2 = norm(width)
            self.prelu = nn.PReLU(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.bn3 = norm(width)
            self.downsample = None
            if stride != 1:
                projection = nn.Conv2d(before, width, 1, stride, bias=False)
                self.downsample = nn.Sequential(projection, norm(width))

        def forward(self, x):
            y = self.conv1(self.bn1(x))
            y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
            return y + (x if self.downsample is None else self.downsample(x))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.bn1, self.prelu = norm(64), nn.PReLU(64)
            before = 64
            for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True)):
                blocks = [Block(before if i == 0 else width, width, 1 if i else 2)
                          for i in range(depth)]  # fmt: skip
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
                before = width
            self.bn2 = norm(512)
            self.fc = nn.Linear(512 * 7 * 7, 512)
            self.features = nn.BatchNorm1d(512, eps=1e-5)

        def last_map(self, x):
            x = self.prelu(self.bn1(self.conv1(x)))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return torch.flatten(self.bn2(x), 1)

        def forward(self, x):
            return self.features(self.fc(self.last_map(x)))

    return Network().eval()


@pytest.mark.slow
def test_the_same_embeddings_as_pytorch(variables50):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    network = build_in_pytorch(torch, DEPTHS["iResNet-50"])
    theirs = to_torch(variables50)
    own = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert own == theirs.keys()
    state = {name: torch.from_numpy(np.array(x)) for name, x in theirs.items()}
    network.load_state_dict(state, strict=False)
    depths, variables = from_torch({name: x.numpy() for name, x in network.state_dict().items()})
    images = random_images(2)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.array(images.transpose(0, 3, 1, 2)))).numpy()
    found = np.asarray(jax.jit(IResNet(depths).apply)(variables, images))
    assert np.abs(expected).max() > 0.5
    assert expected.std(axis=0).max() > 0.01, "the two faces differ"
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_pytorchs_names_of_the_larger_one():
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        network = build_in_pytorch(torch, DEPTHS["iResNet-100"])
    one = np.float32(1)
    state = {name: np.broadcast_to(one, x.shape) for name, x in network.state_dict().items()}
    depths, _ = from_torch(state)
    assert depths == DEPTHS["iResNet-100"]
