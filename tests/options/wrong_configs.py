"""The default configuration with other values, and what is said of it."""

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from deepfidelity_configs import default
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.options import checks


def config_of(changes):
    """The default configuration with these values, of whatever type they are."""
    values = flatten_dict(default.get_config().to_dict(), sep=".") | changes
    return ConfigDict(unflatten_dict(values, sep="."))


def told(changes):
    """What is said of the default configuration with these values; nothing where it is right."""
    try:
        checks.check(config_of(changes))
    except InputError as error:
        return str(error)
    return ""
