"""Small models of every architecture that must be caught and sampled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop

Case = tuple[nn.Module, Any]


class Head(nn.Module):
    """Plain and in-place dropout around linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.drop = nn.Dropout(0.4, inplace=True)
        self.second = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.drop(F.relu_(self.first(x))))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(torch.tanh(self.linear(x)), 0.3, training=self.training)
        return self.out(F.dropout(h, p=0.2, training=self.training))


class Channels(nn.Module):
    """Channel dropout of each rank, with BatchNorm and a residual branch."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        self.conv = conv(2, 6, 3, padding=1)
        self.norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1](6)
        self.drop = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[rank - 1](0.3)
        self.again = conv(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.2, 0.2)
            self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.conv(x)))
        h = h + self.again(self.drop(h))
        return self.head(h.flatten(2).mean(-1))


class Alpha(nn.Module):
    def __init__(self, kind: type[nn.Module] = nn.AlphaDropout) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.SELU(), kind(0.2))
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x))


class FeatureAlpha(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 5, 3, padding=1)
        self.drop = nn.FeatureAlphaDropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(F.selu(self.conv(x))).mean(-1)


class Attention(nn.Module):
    """`nn.MultiheadAttention`: batch second inside, heads folded into the batch."""

    def __init__(self, *, weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0].mean(1)


class ScaledDotProduct(nn.Module):
    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.causal = causal

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        p = 0.25 if self.training else 0.0
        mask = None if self.causal else keep[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, mask, p, self.causal)
        return out.transpose(1, 2).flatten(2).mean(1)


class FoldedHeads(nn.Module):
    """Attention by hand with heads varying slower than rows: the axis is `heads * B`."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        h = self.project(x).reshape(b, t, 2, 4).permute(2, 0, 1, 3).reshape(2 * b, t, 4)
        scores = self.drop(torch.softmax(h @ h.transpose(1, 2), -1)) @ h
        return scores.reshape(2, b, t, 4).permute(1, 2, 0, 3).reshape(b, t, 8).mean(1)


class TimeMajor(nn.Module):
    """Dropout on `[T * B, D]`: time varies slower than rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)
        self.drop = nn.Dropout(0.4)
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        flat = self.linear(x.transpose(0, 1).reshape(t * b, d))
        return self.out(self.drop(flat).reshape(t, b, 6).mean(0))


class Transformer(nn.Module):
    def __init__(self, *, norm_first: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.2, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(4, 5, dropout=0.3, **options)
        self.batch_first = self.rnn.batch_first
        self.out = nn.Linear(5 * (2 if self.rnn.bidirectional else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        if not self.batch_first:
            x = x.transpose(0, 1)
        h, _ = self.rnn(x)
        return self.out(h.mean(1 if self.batch_first else 0))


class RecurrentAfterDropout(nn.Module):
    """A recurrent net in the tail: its input and its last state depend on a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.rnn = nn.LSTM(4, 5, num_layers=1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, cell) = self.rnn(self.drop(x))
        return (hidden + cell)[0]


class Noise(nn.Module):
    """Hand-written noise of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.linear(x))
        if self.training:
            h = h * (torch.rand_like(h) < 0.8) / 0.8
            h = h.masked_fill(torch.rand_like(h) < 0.1, 0.0) / 0.9
            h = torch.where(torch.rand(h.shape) > 0.1, h, 0.0) / 0.9
            h = h * torch.bernoulli(torch.full_like(h, 0.9)) / 0.9
            h = h + 0.1 * torch.randn_like(h)
            h = h + torch.empty_like(h).uniform_(-0.1, 0.1)
            h = h * torch.empty_like(h).normal_(mean=1.0, std=0.1)
            h = h * torch.empty_like(h).bernoulli_() / 0.5
            h = h * torch.empty_like(h).exponential_(2.0) * 2.0
        return self.out(h)


class DropPath(nn.Module):
    """Stochastic depth: `bernoulli_` as in timm, or `rand` and `floor_` as in transformers."""

    def __init__(self, *, floor: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.floor = floor

    def drop(self, x: Tensor, keep: float = 0.7) -> Tensor:
        if not self.training:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        if self.floor:
            kept = keep + torch.rand(shape, dtype=x.dtype, device=x.device)
            kept.floor_()
            return x.div(keep) * kept
        return x * x.new_empty(shape).bernoulli_(keep).div_(keep)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(torch.tanh(self.a(x)))
        return x + self.drop(torch.tanh(self.b(x)))


class WeightDrop(nn.Module):
    """DropConnect: the noise does not hold rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.dropout(self.linear.weight, 0.3, training=self.training)
        return F.linear(x, weight, self.linear.bias)


class InPlaceView(nn.Module):
    """Dropout written into a slice of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.5, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        self.drop(h[:, 2:5])
        return h


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 8), nn.Linear(5, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor, table: Tensor) -> dict[str, Any]:
        h = self.drop(torch.relu(self.left(image) + self.right(table)))
        return {"score": h.sum(-1, keepdim=True), "parts": (h, h * 2), "name": "two"}


def _bert() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=3,
    )
    ids = torch.randint(1, 50, (3, 7))
    keep = torch.ones_like(ids)
    keep[0, 5:] = 0
    return BertForSequenceClassification(config), {"input_ids": ids, "attention_mask": keep}


def _gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=40,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config), {"input_ids": torch.randint(0, 40, (3, 6))}


def _vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.2,
        attention_probs_dropout_prob=0.2,
        num_labels=4,
    )
    return ViTForImageClassification(config), torch.randn(3, 3, 8, 8)


def _flat() -> Tensor:
    return torch.randn(3, 6)


def _sequence() -> Tensor:
    return torch.randn(3, 5, 4)


_BUILDERS: dict[str, Callable[[], Case]] = {
    "dropout": lambda: (Head(), _flat()),
    "functional": lambda: (Functional(), _flat()),
    "dropout1d": lambda: (Channels(1), torch.randn(3, 2, 6)),
    "dropout2d": lambda: (Channels(2), torch.randn(3, 2, 5, 5)),
    "dropout3d": lambda: (Channels(3), torch.randn(3, 2, 3, 3, 3)),
    "alpha": lambda: (Alpha(), _flat()),
    "feature_alpha": lambda: (FeatureAlpha(), torch.randn(3, 2, 6)),
    "attention": lambda: (Attention(weights=False), torch.randn(3, 5, 8)),
    "attention_weights": lambda: (Attention(weights=True), torch.randn(3, 5, 8)),
    "sdpa_masked": lambda: (
        ScaledDotProduct(causal=False),
        (torch.randn(3, 5, 8), torch.rand(3, 5) > 0.2),
    ),
    "sdpa_causal": lambda: (
        ScaledDotProduct(causal=True),
        (torch.randn(3, 5, 8), torch.rand(3, 5) > 0.2),
    ),
    "folded_heads": lambda: (FoldedHeads(), torch.randn(3, 5, 8)),
    "time_major": lambda: (TimeMajor(), _sequence()),
    "transformer": lambda: (Transformer(), torch.randn(3, 5, 8)),
    "transformer_pre_norm": lambda: (Transformer(norm_first=True), torch.randn(3, 5, 8)),
    "lstm": lambda: (Recurrent(nn.LSTM, num_layers=3, batch_first=True), _sequence()),
    "lstm_bidirectional": lambda: (
        Recurrent(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True),
        _sequence(),
    ),
    "gru_batch_second": lambda: (Recurrent(nn.GRU, num_layers=2), _sequence()),
    "rnn_tanh": lambda: (Recurrent(nn.RNN, num_layers=2, batch_first=True), _sequence()),
    "lstm_in_tail": lambda: (RecurrentAfterDropout(), _sequence()),
    "noise": lambda: (Noise(), _flat()),
    "drop_path": lambda: (DropPath(floor=False), _flat()),
    "drop_path_floor": lambda: (DropPath(floor=True), _flat()),
    "weight_drop": lambda: (WeightDrop(), _flat()),
    "in_place_view": lambda: (InPlaceView(), _flat()),
    "two_inputs": lambda: (TwoInputs(), (torch.randn(3, 3), torch.randn(3, 5))),
    "bert": _bert,
    "gpt2": _gpt2,
    "vit": _vit,
}
NAMES = tuple(_BUILDERS)


def build(name: str) -> Case:
    """The model and its example inputs, always the same for a name."""
    with torch.random.fork_rng():
        torch.manual_seed(NAMES.index(name))
        module, inputs = _BUILDERS[name]()
    return module.eval(), inputs


@cache
def program(name: str) -> mcdrop.Program:
    """The captured program of a case, traced once for all tests."""
    module, inputs = build(name)
    return mcdrop.capture(module, inputs)


def call(module: nn.Module, inputs: Any) -> Any:
    """Call a module with a case's inputs."""
    if isinstance(inputs, dict):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def entry(output: Any) -> Tensor:
    """The first tensor of an output, which tasks read by default."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if hasattr(output, "values") else output
    return entry(next(iter(values)))
