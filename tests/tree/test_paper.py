"""The paper's recipe: its curves, and that each of its configurations names what there is."""

import jax
import jax.numpy as jnp
import pytest

from deepfidelity_configs import default, paper, paper_celeb_df, paper_ffpp, paper_wild_deepfake
from deepfidelity_jax.forgeries.augment import AugmentSettings
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.size import count_parameters
from deepfidelity_jax.options import checks
from deepfidelity_jax.training.optimizer import average, learning_rate
from deepfidelity_jax.workdir import flatten


def test_the_learning_rate_of_three_epochs():
    own = paper.get_config().train
    rate, epoch = learning_rate(own), paper.EPOCH
    assert own.steps == 3 * epoch
    for number, published in enumerate((1e-6, 2.4e-4, 4.8e-4)):
        exact = 1e-6 + number * (1.2e-3 - 1e-6) / 5
        for step in (number * epoch, (number + 1) * epoch - 1):
            assert rate(step) == pytest.approx(exact, rel=1e-5)
            assert rate(step) == pytest.approx(published, rel=5e-3)


def test_the_average_holds_half_of_the_start():
    own = paper.get_config().train

    def share_of_start(warmup):
        def step(ema, number):
            return average(ema, jnp.float32(0), number, own.ema_decay, warmup), None

        return float(jax.lax.scan(step, jnp.float32(1), jnp.arange(own.steps))[0])

    assert own.ema_warmup is False
    assert share_of_start(own.ema_warmup) == pytest.approx(0.99992**own.steps, rel=2e-3)
    assert 0.45 < share_of_start(own.ema_warmup) < 0.5
    assert share_of_start(True) < 1e-6


@pytest.mark.parametrize(
    ("module", "dataset"),
    [
        (paper_ffpp, "ffpp"),
        (paper_celeb_df, "celeb_df"),
        (paper_wild_deepfake, "wild_deepfake"),
    ],
)
def test_each_is_the_paper_on_its_dataset(module, dataset):
    config = module.get_config()
    checks.check(config)
    assert config.data.dataset == dataset
    assert count_parameters(build_model(config).config) == 98_824_462
    assert AugmentSettings(**config.augment) == AugmentSettings.paper()
    assert config.faces.detector == "mtcnn", "SER-FIQ aligns by five landmarks"
    # Only options that there are.
    assert flatten(config.to_dict()).keys() <= flatten(default.get_config().to_dict()).keys()
