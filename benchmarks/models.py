"""SSAAFormer here against the same network in PyTorch: speed, memory, compile time, in one run.

python benchmarks/models.py [--variant=large] [--size=224] [--batch=4] [--dtype=...] [--rounds=5]
    [--task=forward|train|both] [--json=FILE]

Every form is a separate process. Ours stays and takes turns with each of PyTorch's in sequence, so
that a busy machine affects both equally and only two are in memory. A turn is two calls, of which
the second is timed, because a system may reclaim memory from a waiting process, and in training
steps follow each other. The best call of each counts: wall time, and on CPU also CPU time, which
other programs change less. `speed-up` is how many times as fast ours was in the same turns.
`floor` is the time that the counted multiply-adds would take at the fastest matrix product measured
in the same run, as a share of the wall time; 100% is the limit of the machine. Memory is the peak
of the whole process, once including compilation and once for the calls after it; on an accelerator,
the peak of the device. A training step is forward, backward and AdamW. Without PyTorch, only ours
is measured. On a CPU all have a heap of huge pages (docs/speed.md), and our forward pass has one
device per core, as in a process that run.py starts.

On an accelerator the computation is in bfloat16, PyTorch's by autocast and channels-last.
"""

import argparse
import functools
import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from datetime import date

from deepfidelity_jax.processes.machine import count_cores, make_devices

CORES = count_cores()
# Each form by name: the function that makes it, and how it differs.
OURS = {"matrix product": ("build_product", {}), "ours": ("build_ours", {})}
VECTORS = 20_000
SCORED = {"ours, bytes to fidelity": ("build_ours", {"vectors": VECTORS})}  # a forward pass only
THEIRS = {
    "PyTorch": ("build_theirs", {}),
    "PyTorch channels-last": ("build_theirs", {"channels_last": True}),
    "PyTorch compiled": ("build_theirs", {"compiled": True}),
    "PyTorch compiled channels-last": ("build_theirs", {"compiled": True, "channels_last": True}),
}
BYTES = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss


def list_theirs(accelerated: bool) -> dict:
    """PyTorch's forms that this machine can run."""
    if not importlib.util.find_spec("torch"):
        return {}
    return {name: f for name, f in THEIRS.items() if "channels-last" in name or not accelerated}


def build_ours(task, options, *, vectors=0):
    """A compiled call of ours: (call, wait, seconds to compile, function for device's peak bytes).

    `call()` starts the work and returns what `wait` waits for. With `vectors`, from the bytes of
    the images to their fidelity by so many support vectors.
    """
    make_devices()
    import jax
    import jax.numpy as jnp
    import optax

    from deepfidelity_jax.network.fold import fold
    from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig, normalise
    from deepfidelity_jax.training import sharding

    jax.config.update("jax_enable_compilation_cache", False)
    mesh = (sharding.data_mesh if task == "train" else sharding.local_mesh)(options.batch)
    split, place = sharding.split_batch(mesh), sharding.replicated(mesh)
    config = getattr(SSAAFormerConfig, options.variant)(dtype=options.dtype)
    model = SSAAFormer(config)
    images = jax.random.normal(jax.random.key(0), (options.batch, options.size, options.size, 3))
    label = jnp.arange(options.batch) % config.num_classes

    def init():
        return model.init(jax.random.key(0), images[:1, :32, :32], train=False)

    def forward(variables, images):
        outputs = model.clone(folded=True).apply(variables, images, train=False)
        return outputs.features, outputs.logits

    adamw = optax.adamw(1e-4, weight_decay=0.05)

    def step(state, images, label):
        params, batch_stats, moments, number = state

        def loss_of(params):
            outputs, new = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(jax.random.key(1), number)},
            )
            entropy = optax.softmax_cross_entropy_with_integer_labels
            tokens = jnp.broadcast_to(label[:, None], outputs.token_logits.shape[:2])
            loss = entropy(outputs.class_logits, label).mean()
            return loss + 0.5 * entropy(outputs.token_logits, tokens).mean(), new["batch_stats"]

        (loss, batch_stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, moments = adamw.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), batch_stats, moments, number + 1), loss

    variables = jax.jit(init, out_shardings=place)()
    images, label = jax.device_put((images, label), split)
    if task == "forward":
        variables = jax.jit(functools.partial(fold, config=config))(variables)
        function, arguments = forward, (variables, images)
        if vectors:
            from deepfidelity_jax.fidelity.arrays import SupportVectors, regress

            def score(variables, regressor, images):
                return regress(regressor, forward(variables, normalise(images))[0])

            rows = jax.random.normal(jax.random.key(2), (vectors, config.widths[-1]))
            one = jnp.ones(())
            regressor = SupportVectors(rows, rows[:, 0], one, one / rows.size, rows[0])
            pixels = jax.device_put((images * 64 + 128).astype(jnp.uint8), split)
            function, arguments = score, (variables, jax.device_put(regressor, place), pixels)
        start = time.perf_counter()
        compiled = jax.jit(function).lower(*arguments).compile()
        seconds = time.perf_counter() - start

        def call():
            return compiled(*arguments)
    else:
        moments = jax.jit(adamw.init, out_shardings=place)(variables["params"])
        state = (variables["params"], variables["batch_stats"], moments, jnp.zeros((), int))
        state = jax.device_put(state, place)
        del variables, moments
        start = time.perf_counter()
        traced = jax.jit(step, donate_argnums=0, out_shardings=(place, place))
        compiled = traced.lower(state, images, label).compile()
        seconds = time.perf_counter() - start

        def call():
            nonlocal state
            state, loss = compiled(state, images, label)
            return loss

    def peak():
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    return call, jax.block_until_ready, seconds, peak


def build_theirs(task, options, *, compiled=False, channels_last=False):
    """The same for PyTorch."""
    import torch
    import torch_baseline
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(CORES)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    drop_path = {"large": 0.4, "base": 0.3, "small": 0.1, "tiny": 0.0}[options.variant]
    model = torch_baseline.build(options.variant, drop_path=drop_path)
    model = model.to(device, memory_format=layout).train(task == "train")
    images = torch.randn(options.batch, 3, options.size, options.size, device=device)
    images = images.to(memory_format=layout)
    label = torch.arange(options.batch, device=device) % 2
    run = torch.compile(model) if compiled else model
    cast = torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05, fused=True)

    def call():
        if task == "forward":
            with torch.inference_mode(), cast:
                outputs = run(images)
                outputs.features, outputs.logits  # noqa: B018
        else:
            with cast:
                outputs = run(images)
                tokens = label[:, None].expand(outputs.token_logits.shape[:2])
                loss = cross_entropy(outputs.class_logits.float(), label)
                logits = outputs.token_logits.float().flatten(0, 1)
                loss = loss + 0.5 * cross_entropy(logits, tokens.flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def wait(_):
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    wait(call())
    first = time.perf_counter() - start
    start = time.perf_counter()
    wait(call())
    seconds = max(0.0, first - (time.perf_counter() - start)) if compiled else 0.0

    def peak():
        return torch.cuda.max_memory_allocated() if device == "cuda" else None

    return call, wait, seconds, peak


def build_product(task, options):
    """The machine's rate: a matrix product of 2 * side^3 operations."""
    import jax
    import jax.numpy as jnp

    side = options.side
    a = jnp.ones((side, side), options.dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    return lambda: product(a, a), jax.block_until_ready, 0.0, lambda: None


def serve(connection, form, task, options):
    """Build the form, then time a call for every message; runs in a separate process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # a GPU is shared with PyTorch
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # compile as for the first time
    build, differences = form
    call, wait, seconds, peak_of_device = globals()[build](task, options, **differences)
    wait(call())
    peak = _peak()
    _forget_peak()
    connection.send(seconds)
    while connection.recv():
        wait(call())
        start, start_cores = time.perf_counter(), time.process_time()
        wait(call())
        connection.send((time.perf_counter() - start, time.process_time() - start_cores))
    running = _peak()
    connection.send((peak_of_device() or max(peak, running), peak_of_device() or running))


class Running:
    """A form in a separate process. EOFError if it could not be built."""

    def __init__(self, form, task, options):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, form, task, options)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.compile_s, self.wall_s, self.cores_s = self.connection.recv(), [], []

    def time_call(self):
        """Wall time and time of the cores of one call."""
        self.connection.send(True)
        wall, cores = self.connection.recv()
        self.wall_s.append(wall)
        self.cores_s.append(cores)

    def stop(self) -> dict:
        """The best of its times, and its peak memory."""
        self.connection.send(False)
        peak, running = self.connection.recv()
        self.process.join()
        best = {clock: min(getattr(self, clock)) for clock in ("wall_s", "cores_s")}
        memory = {"peak_bytes": peak, "running_bytes": running}
        return {**best, **memory, "compile_s": self.compile_s, "calls": len(self.wall_s)}


def measure(task, theirs, options) -> dict:
    """The best wall time and CPU time, peak memory and compile time of each form."""
    forms, rows = OURS | SCORED if task == "forward" else OURS, {}
    ours = {name: Running(form, task, options) for name, form in forms.items()}
    for name, form in theirs.items() or [("ours alone", None)]:
        try:
            other = {name: Running(form, task, options)} if form else {}
        except EOFError:
            print(f"{name}: failed, and is left out")
            continue
        for _ in range(options.rounds):
            for running in (ours | other).values():
                running.time_call()
        if other:
            rows[name] = other[name].stop()
            in_turn = min(ours["ours"].wall_s[-options.rounds :])
            rows[name]["ours_is"] = rows[name]["wall_s"] / in_turn
    stopped = {name: running.stop() for name, running in ours.items()}
    for name in stopped.keys() - OURS.keys():
        stopped[name]["ours_is"] = stopped[name]["wall_s"] / stopped["ours"]["wall_s"]
    return stopped | rows


def describe_machine(options) -> dict:
    """The machine and versions that the figures belong to."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line.split(":", 1) for line in file if ":" in line]
        processor = {k.strip(): v.strip() for k, v in lines}.get("model name", processor)
    kind = processor if options.platform == "cpu" else options.device
    return {"device": kind, "cores": CORES, "date": date.today().isoformat()}


def print_table(task, rows, multiply_adds, options):
    """Print one line per form."""
    rate = 2 * options.side**3 / rows["matrix product"]["wall_s"]
    work = 2 * multiply_adds * options.batch * (3 if task == "train" else 1)
    name = "training step" if task == "train" else "forward"
    print(f"\n{name}: {options.variant}, {options.batch} x {options.size}, {options.dtype}", end="")
    print(f", matrix products at {rate / 1e9:.0f} GFLOP/s")
    columns = ("ms", "CPU ms", "images/s", "floor", "MiB", "running", "compile s", "speed-up")
    print(f"{'':32}" + "".join(f"{column:>11}" for column in columns))
    for name, row in rows.items():
        if name == "matrix product":
            continue
        row["images_per_s"] = options.batch / row["wall_s"]
        row["floor"] = work / rate / row["wall_s"]
        print(
            f"{name:32}{1e3 * row['wall_s']:11.1f}{1e3 * row['cores_s']:11.1f}"
            f"{row['images_per_s']:11.2f}{row['floor']:11.1%}{row['peak_bytes'] / 2**20:11.0f}"
            f"{row['running_bytes'] / 2**20:11.0f}{row['compile_s']:11.1f}"
            + (f"{row['ours_is']:11.2f}" if "ours_is" in row else "")
        )


def _describe_platform(connection, variant, size):
    """Runs in a process that ends, because initialising JAX would hold a TPU."""
    import jax

    from deepfidelity_jax.network.size import count_multiply_adds
    from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig

    device = jax.devices()[0]
    counted = count_multiply_adds(getattr(SSAAFormerConfig, variant)(), size)["total"]
    connection.send((device.platform, device.device_kind, counted))


def _peak():
    """Peak memory in bytes since the start or since `_forget_peak`."""
    if not os.path.exists("/proc/self/status"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES
    with open("/proc/self/status", encoding="utf-8") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _forget_peak():
    if os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")


def main():
    """Print the tables and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="large", choices=("large", "base", "small", "tiny"))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", choices=("forward", "train", "both"), default="both")
    parser.add_argument("--json")
    options = parser.parse_args()
    # Read by a process when it starts.
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    arguments = (there, options.variant, options.size)
    process = context.Process(target=_describe_platform, args=arguments)
    process.start()
    options.platform, options.device, multiply_adds = here.recv()
    process.join()
    accelerated = options.platform != "cpu"
    options.dtype = options.dtype or ("bfloat16" if accelerated else "float32")
    options.side = 8192 if accelerated else 2048
    theirs = list_theirs(accelerated)
    tasks = ("forward", "train") if options.task == "both" else (options.task,)
    result = {"machine": describe_machine(options), "options": vars(options)}
    for task in tasks:
        result[task] = measure(task, theirs, options)
        print_table(task, result[task], multiply_adds, options)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
