"""What PyTorch computes with a very small SSAAFormer, for `test_golden.py`, which runs without it.

python tests/network/make_golden.py

writes golden/ssaaformer.npz: settings, weights, a batch, the outputs in evaluation, and the loss,
gradients, running statistics and parameters of a training step, with three updates by AdamW.
Tensors have their official names.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import torch_baseline

GOLDEN = Path(__file__).parent / "golden" / "ssaaformer.npz"
# Every kind of block: symmetric and plain, local and global.
NETWORK = {
    "depths": (3, 1, 2, 1),
    "widths": (16, 24, 32, 48),
    "head_dim": 16,
    "layer_scale": 0.5,
    "symmetric": (2, 0, 1, 0),
}
LABEL_SMOOTHING, TOKEN_WEIGHT = 0.1, 0.5
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05
# Updates by these multiples of one gradient: the first alone would show only its sign.
MULTIPLES = (1.0, 0.3, 2.0)


def randomise(model, seed=0):
    """Statistics far from 0 and 1, layer scale far from 1e-6, mirror weights unequal."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for name, x in model.state_dict().items():
            kind = name.rsplit(".", 1)[-1]
            if kind == "num_batches_tracked":
                x.fill_(7)
            elif kind == "running_var":
                x.copy_(10 ** uniform(x, -3, 1))
            elif kind == "running_mean":
                x.copy_(uniform(x, -2, 2))
            elif kind == "w":
                x.copy_(torch.tensor([0.8, -0.5]) + uniform(x, -0.2, 0.2))
            elif kind.startswith("gamma"):
                x.copy_(uniform(x, 0.2, 0.6))
            elif "norm" in name:
                x.copy_(uniform(x, 0.5, 1.5) if kind == "weight" else uniform(x, -0.5, 0.5))
            elif kind == "bias":
                x.copy_(uniform(x, -0.3, 0.3))
            elif x.ndim == 2:
                x.mul_(2)
    return model


def as_torch(images):
    """Images [n, h, w, 3] as [n, 3, h, w]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def draw_batch():
    """Eight images of 64 pixels with random labels and forged shares."""
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (8, 64, 64, 3), np.uint8),
        "label": rng.integers(0, 2, 8).astype(np.int32),
        "forged": rng.random((8, 4)).astype(np.float32),
        "fidelity": np.zeros(8, np.float32),
    }


def is_kernel(name, parameter):
    """Whether weight decay applies: to matrices and convolutions, not to vectors."""
    return parameter.ndim > 1 and "gamma" not in name


def compute():
    """The golden arrays: dicts of arrays by official name, and the loss."""
    torch.manual_seed(0)
    model = randomise(torch_baseline.SSAAFormer(**NETWORK))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    batch = draw_batch()
    images = as_torch(batch["image"].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        outputs = model.eval()(images)
    found = {name: getattr(outputs, name) for name in (*outputs._fields, "logits")}

    outputs = model.train()(images)
    label, forged = torch.tensor(batch["label"]).long(), torch.tensor(batch["forged"])
    targets = torch.stack([forged, 1 - forged], dim=-1).flatten(0, 1)
    entropy = torch.nn.functional.cross_entropy
    of_class = entropy(outputs.class_logits, label, label_smoothing=LABEL_SMOOTHING)
    loss = of_class + TOKEN_WEIGHT * entropy(outputs.token_logits.flatten(0, 1), targets)
    loss.backward()
    named = dict(model.named_parameters())
    gradients = {name: p.grad.clone() for name, p in named.items()}
    kernels = [p for name, p in named.items() if is_kernel(name, p)]
    others = [p for name, p in named.items() if not is_kernel(name, p)]
    groups = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for multiple in MULTIPLES:
        for name, parameter in named.items():
            parameter.grad = multiple * gradients[name]
        adamw.step()
    after = model.state_dict()
    groups = {"before": before, "outputs": found, "gradients": gradients, "after": after}
    for group, tensors in groups.items():
        groups[group] = {name: x.detach().numpy() for name, x in tensors.items()}
    return groups | {"batch": batch, "loss": loss.item()}


def settings():
    """What `test_golden.py` must know of the step, as JSON."""
    train = {
        "label_smoothing": LABEL_SMOOTHING,
        "token_weight": TOKEN_WEIGHT,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
    }
    return json.dumps({"network": NETWORK, "train": train, "multiples": MULTIPLES})


def main():
    """Write the golden file."""
    found = compute()
    arrays = {"loss": np.float32(found.pop("loss")), "settings": settings()}
    arrays["torch"] = torch.__version__
    for group, tensors in found.items():
        arrays |= {f"{group}/{name}": tensor for name, tensor in tensors.items()}
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {len(arrays)} arrays, {GOLDEN.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
