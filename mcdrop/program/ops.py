"""Which operations an artifact may hold, and what their names stand for.

The list is of functional ATen ops that read nothing but their arguments: nothing that touches
files, storage, pointers, strides or process state, and nothing that writes into an argument.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from mcdrop.errors import ArtifactError
from mcdrop.program.drawn import DRAWN
from mcdrop.program.variational_rnn import VARIATIONAL_RNN

# Arithmetic on sizes.
SYMBOLIC: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "sym.add": operator.add,
        "sym.sub": operator.sub,
        "sym.mul": operator.mul,
        "sym.floordiv": operator.floordiv,
        "sym.truediv": operator.truediv,
        "sym.mod": operator.mod,
        "sym.neg": operator.neg,
        "sym.eq": operator.eq,
        "sym.ne": operator.ne,
        "sym.lt": operator.lt,
        "sym.le": operator.le,
        "sym.gt": operator.gt,
        "sym.ge": operator.ge,
        "sym.sym_max": torch.sym_max,
        "sym.sym_min": torch.sym_min,
        "sym.sym_int": torch.sym_int,
        "sym.sym_float": torch.sym_float,
        "sym.sym_not": torch.sym_not,
        "sym.sym_ite": torch.sym_ite,
    }
)
GETITEM = "getitem"
SYMBOLIC_NAMES: Mapping[Any, str] = MappingProxyType(
    {operator.getitem: GETITEM, **{function: name for name, function in SYMBOLIC.items()}}
)

_ALLOWED = """
_fft_c2c _fft_c2r _fft_r2c _log_softmax _native_batch_norm_legit_no_training _safe_softmax _softmax
_to_copy _unsafe_index _unsafe_view _weight_norm
abs acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv alias all
alpha_dropout amax amin any arange argmax argmin argsort asin asinh atan atan2 atanh avg_pool1d
avg_pool2d avg_pool3d baddbmm batch_norm bernoulli bilinear bitwise_and bitwise_left_shift
bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm broadcast_to bucketize cat cdist ceil
celu channel_shuffle chunk clamp clamp_max clamp_min clone complex concat constant_pad_nd contiguous
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution copy cos cosh
cosine_similarity cummax cummin cumprod cumsum deg2rad detach diag diag_embed diagonal
diagonal_scatter diff div dot dropout einsum elu embedding embedding_bag eq erf
erfc erfinv exp exp2 expand expand_as expm1 exponential eye feature_alpha_dropout feature_dropout
fft_fft fft_fft2 fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft
fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn fill flatten flip floor floor_divide fmax fmin
fmod frac full full_like gather ge gelu glu grid_sampler group_norm gru gt hardshrink hardsigmoid
hardswish hardtanh heaviside hypot im2col index index_add index_put index_select instance_norm
isfinite isinf isnan isneginf isposinf kron layer_norm le leaky_relu lerp lgamma lift_fresh
lift_fresh_copy linalg_cross linalg_norm linalg_vector_norm linear linspace log log10 log1p log2
log_sigmoid log_softmax logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit
logspace logsumexp lstm lt masked_fill masked_scatter matmul max max_pool1d max_pool2d max_pool3d
maximum mean median meshgrid min minimum mish mm movedim mul mv nan_to_num narrow
native_group_norm native_layer_norm ne neg new_full new_ones new_zeros norm normal
normal_functional one_hot ones ones_like outer pad permute pixel_shuffle pixel_unshuffle polar pow
prelu prod rad2deg rand rand_like randn randn_like real reciprocal reflection_pad1d
reflection_pad2d reflection_pad3d relu relu6 remainder repeat repeat_interleave replication_pad1d
replication_pad2d replication_pad3d reshape rms_norm rnn_relu rnn_tanh roll rot90 round rsqrt rsub
scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted select
select_scatter selu sgn sigmoid sign signbit silu sin sinc sinh slice slice_scatter softmax
softplus softshrink sort special_entr special_erf special_expit special_log_ndtr special_ndtr
special_ndtri special_xlogy split split_with_sizes sqrt square squeeze stack std std_mean sub sum
swapaxes sym_numel sym_size t take take_along_dim tan tanh tensor_split threshold tile topk
transpose trapezoid tril tril_indices triu triu_indices true_divide trunc unbind unflatten unfold
uniform unsafe_chunk unsafe_split unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean vdot view
view_as where xlogy zeros zeros_like
__and__ __or__ __xor__ __lshift__ __rshift__
"""
ALLOWED: frozenset[str] = frozenset(_ALLOWED.split())


def allowed(op: str) -> bool:
    """Whether an artifact may hold the operation `op`."""
    if op in SYMBOLIC or op in (GETITEM, DRAWN, VARIATIONAL_RNN):
        return True
    parts = op.split(".")
    if len(parts) != 3 or parts[0] != "aten" or parts[1] not in ALLOWED:
        return False
    packet = getattr(torch.ops.aten, parts[1], None)
    if packet is None or parts[2] not in packet.overloads():
        return False
    return not getattr(packet, parts[2])._schema.is_mutable  # noqa: SLF001 (no public accessor)


def _on_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Size arithmetic within 64 bits, whatever a hostile graph asks for."""

    def bounded(*args: Any) -> Any:
        if not all(isinstance(arg, int | float) for arg in args):
            raise TypeError("size arithmetic takes numbers only")
        value = function(*args)
        if abs(value) >= 2**63:
            raise OverflowError("a size does not fit in 64 bits")
        return value

    return bounded


def _getitem(values: Any, index: Any) -> Any:
    """One of several outputs of a node."""
    if not isinstance(values, tuple | list) or not isinstance(index, int):
        raise TypeError("getitem picks an output by its number")
    return values[index]


def is_random(op: str) -> bool:
    """Whether an ATen operation may draw random numbers."""
    if not op.startswith("aten."):
        return False
    tags: Sequence[torch.Tag] = getattr(resolve(op), "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def resolve(op: str) -> Callable[..., Any]:
    """The function behind an operation's name.

    Raises:
        ArtifactError: the name is not an operation that this torch knows.
    """
    if op in SYMBOLIC:
        return _on_sizes(SYMBOLIC[op])
    if op == GETITEM:
        return _getitem
    namespace, _, rest = op.partition(".")
    packet, _, overload = rest.rpartition(".")
    try:
        function: Callable[..., Any] = getattr(
            getattr(getattr(torch.ops, namespace), packet), overload
        )
    except (AttributeError, RuntimeError):
        raise ArtifactError(
            f"operation {op!r} is unknown to torch {torch.__version__}; the artifact was made with "
            "another version or is damaged"
        ) from None
    return function
