"""Blocks of all networks: residual, down, up, and windowed attention.

Maps are float32 (N, C, H, W). The memory format channels_last is kept, and attention gives it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.architecture import WINDOW, norm_groups

SHIFT = WINDOW // 2
TOKENS = WINDOW * WINDOW


class _BFloat16Norm(torch.autograd.Function):
    """Group normalisation of bfloat16 maps on a CPU.

    PyTorch's backward pass takes seven times as long where such maps are channels last. This one
    copies them to the layout that is fast, and its result back.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        n, channels, height, width = x.shape
        size = (n, channels, height * width, groups)
        out, mean, rstd = torch.native_group_norm(x, weight, bias, *size, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.size = size
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, mean, rstd = ctx.saved_tensors
        (gradient,) = (each.contiguous() for each in gradients)
        to_x, to_weight, to_bias = torch.ops.aten.native_group_norm_backward(
            gradient, x.contiguous(), mean, rstd, weight, *ctx.size, [True, True, True]
        )
        layout = torch.channels_last
        return to_x.contiguous(memory_format=layout), None, to_weight, to_bias, None


class Norm(nn.GroupNorm):
    """Group normalisation with the group count of the paper, scaled with the channels."""

    def __init__(self, channels: int, single: bool = False) -> None:
        super().__init__(norm_groups(channels, single), channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            own: Tensor = _BFloat16Norm.apply(x, self.num_groups, self.weight, self.bias, self.eps)
            return own
        # Unlike the module, torch.group_norm accepts groups of a single value (1x1 maps).
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def conv3(channels_in: int, channels_out: int, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps height and width."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=bias)


class Res(nn.Module):
    """Residual block: twice (norm, SiLU, 3x3 convolution), and the input is added.

    The weights of the second convolution start at zero. A new block adds a constant for each
    channel (its bias) to the shortcut, and a network learns in far fewer steps. `single` is that
    of `norm_groups`.
    """

    def __init__(
        self, channels_in: int, channels_out: int | None = None, single: bool = False
    ) -> None:
        super().__init__()
        channels_out = channels_out or channels_in
        self.norm1 = Norm(channels_in, single)
        self.conv1 = conv3(channels_in, channels_out)
        self.norm2 = Norm(channels_out, single)
        self.conv2 = conv3(channels_out, channels_out)
        nn.init.zeros_(self.conv2.weight)
        self.shortcut = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h.add_(self.shortcut(x))


class Down(nn.Module):
    """Halves the sides and doubles the channels: 3x3 convolution and pixel unshuffling."""

    def __init__(self, channels: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = conv3(channels, channels // 2, bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(self.conv(x), 2)


class Up(nn.Module):
    """Doubles the sides: nearest neighbour and a 3x3 convolution.

    Computes the equal transposed convolution, whose kernel is the 3x3 kernel spread over 2x2. It
    takes four products instead of nine, no enlarged map, and half the time.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)

    def kernel(self) -> Tensor:
        """Kernel of the transposed convolution: (channels, channels, 4, 4)."""
        kernel = F.pad(self.conv.weight.flip(2, 3), (1, 1, 1, 1))
        kernel = kernel[..., 1:, :] + kernel[..., :-1, :]
        return (kernel[..., 1:] + kernel[..., :-1]).transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.kernel(), self.conv.bias, stride=2, padding=1)


def relative_position_index() -> Tensor:
    """Row of the bias table for each pair of tokens in a window: int64 (64, 64).

    Tokens are numbered row by row. The row is (dy + 7) * 15 + (dx + 7) for query minus key.
    """
    side = torch.arange(WINDOW)
    y, x = side.repeat_interleave(WINDOW), side.repeat(WINDOW)
    dy, dx = (c[:, None] - c[None, :] + WINDOW - 1 for c in (y, x))
    return dy * (2 * WINDOW - 1) + dx


@lru_cache(maxsize=32)
def shift_mask(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Mask added to the scores of shifted windows: (windows, 1, 64, 64), 0 or minus infinity.

    It is made on the device, so that no copy waits for it.

    After a shift the last row and column of windows hold tokens from opposite borders, between
    which there is no attention. The published network adds -100 instead. Results are equal to the
    last bit unless scores in a window differ by more than 80. But exp(-100) is a denormal number,
    and products with it take a CPU several times as long.
    """

    def regions(side: int) -> Tensor:
        place = torch.arange(side, device=device)
        return (place >= side - WINDOW).long() + (place >= side - SHIFT).long()

    # A mask made in inference mode could never be used in training again.
    with torch.inference_mode(False), torch.no_grad():
        region = 3 * regions(height)[:, None] + regions(width)[None, :]
        windows = region.view(height // WINDOW, WINDOW, width // WINDOW, WINDOW)
        windows = windows.transpose(1, 2).reshape(-1, 1, TOKENS)
        apart = windows[..., :, None] != windows[..., None, :]
        none = torch.zeros(apart.shape, device=device, dtype=dtype)
        return none.masked_fill_(apart, -torch.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention, `bias` added to the scores; all (batch, heads, tokens, ...)."""
    if bias.requires_grad and not q.is_cuda:
        # PyTorch's function has no fast CPU path for a learned bias; this takes 3/4 of its time.
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + bias).softmax(3) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class WindowAttention(nn.Module):
    """Multi-head attention in 8x8 windows (64 tokens), which are shifted by 4 if asked.

    Maps here are (N, H, W, C), H and W multiples of 8. Shifted windows take the `shift_mask` of
    their map.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.heads = heads
        self.shifted = shifted
        self.position_bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("index", relative_position_index(), persistent=False)
        nn.init.trunc_normal_(self.position_bias, std=0.02)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        rows, columns = height // WINDOW, width // WINDOW
        if self.shifted:
            x = x.roll((-SHIFT, -SHIFT), (1, 2))
        # One copy separates windows and heads: 3, N, rows, columns, heads, 8, 8, C / heads.
        qkv = self.qkv(x).view(n, rows, WINDOW, columns, WINDOW, 3, self.heads, -1)
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).contiguous()
        bias = self.position_bias.t()[:, self.index].unsqueeze(0)  # 1, heads, 64, 64
        if self.shifted:
            # The mask differs between the windows of an image, not between images.
            bias = (bias + mask).view(1, -1, TOKENS, TOKENS)
        q, k, v = qkv.view(3, -1, bias.shape[1], TOKENS, channels // self.heads)
        x = attend(q, k, v, bias.to(q.dtype))
        x = x.view(n, rows, columns, self.heads, WINDOW, WINDOW, -1)
        x = self.proj(x.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, height, width, channels))
        return x.roll((SHIFT, SHIFT), (1, 2)) if self.shifted else x


class MLP(nn.Module):
    """Two linear layers with GELU between them and four times the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Window attention and an MLP, each after a layer norm and with its input added."""

    def __init__(self, channels: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, shifted)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(self.norm1(x), mask).add_(x)
        return self.mlp(self.norm2(x)).add_(x)


class SwinGroup(nn.Module):
    """`depth` Swin blocks, every second with shifted windows, and the input is added.

    With `conv`, a 3x3 convolution precedes the addition. Sides are multiples of 8.
    """

    def __init__(self, channels: int, heads: int, depth: int, conv: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(SwinBlock(channels, heads, shifted=bool(i % 2)) for i in range(depth))
        )
        self.conv = conv3(channels, channels) if conv else nn.Identity()
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = x.permute(0, 2, 3, 1).contiguous()
        mask = self._mask(x)  # here, as a compiled block would make it anew at each step
        for block in self.blocks:
            h = block(h, mask)
        return self.conv(h.permute(0, 3, 1, 2)).add_(x)

    def _mask(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # While a network is traced for export, sides are tensors and cannot be cache keys.
        make = shift_mask.__wrapped__ if torch.jit.is_tracing() else shift_mask
        return make(height, width, x.device, next(self.blocks.parameters()).dtype)


BLOCKS = (Res, Down, Up, SwinBlock)
"""Blocks that trainings compile and recompute one by one."""
