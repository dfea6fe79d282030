"""The packages, which pyproject.toml cannot list: two of them are imported under another name."""

from setuptools import find_packages, setup

# `datasets/` and `configs/` stay at the top of the tree, where people look for them. They are
# imported under names of their own, because `datasets` is also a well-known package.
FOLDERS = {"deepfidelity_datasets": "datasets", "deepfidelity_configs": "configs"}

packages = find_packages(include=["deepfidelity_jax", "deepfidelity_jax.*"])
for name, folder in FOLDERS.items():
    packages += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]

setup(packages=packages, package_dir=FOLDERS)
