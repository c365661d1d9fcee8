"""Max pooling of patches that do not overlap, as maxima of slices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

# A patch costs so many passes, less one; torch's own kernel looks at each element once, but not
# with vector instructions where the channels are not innermost.
_MOST = 9


def max_pool2d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """`aten.max_pool2d`: the same numbers, on a CPU several times as fast.

    Args:
        x: `[..., H, W]`.
        kernel_size: as for `torch.nn.functional.max_pool2d`, as are the others.
        stride: `kernel_size` where it is empty.
        padding: of both sides.
        dilation: of the kernel.
        ceil_mode: whether patches may reach over the edge.
    """
    down, across = _pair(kernel_size)
    height, width = x.shape[-2] // down * down, x.shape[-1] // across * across
    simple = (
        _pair(stride or kernel_size) == (down, across)
        and (_pair(padding), _pair(dilation), ceil_mode) == ((0, 0), (1, 1), False)
        and down * across <= _MOST
        and height * width > 0
    )
    if not simple or x.device.type not in ("cpu", "meta"):
        return torch.ops.aten.max_pool2d.default(  # type: ignore[no-any-return]
            x, kernel_size, stride, padding, dilation, ceil_mode
        )
    rows = reduce(torch.maximum, [x[..., i:height:down, :width] for i in range(down)])
    return reduce(torch.maximum, [rows[..., i::across] for i in range(across)])


def _pair(size: Sequence[int] | int) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])
