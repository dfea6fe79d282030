"""Speed and correctness of the network on a GPU or TPU that is available only for minutes.

python benchmarks/accelerator.py [--seconds=480] [--parts=training,forward] [--small]

One prepared run, the most important figures first, each printed as soon as it is known: our
training step and forward pass (SSAAFormer-L at 224, bfloat16, batches of 64 and 128), PyTorch's
(channels-last, eager and compiled), every operator's forms, the network with each of our kernels
(those that make it faster belong in `choice.IN_USE`), whether the results match float32 on the CPU,
and 200 steps of the demo's network, whose loss must fall. PyTorch's compiled training comes last.
When time is up, the running part is stopped.

It needs jax, flax, optax and numpy, and PyTorch for the comparison; the package itself need not be
installed. Parts run one after the other, ours and PyTorch's never in one process, so that only the
running part holds device memory. A part that fails prints one line, and the next one starts.
`--small` is for testing the script itself, also on a CPU.
"""

import argparse
import contextlib
import functools
import importlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
# In this order; each is a function of this module.
PARTS = (
    "training", "forward", "torch_eager", "torch_compiled_forward", "operators", "all_kernels",
    "parity", "learning", "each_kernel", "torch_compiled_training",
)  # fmt: skip
BEGIN = "\x02"  # a child process prints it, and the name, before each part


def stand_in() -> None:
    """Make the tree importable without packages that only name shapes or hold options."""
    sys.path.insert(0, str(TREE))
    try:
        import jaxtyping  # noqa: F401
    except ImportError:
        module = types.ModuleType("jaxtyping")
        for name in ("Array", "Bool", "Float", "Int", "PRNGKeyArray", "Real", "UInt8"):
            namespace = {"__class_getitem__": classmethod(lambda cls, _: cls)}
            setattr(module, name, type(name, (), namespace))
        sys.modules["jaxtyping"] = module
    try:
        import ml_collections  # noqa: F401
    except ImportError:
        namespace = {"__getattr__": dict.__getitem__, "__setattr__": dict.__setitem__}
        module = types.ModuleType("ml_collections")
        module.ConfigDict = type("ConfigDict", (dict,), namespace)
        sys.modules["ml_collections"] = module
    sys.modules["deepfidelity_configs"] = importlib.import_module("configs")


def make_config(options, **changes):
    """The configuration of the network that is timed."""
    from deepfidelity_configs import default

    config = default.get_config()
    config.model.variant = "tiny" if options.small else "large"
    config.model.image_size = 32 if options.small else 224
    config.model.dtype = "float32" if options.small else "bfloat16"
    for name, value in changes.items():
        setattr(config.model, name, value)
    return config


def make_batch(config, count):
    """Half real and half fake faces: blobs; the fake ones contain a foreign piece."""
    import numpy as np

    rng, size = np.random.default_rng(0), config.model.image_size
    coarse = rng.uniform(40, 215, (count, size // 16, size // 16, 3))
    image = coarse.repeat(16, axis=1).repeat(16, axis=2) + rng.normal(0, 8, (count, size, size, 3))
    label, forged = np.arange(count) % 2, np.zeros((count, size // 32, size // 32), np.float32)
    piece = slice(size // 4, size // 2)
    image[label == 0, piece, piece] = rng.normal(128, 40, (size // 4, size // 4, 3))
    forged[label == 0, size // 64 : size // 32, size // 64 : size // 32] = 0.5
    return {
        "image": image.clip(0, 255).astype(np.uint8),
        "label": label.astype(np.int32),
        "fidelity": np.where(label == 1, 0.8, 0.2).astype(np.float32),
        "forged": forged.reshape(count, -1),
    }


def time_calls(call, wait):
    """Seconds per call, the best of three turns: of calls in a row, and waiting for each.

    `call()` starts the work and returns what `wait` waits for.
    """

    def turn(count, each):
        begin = time.perf_counter()
        for left in reversed(range(count)):
            result = call()
            if each or not left:
                wait(result)
        return (time.perf_counter() - begin) / count

    turn(1, each=True)
    count = max(1, min(10, int(0.5 / turn(1, each=True))))
    in_a_row, waiting = (min(turn(count, each) for _ in range(3)) for each in (False, True))
    return in_a_row, waiting


def describe_speed(count, seconds):
    """The figures of `time_calls` in words, of calls with so many images."""
    in_a_row, waiting = seconds
    return (
        f"{count / in_a_row:.5g} images/s, {in_a_row * 1e3:.4g} ms for {count} with calls in a row,"
        f" {waiting * 1e3:.4g} ms waiting for each"
    )


@functools.cache
def find_rate(side):
    """Operations per second of a product of two square matrices in bfloat16."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((side, side), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    rate = 2 * side**3 / time_calls(lambda: product(a, a), jax.block_until_ready)[0]
    say(f"matrix product of side {side}, bfloat16: {rate / 1e12:.4g} TFLOP/s")
    return rate


def report(what, options, config, count, seconds, compiled, compiling, passes):
    """Print one of our figures; `passes` is the work as a number of forward passes.

    `seconds` is what `time_calls` returns.
    """
    from deepfidelity_jax.network.build import build_model
    from deepfidelity_jax.network.size import count_multiply_adds

    network, size = build_model(config).config, config.model.image_size
    needed = 2 * passes * count * count_multiply_adds(network, size)["total"]
    share = needed / seconds[0] / find_rate(512 if options.small else 8192)
    memory = compiled.memory_analysis()
    temporary = f", {memory.temp_size_in_bytes / 2**30:.2f} GiB temporary" if memory else ""
    say(
        f"{what}: {describe_speed(count, seconds)},"
        f" {share:.1%} of the matrix-product rate, compiled in {compiling:.1f} s{temporary}"
    )


def time_training(what, options):
    """Our training step as in training, with the kernels in use now."""
    import jax

    from deepfidelity_jax.network.build import build_model
    from deepfidelity_jax.training import step

    config, count = make_config(options), 4 if options.small else 64
    model = build_model(config)
    state = jax.jit(functools.partial(step.create_state, model, config))()
    batch = jax.device_put(make_batch(config, count))
    function = functools.partial(step.train_step, model=model, config=config)
    begin = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=0).lower(state, batch).compile()
    compiling = time.perf_counter() - begin

    def call():
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics

    seconds = time_calls(call, jax.block_until_ready)
    report(what, options, config, count, seconds, compiled, compiling, 3)


def time_forward(what, options):
    """Our forward pass as `Detector` has it, from bytes to features and logits."""
    import jax

    from deepfidelity_jax.network.build import build_model
    from deepfidelity_jax.network.fold import fold
    from deepfidelity_jax.network.ssaaformer import normalise
    from deepfidelity_jax.training import step

    config, count = make_config(options), 4 if options.small else 128
    model = build_model(config)
    state = jax.jit(functools.partial(step.create_state, model, config))()
    variables = jax.jit(functools.partial(fold, config=model.config))(state.ema)
    images = jax.device_put(make_batch(config, count)["image"])

    def forward(variables, images):
        outputs = model.clone(folded=True).apply(variables, normalise(images), train=False)
        return outputs.features, outputs.logits

    begin = time.perf_counter()
    compiled = jax.jit(forward).lower(variables, images).compile()
    compiling = time.perf_counter() - begin
    seconds = time_calls(lambda: compiled(variables, images), jax.block_until_ready)
    report(what, options, config, count, seconds, compiled, compiling, 1)


def training(options):
    """Our training step."""
    time_training("training step", options)


def forward(options):
    """Our forward pass."""
    time_forward("forward", options)


def all_kernels(options):
    """Training and forward pass, with all of our kernels in place of XLA's forms."""
    with_kernels(options, set(list_kernels()))


def each_kernel(options):
    """Training and forward pass, with one kernel after the other."""
    for name in list_kernels():
        with_kernels(options, {name})


def list_kernels():
    """The kernels, if they can run here."""
    from deepfidelity_jax.network.kernels import choice

    gpus = choice.find_capabilities()
    if len(gpus) != 1 or gpus[0] < (8, 0):
        raise NotImplementedError("kernels run on one NVIDIA GPU, of Ampere's generation or newer")
    return choice.KERNELS


def with_kernels(options, names):
    """Time the network with these kernels in use."""
    from deepfidelity_jax.network.kernels import choice

    here = choice.find_capabilities()[0], make_config(options).model.dtype
    before, choice.IN_USE = choice.IN_USE, {(*here, name) for name in names}
    what = "all kernels" if len(names) > 1 else f"kernel {next(iter(names))}"
    try:
        if names != {"gelu_product"}:  # has no part in training
            attempt(f"training step, {what}", time_training, options)
        if "gelu_product" in names:  # alone has a part here
            attempt(f"forward, {what}", time_forward, options)
    finally:
        choice.IN_USE = before


def attempt(what, function, options):
    """Measure one of several figures; if it fails, the others are still measured."""
    try:
        function(what, options)
    except Exception as error:
        say(f"{what}: failed: {summarise(error)}")


def operators(options):
    """Every form of every operator."""
    import operators as benchmark

    for stage in list(benchmark.STAGES)[-1 if options.small else 0 :]:
        arguments = (1, "float32", 1, 1) if options.small else (64, "bfloat16", 3, 20)
        for row in benchmark.measure(stage, *arguments):
            say(benchmark.describe(row))


def parity(options):
    """Features, logits and gradients here against float32 on the CPU, as shares of their size."""
    import jax
    import jax.numpy as jnp

    from deepfidelity_jax.network.build import build_model
    from deepfidelity_jax.network.ssaaformer import normalise
    from deepfidelity_jax.training import step
    from deepfidelity_jax.training.losses import training_loss

    cpu, here = jax.devices("cpu")[0], jax.devices()[0]
    batch = make_batch(make_config(options), 4)

    def compute(device, dtype, precision):
        config = make_config(options, dtype=dtype, drop_path=0.0)
        model = build_model(config)

        def loss_of(params, batch_stats, batch):
            variables = {"params": params, "batch_stats": batch_stats}
            images = normalise(batch["image"])
            outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
            weights = {"token": 1.0, "fidelity": 1.0, "ranking": 1.0}
            loss, _ = training_loss(outputs, batch, weights, label_smoothing=0.1)
            return loss, (outputs.features, outputs.logits)

        with jax.default_matmul_precision(precision):
            placed = jax.device_put((params, batch_stats, batch), device)
            gradient, (features, logits) = jax.jit(jax.grad(loss_of, has_aux=True))(*placed)
            images = jax.device_put(normalise(batch["image"]), device)
            placed_variables = {"params": placed[0], "batch_stats": placed[1]}
            scored = jax.jit(functools.partial(model.apply, train=False))(placed_variables, images)
            flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])
            results = scored.features, scored.logits, features, logits, flat
        return jax.device_put(results, cpu)

    with jax.default_device(cpu):
        config = make_config(options, drop_path=0.0)
        made = jax.jit(functools.partial(step.create_state, build_model(config), config))()
        # Layer scale starts near 0, where every block would be the identity.
        params = jax.tree_util.tree_map_with_path(
            lambda path, x: x if "gamma" not in path[-1].key else jnp.full_like(x, 0.3),
            made.variables["params"],
        )
        batch_stats = made.variables["batch_stats"]
        expected = compute(cpu, "float32", "highest")
    names = ("features", "logits", "features in training", "logits in training", "gradient")
    kinds = (("bfloat16", None), ("float32", "highest"), ("float32", "default"))
    for dtype, precision in kinds[1:2] if options.small else kinds:
        computed = compute(here, dtype, precision)
        for name, a, b in zip(names, computed, expected, strict=True):
            difference = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
            setting = dtype if precision is None else f"{dtype}, precision {precision}"
            say(f"parity, {setting}: {name} differ from float32 on the CPU by {difference:.2e}")


def learning(options):
    """Steps of the network of configs/demo.py on one batch, by its optimizer."""
    import jax
    import numpy as np

    from deepfidelity_configs import demo
    from deepfidelity_jax.network.build import build_model
    from deepfidelity_jax.training import step

    config, count = demo.get_config(), 20 if options.small else 200
    config.model.dtype = "float32" if options.small else "bfloat16"
    config.model.image_size = 32 if options.small else config.model.image_size
    config.train.steps, config.train.warmup_steps = count, count // 10
    model = build_model(config)
    state = jax.jit(functools.partial(step.create_state, model, config))()
    batch = jax.device_put(make_batch(config, config.train.batch_size))
    function = functools.partial(step.train_step, model=model, config=config)
    function = jax.jit(function, donate_argnums=0)
    losses, begin = [], time.perf_counter()
    for number in range(1, count + 1):
        state, metrics = function(state, batch)
        losses.append(float(metrics["loss"]))
        if number == 1 or number % (count // 5) == 0:
            say(f"learning, step {number} of {count}: loss {losses[-1]:.4f}")
    fell = np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
    seconds = time.perf_counter() - begin
    say(f"learning: the loss {'fell' if fell else 'DID NOT FALL'}, {seconds:.1f} s with compiling")


def time_torch(options, task, compiled):
    """PyTorch's, by the same counts and the same rule."""
    import torch
    from models import build_theirs

    same = make_config(options).model
    small = 4 if options.small else None
    settings = argparse.Namespace(
        variant=same.variant,
        size=same.image_size,
        dtype=same.dtype,
        batch=small or (64 if task == "train" else 128),
    )
    call, wait, compiling, peak = build_theirs(
        task, settings, compiled=compiled, channels_last=True
    )
    seconds = time_calls(call, wait)
    name = {"train": "training step", "forward": "forward"}[task]
    form = f"compiled in {compiling:.1f} s" if compiled else "eager"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
    memory = f", peak {peak() / 2**30:.2f} GiB" if peak() else ""
    say(
        f"PyTorch {torch.__version__} on {device}, {form}, channels-last, {name}:"
        f" {describe_speed(settings.batch, seconds)}{memory}"
    )


def torch_eager(options):
    """PyTorch's training step and forward pass."""
    time_torch(options, "train", False)
    time_torch(options, "forward", False)


def torch_compiled_forward(options):
    """PyTorch's compiled forward pass."""
    time_torch(options, "forward", True)


def torch_compiled_training(options):
    """PyTorch's compiled training step."""
    time_torch(options, "train", True)


def say(line):
    """Print a line now."""
    print(line, flush=True)


def summarise(error):
    """An exception in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def run_parts(names, options):
    """Run the parts one after the other; called in a separate process."""
    stand_in()
    if not names[0].startswith("torch"):
        import jax

        device = jax.devices()[0]
        where = f"{device.platform} {device.device_kind}, Python {platform.python_version()}"
        say(f"JAX {jax.__version__} on {where}")
    for name in names:
        say(BEGIN + name)
        try:
            globals()[name](options)
        except Exception as error:
            say(f"{name}: failed: {summarise(error)}")


def run_child(names, options, deadline):
    """Run parts in a new process and pass on their lines; returns the parts that did not start."""
    left, running = list(names), None
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, __file__, "--child", f"--parts={','.join(names)}"]
        child = subprocess.Popen(
            command + ["--small"] * options.small,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )

        def stop():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(max(0.0, deadline - time.monotonic()), stop)
        timer.start()
        try:
            for line in child.stdout:
                if line.startswith(BEGIN):
                    running = line[len(BEGIN) :].strip()
                    left.remove(running)
                else:
                    spent = time.monotonic() - options.begin
                    say(f"{spent:6.1f} s  {line.rstrip()}")
            status = child.wait()
        except BaseException:
            stop()
            raise
        finally:
            timer.cancel()
        if status and time.monotonic() < deadline:
            errors.seek(0)
            last = next(filter(str.strip, reversed(errors.read().splitlines())), "")
            say(f"{running or names[0]}: its process ended with {status}: {last.strip()[:300]}")
            return left if running else left[1:]
    if status and running:
        say(f"{running}: cut off, time is up")
    return left


def main():
    """Run the parts, each kind in separate processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of: %(default)s")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try the script")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.child:
        run_parts(parts, options)
        return
    # No process keeps device memory that it does not use, or any after it has ended.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.begin = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        # The next process can reuse what XLA has learnt about a form on this device.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{cache}/torch")
        run(parts, options)


def run(parts, options):
    """The parts, until time is up."""
    deadline = options.begin + options.seconds
    while parts and time.monotonic() < deadline:
        theirs = parts[0].startswith("torch")
        same = [name.startswith("torch") == theirs for name in parts]
        # PyTorch's parts each by itself, ours together, which compile much that is the same.
        count = 1 if theirs else next((i for i, ours in enumerate(same) if not ours), len(parts))
        parts = run_child(parts[:count], options, deadline) + parts[count:]
    if parts:
        say(f"not run, time is up: {', '.join(parts)}")


if __name__ == "__main__":
    main()
