import pytest
import torch
from matplotlib.image import imread

from docs import picture
from mcdrop.demo.train import reproducible


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    output = tmp_path_factory.mktemp("picture") / "deep" / "uncertainty.png"
    picture.main(output)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    return output


@pytest.mark.slow
def test_the_picture_is_small_and_drawn_the_same_every_time(drawn):
    assert drawn.stat().st_size < 200_000
    pixels = imread(drawn)
    assert pixels.shape == (728, 1300, 4)
    assert pixels[0, 0, 3] == 0  # transparent around the card, opaque on it: any background will do
    assert pixels[364, 650, 3] == 1
    kept = imread(picture.OUTPUT)
    assert kept.shape == pixels.shape


@pytest.mark.slow
def test_uncertainty_grows_away_from_the_data():
    x, y = picture.points()
    with reproducible(picture.SEED):
        curves = picture.ask(picture.train(x, y))
    deviation = curves.epistemic**0.5

    def mean_of(low, high, values):
        return values[(curves.x > low) & (curves.x < high)].mean()

    on_data = mean_of(-3.5, -2.0, deviation)
    assert mean_of(-0.5, 0.5, deviation) > 2 * on_data
    assert mean_of(-6.8, -6.0, deviation) > 4 * on_data
    noise = curves.aleatoric**0.5
    assert mean_of(3.3, 4.0, noise) > 2 * mean_of(-3.5, -2.0, noise)
