"""Small nets, and what of each is thinned: `"thinned"`, or a part of the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop

OUTPUT = "an output of the model"
ELSEWHERE = "read elsewhere"
NO_ZERO = "does not keep zero at zero"
NO_LAYER = "neither linear nor a convolution"
POSITIONS = "differs between the positions"


@dataclass(frozen=True)
class Net:
    """A module, an example of 5 rows, and what becomes of each of its sites.

    Attributes:
        taken: for how many sites units are taken from a whole value.
    """

    module: nn.Module
    x: Tensor
    sites: Mapping[str, str]
    taken: int = field(default=0)


class Body(nn.Module):
    """Layers by name, and a forward pass that uses them."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.body = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _flat() -> Tensor:
    return torch.randn(5, 6)


def _image() -> Tensor:
    return torch.randn(5, 3, 8, 8)


def _conv(inputs: int, outputs: int, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)  # type: ignore[arg-type]


def _alive(norm: nn.Module) -> nn.Module:
    """Normalisation with statistics that are not those of no training."""
    with torch.no_grad():
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 1.5)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
    return norm


def plain() -> Net:
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))
    return Net(net, _flat(), {"2": "thinned"}, taken=1)


def chain() -> Net:
    layers: list[nn.Module] = [nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5)]
    layers += [nn.Linear(16, 20), nn.ReLU(), nn.Dropout(0.3)]
    layers += [nn.Linear(20, 12), nn.Tanh(), nn.Dropout(0.1), nn.Linear(12, 3)]
    sites = {"2": "thinned", "5": "thinned", "8": "thinned"}
    return Net(nn.Sequential(*layers), _flat(), sites, taken=1)


def input_and_hidden() -> Net:
    net = nn.Sequential(
        nn.Dropout(0.3), nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
    )
    return Net(net, _flat(), {"0": "thinned", "3": "thinned"}, taken=1)


def without_bias() -> Net:
    net = nn.Sequential(
        nn.Dropout(0.3),
        nn.Linear(6, 16, bias=False),
        nn.Dropout(0.5),
        nn.Linear(16, 3, bias=False),
    )
    return Net(net, _flat(), {"0": "thinned", "2": "thinned"}, taken=1)


def residual() -> Net:
    """The first site is in the branch, between its layers; the last is added."""
    net = Body(
        lambda m, x: (h := m.a(x)) + m.after(m.c(m.within(F.relu(m.b(h))))),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 16),
        within=nn.Dropout(0.4),
        c=nn.Linear(16, 8),
        after=nn.Dropout(0.2),
    )
    return Net(net, _flat(), {"within": "thinned", "after": f"add behind it is {NO_LAYER}"}, 1)


def two_readers_of_the_operand() -> Net:
    """The value before the site is needed whole, so that its units are taken from it."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = F.relu(m.a(m.first(x)))
        return m.b(m.drop(h)) + m.c(h)

    net = Body(
        forward,
        first=nn.Dropout(0.3),
        a=nn.Linear(6, 16),
        drop=nn.Dropout(0.4),
        b=nn.Linear(16, 3),
        c=nn.Linear(16, 3),
    )
    return Net(net, _flat(), {"first": "thinned", "drop": "thinned"}, taken=2)


def two_readers() -> Net:
    net = Body(
        lambda m, x: m.a(h := m.drop(F.relu(m.first(x)))) + m.b(h),
        first=nn.Linear(6, 8),
        drop=nn.Dropout(0.4),
        a=nn.Linear(8, 3),
        b=nn.Linear(8, 3),
    )
    return Net(net, _flat(), {"drop": ELSEWHERE})


def output() -> Net:
    net = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 4), nn.Dropout(0.4))
    return Net(net, _flat(), {"0": "thinned", "2": OUTPUT}, taken=1)


def sigmoid_behind() -> Net:
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.4), nn.Sigmoid(), nn.Linear(8, 3))
    return Net(net, _flat(), {"1": f"sigmoid behind it {NO_ZERO}"})


def bias_behind() -> Net:
    net = Body(
        lambda m, x: m.b(m.drop(m.a(x)) + m.a.bias),
        a=nn.Linear(6, 8),
        drop=nn.Dropout(0.4),
        b=nn.Linear(8, 3),
    )
    return Net(net, _flat(), {"drop": f"add behind it {NO_ZERO}"})


def norm_behind() -> Net:
    net = nn.Sequential(
        nn.Linear(6, 8), nn.Dropout(0.4), _alive(nn.BatchNorm1d(8)), nn.Linear(8, 3)
    )
    return Net(net, _flat(), {"1": f"batch_norm behind it {NO_ZERO}"})


def norm_before() -> Net:
    net = nn.Sequential(
        nn.Dropout(0.3),
        nn.Linear(6, 16),
        _alive(nn.BatchNorm1d(16)),
        nn.ReLU(),
        nn.Dropout(0.4),
        nn.Linear(16, 3),
    )
    return Net(net, _flat(), {"0": "thinned", "4": "thinned"}, taken=1)


def layer_norm_before() -> Net:
    """Layer normalisation mixes units: they are taken behind it."""
    net = nn.Sequential(
        nn.Dropout(0.3), nn.Linear(6, 16), nn.LayerNorm(16), nn.Dropout(0.4), nn.Linear(16, 3)
    )
    return Net(net, _flat(), {"0": "thinned", "3": "thinned"}, taken=2)


def factor_stays() -> Net:
    """gelu(2x) is not 2 gelu(x)."""
    net = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.GELU(), nn.Linear(16, 3))
    return Net(net, _flat(), {"1": "thinned"}, taken=1)


def between() -> Net:
    """Parameters with an element for each unit, before and behind the site."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Dropout(0.3)
            self.a, self.drop, self.b = nn.Linear(6, 16), nn.Dropout(0.4), nn.Linear(16, 3)
            self.shift = nn.Parameter(torch.randn(16))
            self.gamma = nn.Parameter(torch.randn(1, 16))
            self.one = nn.Parameter(torch.tensor([1.7]))
            self.divisor = nn.Parameter(torch.rand(16) + 0.5)
            self.slopes = nn.PReLU(16)
            self.slope = nn.PReLU()
            with torch.no_grad():
                self.slopes.weight.uniform_(0.1, 0.9)

        def forward(self, x: Tensor) -> Tensor:
            h = (self.a(self.first(x)) + self.shift) / self.divisor
            h = self.slopes(h * self.one - 0.3)
            return self.b(self.slope(2 * (self.gamma * self.drop(h)) / 3).clamp(-2.0, 2.0))

    return Net(Scaled(), _flat(), {"first": "thinned", "drop": "thinned"}, taken=1)


def another_site() -> Net:
    net = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.4), nn.Dropout(0.2), nn.Linear(16, 3))
    return Net(net, _flat(), {"1": "another site", "2": "thinned"}, taken=1)


def in_place() -> Net:
    net = nn.Sequential(
        nn.Dropout(0.3),
        nn.Linear(6, 16),
        nn.ReLU(inplace=True),
        nn.Dropout(0.4, inplace=True),
        nn.Linear(16, 3),
    )
    return Net(net, _flat(), {"0": "thinned", "3": "thinned"}, taken=1)


def shared_weights() -> Net:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        for drop in (m.first, m.second):
            x = drop(F.relu(m.a(x)))
        return m.out(x)

    net = Body(
        forward,
        a=nn.Linear(6, 6),
        first=nn.Dropout(0.4),
        second=nn.Dropout(0.3),
        out=nn.Linear(6, 3),
    )
    return Net(net, _flat(), {"first": "thinned", "second": "thinned"}, taken=1)


def rarely_kept() -> Net:
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.999), nn.Linear(16, 3))
    return Net(net, _flat(), {"2": "thinned"}, taken=1)


def never_kept() -> Net:
    net = nn.Sequential(
        nn.Dropout(0.3), nn.Linear(6, 16), nn.ReLU(), nn.Dropout(1.0), nn.Linear(16, 3)
    )
    return Net(net, _flat(), {"0": "thinned", "3": "thinned"}, taken=1)


def tokens() -> Net:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
    return Net(net, torch.randn(5, 7, 4), {"2": POSITIONS})


def whole_tokens() -> Net:
    """Dropout1d drops tokens of `[B, T, D]`, and the layer behind mixes features."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout1d(0.4), nn.Linear(8, 3))
    return Net(net, torch.randn(5, 7, 4), {"1": "mixes another axis"})


def alpha() -> Net:
    net = nn.Sequential(nn.Linear(6, 8), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(8, 3))
    return Net(net, _flat(), {"2": "alpha dropout"})


def mixed() -> Net:
    """Attention keeps its mask, its head is thinned."""
    attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
    net = Body(
        lambda m, x: m.b(m.drop(F.relu(m.a(m.attention(x, x, x)[0].mean(1))))),
        attention=attention,
        a=nn.Linear(8, 16),
        drop=nn.Dropout(0.4),
        b=nn.Linear(16, 3),
    )
    sites = {"attention": "not alone in axis 0", "drop": "thinned"}
    return Net(net, torch.randn(5, 4, 8), sites)


def computed_weights() -> Net:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(16, 3))
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.4), layer)
    return Net(net, _flat(), {"2": "computed"})


def convolutions() -> Net:
    net = nn.Sequential(
        _conv(3, 8), nn.ReLU(), nn.Dropout2d(0.4), _conv(8, 6), nn.Flatten(2), nn.AvgPool1d(64)
    )
    return Net(net, _image(), {"2": "thinned"}, taken=1)


def conv_norm_pool() -> Net:
    net = nn.Sequential(
        nn.Dropout2d(0.3),
        _conv(3, 10, bias=False),
        _alive(nn.BatchNorm2d(10)),
        nn.ReLU(),
        nn.Dropout2d(0.4),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(10, 12, 3, stride=2, padding=2, dilation=2),
        nn.SiLU(),
        nn.AvgPool2d(2, padding=1),
        nn.Dropout2d(0.5),
        nn.Conv2d(12, 4, 3, padding="same"),
        nn.AdaptiveAvgPool2d(1),
    )
    return Net(net, _image(), {"0": "thinned", "4": "thinned", "9": "thinned"}, taken=1)


def conv_to_linear() -> Net:
    net = nn.Sequential(
        nn.Dropout2d(0.3),
        _conv(3, 8),
        nn.Dropout2d(0.4),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.ReLU(),
        nn.Linear(8 * 16, 12),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(12, 3),
    )
    return Net(net, _image(), {"0": "thinned", "2": "thinned", "9": "thinned"}, taken=1)


def global_mean() -> Net:
    net = Body(
        lambda m, x: m.out(m.drop(F.relu(m.a(m.first(x)))).mean((-1, 2))),
        first=nn.Dropout2d(0.2),
        a=_conv(3, 8),
        drop=nn.Dropout2d(0.4),
        out=nn.Linear(8, 3),
    )
    return Net(net, _image(), {"first": "thinned", "drop": "thinned"}, taken=1)


def dropout_after_pooling() -> Net:
    """Features drop behind a mean over pixels: the convolution makes fewer channels."""
    net = Body(
        lambda m, x: m.out(m.drop(F.relu(m.a(m.first(x))).mean((2, 3)))),
        first=nn.Dropout2d(0.2),
        a=_conv(3, 8),
        drop=nn.Dropout(0.4),
        out=nn.Linear(8, 3),
    )
    return Net(net, _image(), {"first": "thinned", "drop": "thinned"}, taken=1)


def dropout_after_flatten() -> Net:
    """Each pixel of a channel drops on its own: units are taken behind the flattening."""
    net = nn.Sequential(
        nn.Dropout2d(0.2), _conv(3, 4), nn.Flatten(), nn.Dropout(0.4), nn.Linear(256, 3)
    )
    return Net(net, _image(), {"0": "thinned", "3": "thinned"}, taken=2)


def channels_last() -> Net:
    net = Body(
        lambda m, x: m.b(m.drop(m.a(x)).contiguous(memory_format=torch.channels_last)),
        a=_conv(3, 8),
        drop=nn.Dropout2d(0.4),
        b=_conv(8, 3),
    )
    return Net(net, _image(), {"drop": "thinned"}, taken=1)


def pixels() -> Net:
    net = nn.Sequential(_conv(3, 8), nn.Dropout(0.4), _conv(8, 3))
    return Net(net, _image(), {"1": POSITIONS})


def grouped() -> Net:
    """Groups behind the first site, and before the second."""
    net = nn.Sequential(nn.Dropout2d(0.3), _conv(3, 6, groups=3), nn.Dropout2d(0.4), _conv(6, 2))
    return Net(net, _image(), {"0": "has groups", "2": "thinned"}, taken=1)


def padded() -> Net:
    net = nn.Sequential(
        nn.ZeroPad2d(1),
        nn.Dropout2d(0.3),
        nn.ConstantPad2d(1, 0.0),
        nn.ReflectionPad2d(1),
        nn.Conv2d(3, 6, 3),
        nn.ConstantPad2d(1, 2.5),
        nn.Dropout2d(0.4),
        nn.Conv2d(6, 4, 3),
        nn.Dropout2d(0.4),
        nn.ConstantPad2d(1, 2.5),
        nn.Conv2d(4, 2, 3),
    )
    sites = {"1": "thinned", "6": "thinned", "8": f"pad behind it {NO_ZERO}"}
    return Net(net, _image(), sites, taken=1)


def transposed() -> Net:
    net = nn.Sequential(_conv(3, 6), nn.Dropout2d(0.4), nn.ConvTranspose2d(6, 2, 3))
    return Net(net, _image(), {"1": NO_LAYER})


def series() -> Net:
    net = nn.Sequential(
        nn.Dropout1d(0.3),
        nn.Conv1d(3, 8, 3),
        nn.ReLU(),
        nn.Dropout1d(0.4),
        nn.Conv1d(8, 2, 3, stride=2),
    )
    return Net(net, torch.randn(5, 3, 9), {"0": "thinned", "3": "thinned"}, taken=1)


def volumes() -> Net:
    net = nn.Sequential(
        nn.Dropout3d(0.3), nn.Conv3d(2, 6, 3), nn.ReLU(), nn.Dropout3d(0.4), nn.Conv3d(6, 2, 2)
    )
    return Net(net, torch.randn(5, 2, 4, 4, 4), {"0": "thinned", "3": "thinned"}, taken=1)


def log_behind_a_layer_without_bias() -> Net:
    """What stands for no unit must be as finite as units are: log(|0|) times zero is NaN."""
    net = Body(
        lambda m, x: m.b(m.drop(m.a(x).abs().log())),
        a=nn.Linear(6, 16, bias=False),
        drop=nn.Dropout(0.5),
        b=nn.Linear(16, 3),
    )
    return Net(
        Body(lambda m, x: m.net(m.first(x)), first=nn.Dropout(0.1), net=net),
        _flat(),
        {"first": "thinned", "net.drop": "thinned"},
        taken=1,
    )


def band_power() -> Net:
    """Square, average, logarithm (Schirrmeister et al. 2017)."""
    net = Body(
        lambda m, x: m.b(m.drop(m.pool(m.a(m.first(x)).square()).log()).flatten(1)),
        first=nn.Dropout1d(0.3),
        a=nn.Conv1d(3, 16, 3, bias=False),
        pool=nn.AvgPool1d(3),
        drop=nn.Dropout1d(0.5),
        b=nn.Linear(32, 2),
    )
    sites = {"first": "thinned", "drop": "thinned"}
    return Net(net, torch.randn(5, 3, 9), sites, taken=1)


def flattened_and_back() -> Net:
    net = Body(
        lambda m, x: m.b(m.drop(m.a(x)).flatten(1).reshape(-1, 96, 1)),
        a=_conv(3, 6, stride=2),
        drop=nn.Dropout2d(0.4),
        b=nn.Conv1d(96, 2, 1),
    )
    return Net(net, _image(), {"drop": "reads what was flattened"})


def flattened_twice() -> Net:
    net = Body(
        lambda m, x: m.b(F.pad(m.drop(m.a(x)).flatten(2), (0, 1)).flatten(1)),
        a=_conv(3, 6, stride=2),
        drop=nn.Dropout2d(0.4),
        b=nn.Linear(102, 2),
    )
    return Net(net, _image(), {"drop": "thinned"}, taken=1)


def bits() -> Net:
    """An operation that takes no floats."""
    net = Body(
        lambda m, x: m.b((~(m.drop(m.a(x)) > 0)).float()),
        a=nn.Linear(6, 16),
        drop=nn.Dropout(0.5),
        b=nn.Linear(16, 3),
    )
    return Net(net, _flat(), {"drop": NO_ZERO})


def one_output_without_an_axis() -> Net:
    net = Body(
        lambda m, x: F.linear(m.drop(m.a(x)), m.b.weight[0]).unsqueeze(1),
        a=nn.Linear(6, 16),
        drop=nn.Dropout(0.5),
        b=nn.Linear(16, 1),
    )
    return Net(net, _flat(), {"drop": "computed, or no matrix"})


ALL = (
    *(plain, chain, input_and_hidden, without_bias, residual, two_readers_of_the_operand),
    *(two_readers, output, sigmoid_behind, bias_behind, norm_behind, norm_before),
    *(layer_norm_before, factor_stays, between, another_site, in_place, shared_weights),
    *(rarely_kept, never_kept, tokens, whole_tokens, alpha, mixed, computed_weights),
    *(convolutions, conv_norm_pool, conv_to_linear, global_mean, dropout_after_pooling),
    *(dropout_after_flatten, channels_last, pixels, grouped, padded, transposed, series, volumes),
    *(log_behind_a_layer_without_bias, band_power, flattened_and_back, flattened_twice),
    *(bits, one_output_without_an_axis),
)
NETS: Mapping[str, Callable[[], Net]] = {build.__name__: build for build in ALL}


@cache
def net(name: str) -> Net:
    """A net, always the same for a name."""
    with torch.random.fork_rng():
        torch.manual_seed(list(NETS).index(name))
        return NETS[name]()


THINNED = [name for name in NETS if "thinned" in net(name).sites.values()]


@cache
def program(name: str) -> mcdrop.Program:
    """The captured program of a net, traced once for all tests."""
    return mcdrop.capture(net(name).module.eval(), net(name).x)
