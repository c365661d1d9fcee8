"""Embedding dropout: words, not elements of their vectors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class EmbeddingDropout(nn.Module):
    r"""Looks words up, and drops word types: wherever a word stands in a row, it shares its fate.

    .. math:: y_{bt} = \frac{E_{w_{bt}}\, m_{b, w_{bt}}}{1 - p}, \quad
              m_{bv} \sim \mathrm{Bern}(1 - p)

    Each row has a mask of its own over the vocabulary, as each sequence has in the paper. In
    evaluation the embedding as it is.

    Shapes: words int64 `[B, T]` (or `[B]`) to `[B, T, F]` (or `[B, F]`).

    Args:
        embedding: E; it lies in `embedding`, and its weight in the state as there.
        p: probability to drop a word type.

    Raises:
        InputError: `p` is no probability, `embedding` is no embedding, or the words have neither
            one nor two axes.

    Source: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in recurrent
    neural networks", section 4.2.

    Example:
        >>> import torch
        >>> words = torch.tensor([[3, 1, 3]])
        >>> y = EmbeddingDropout(nn.Embedding(5, 2), p=0.5)(words)
        >>> bool((y[0, 0] == y[0, 2]).all())
        True
    """

    def __init__(self, embedding: nn.Embedding, p: float = 0.1) -> None:
        super().__init__()
        if not isinstance(embedding, nn.Embedding):
            raise InputError(f"embedding must be a torch.nn.Embedding; got {embedding!r}")
        self.embedding = embedding
        self.p = checked_rate(p)

    def forward(self, words: Tensor) -> Tensor:
        """Look up, and drop."""
        if words.ndim not in (1, 2):
            raise InputError(f"EmbeddingDropout takes words [B, T] or [B]; got {words.ndim} axes")
        vectors: Tensor = self.embedding(words)
        if not self.training or self.p == 0.0:
            return vectors
        types = vectors.new_ones((words.shape[0], self.embedding.num_embeddings))
        mask = F.dropout(types, self.p)
        kept = mask.gather(1, words if words.ndim == 2 else words[:, None]).reshape(words.shape)
        return vectors * kept[..., None]

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p}"
