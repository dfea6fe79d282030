"""PyTorch checkpoint files written byte by byte, so that no PyTorch is needed to test reading."""

import struct
import zipfile

import numpy as np

STORAGES = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "i4": "Int", "u1": "Byte"}


class Raw(bytes):
    """Opcodes that push one value, to be put into a pickle as they are."""


def call(name, *arguments, state=None):
    """Opcodes that call `module.name`, and BUILD its result where there is a state."""
    module, _, name = name.rpartition(".")
    code = f"c{module}\n{name}\n".encode() + push(tuple(arguments)) + b"R"
    return Raw(code if state is None else code + push(state) + b"b")


def push(value, storages=None):
    """Opcodes that push plain values, OrderedDicts and tensors; storages are collected."""
    if isinstance(value, Raw):
        return bytes(value)
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        items = b"".join(push(item, storages) for item in value)
        return b"(" + items + (b"l" if isinstance(value, list) else b"t")
    if isinstance(value, dict):
        items = b"".join(push(k, storages) + push(v, storages) for k, v in value.items())
        return b"ccollections\nOrderedDict\n)R(" + items + b"u"
    value = np.asarray(value)
    storages.append(np.ascontiguousarray(value).tobytes())
    storage = ("storage", Raw(f"ctorch\n{STORAGES[value.dtype.str[1:]]}Storage\n".encode()),
               str(len(storages) - 1), "cpu", value.size)  # fmt: skip
    strides = tuple(int(np.prod(value.shape[i + 1 :])) for i in range(value.ndim))
    tensor = Raw(push(storage) + b"Q"), 0, value.shape, strides, False, {}
    return call("torch._utils._rebuild_tensor_v2", *tensor)


def write_zip(path, pickled, storages=()):
    """The records of PyTorch's zip format."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, content in enumerate(storages):
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")


def write_checkpoint(path, content):
    """What `torch.save(content, path)` writes, NumPy arrays in the place of tensors."""
    storages = []
    write_zip(path, b"\x80\x02" + push(content, storages) + b".", storages)
    return path


def tensor(*, offset=0, shape=(2,), strides=(1,), count=4, key="0", storage="FloatStorage"):
    reference = ("storage", Raw(f"ctorch\n{storage}\n".encode()), key, "cpu", count)
    return call("torch._utils._rebuild_tensor_v2", Raw(push(reference) + b"Q"),
                offset, shape, strides, False, {})  # fmt: skip


# Each pushes one value by calling something no file needs. The canary is a file.
TOUCH = "open({!r}, 'w').close()"


def calls(canary):
    command, code = f"touch {canary}", TOUCH.format(str(canary))
    system = b"cposix\nsystem\n"
    text, source = push(command), push(code)
    return {
        "posix.system": system + b"(" + text + b"tR",
        "os.system": b"cos\nsystem\n(" + text + b"tR",
        "builtins.eval": b"cbuiltins\neval\n(" + source + b"tR",
        "__builtin__.exec": b"c__builtin__\nexec\n(" + source + b"tR",
        "builtins.getattr": b"cbuiltins\ngetattr\n(" + text + text + b"tR",
        "subprocess.Popen": b"(" + text + b"isubprocess\nPopen\n",  # INST
        "nt.system": b"(cnt\nsystem\n" + text + b"o",  # OBJ
        "os.execv": push("os") + push("execv") + b"\x93(" + text + b"tR",  # STACK_GLOBAL
        "runpy.run_path": b"crunpy\nrun_path\n(" + text + b"t\x81",  # NEWOBJ
        "importlib.import_module": b"cimportlib\nimport_module\n(" + text + b"t}\x92",  # NEWOBJ_EX
        "torch.hub.load": b"ctorch.hub\nload\n(" + text + b"tR",
        "torch.nn.modules.linear.Linear": b"ctorch.nn.modules.linear\nLinear\n)\x81}b",  # BUILD
        "collections.OrderedDict.__init__": push("collections.OrderedDict")
        + push("__init__") + b"\x93)R",
        "numpy.load": b"cnumpy\nload\n(" + text + b"tR",
        "mine.Model": b"cmine\nModel\n)\x81",
    }  # fmt: skip


NESTED = {
    "alone": lambda code: code,
    "in a list": lambda code: b"](" + code + b"e",
    "in a dictionary": lambda code: b"}" + push("state_dict") + code + b"s",
    "as an argument": lambda code: b"ccollections\nOrderedDict\n(" + code + b"tR",
    "as a state": lambda code: b"cargparse\nNamespace\n)\x81" + code + b"b",
    "as a reference": lambda code: code + b"Q",
    "and thrown away": lambda code: code + b"0}",
    "after a tensor": lambda code: b"(" + tensor() + code + b"t",
}
