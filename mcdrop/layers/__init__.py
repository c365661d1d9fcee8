"""The dropout family: one technique a file, each a layer that Monte Carlo prediction samples.

Every layer trains as any module does, is found as a site by `mcdrop.capture`, is sampled by every
engine, and travels in artifacts. `mcdrop.regularization(model)` sums what some add to the loss;
`mcdrop.schedules` drives the rates of those that have an attribute `p` to set. Layers of your own
say what they drew by `drawn`.
"""

from mcdrop.layers.adaptive import AdaptiveDropout
from mcdrop.layers.attention import AttentionDropout
from mcdrop.layers.attention_drop import AttentionDropLayer
from mcdrop.layers.concrete import ConcreteDropout
from mcdrop.layers.concrete_spatial import ConcreteSpatialDropout
from mcdrop.layers.drop_block import DropBlock
from mcdrop.layers.drop_connect import DropConnect
from mcdrop.layers.drop_path import DropPath
from mcdrop.layers.embedding import EmbeddingDropout
from mcdrop.layers.gaussian import GaussianDropout
from mcdrop.layers.group import GroupDropout
from mcdrop.layers.head import HeadDropout
from mcdrop.layers.inverted import Dropout
from mcdrop.layers.locked import LockedDropout
from mcdrop.layers.meta import MetaDropout
from mcdrop.layers.regularization import Regularized, regularization
from mcdrop.layers.sparse_variational import SparseVariationalDropout
from mcdrop.layers.spatial import SpatialDropout
from mcdrop.layers.standard import StandardDropout
from mcdrop.layers.variational import VariationalDropout
from mcdrop.layers.variational_gru import VariationalGRU
from mcdrop.layers.variational_lstm import VariationalLSTM
from mcdrop.program.drawn import drawn

__all__ = [
    "AdaptiveDropout",
    "AttentionDropLayer",
    "AttentionDropout",
    "ConcreteDropout",
    "ConcreteSpatialDropout",
    "DropBlock",
    "DropConnect",
    "DropPath",
    "Dropout",
    "EmbeddingDropout",
    "GaussianDropout",
    "GroupDropout",
    "HeadDropout",
    "LockedDropout",
    "MetaDropout",
    "Regularized",
    "SparseVariationalDropout",
    "SpatialDropout",
    "StandardDropout",
    "VariationalDropout",
    "VariationalGRU",
    "VariationalLSTM",
    "drawn",
    "regularization",
]
