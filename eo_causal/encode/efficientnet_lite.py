"""EfficientNet-Lite0: the network, with names and padding of the published weights.

EfficientNet-Lite is EfficientNet (arXiv 1905.11946) without squeeze-and-excitation, with ReLU6 and
with an unscaled stem and head. The weights were trained in TensorFlow, whose SAME padding depends
on the size of the input and puts the odd pixel to the bottom and right; with symmetric padding the
logits move by about 3.
"""

from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3
STAGES = (
    # repeats, kernel, stride of the first, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after an axis so that ceil(length / stride) outputs fit (TensorFlow SAME)."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution without bias that pads its input as TensorFlow does."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(n_in, n_out, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows = same_padding(input.shape[2], kernel, stride)
        columns = same_padding(input.shape[3], kernel, stride)
        if rows[0] == rows[1] and columns[0] == columns[1]:
            padding = (rows[0], columns[0])
            return functional.conv2d(
                input, self.weight, None, self.stride, padding, groups=self.groups
            )
        padded = functional.pad(input, (*columns, *rows))
        return functional.conv2d(padded, self.weight, None, self.stride, groups=self.groups)


class Block(nn.Module):
    """Expand, convolve every channel by itself, project; added to its input where shapes agree."""

    def __init__(self, kernel: int, stride: int, expansion: int, n_in: int, n_out: int) -> None:
        super().__init__()
        n_inner = n_in * expansion
        self.expands = expansion != 1
        self.skips = stride == 1 and n_in == n_out
        if self.expands:
            self._expand_conv = SameConv2d(n_in, n_inner)
            self._bn0 = nn.BatchNorm2d(n_inner, eps=EPSILON)
        self._depthwise_conv = SameConv2d(n_inner, n_inner, kernel, stride, groups=n_inner)
        self._bn1 = nn.BatchNorm2d(n_inner, eps=EPSILON)
        self._project_conv = SameConv2d(n_inner, n_out)
        self._bn2 = nn.BatchNorm2d(n_out, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        inner = maps
        if self.expands:
            inner = functional.relu6(self._bn0(self._expand_conv(inner)))
        inner = functional.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return maps + inner if self.skips else inner


class EfficientNetLite0(nn.Module):
    """Images (image, 3, y, x) to class scores; the last map has 1,280 channels."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=EPSILON)
        blocks = []
        for repeats, kernel, stride, expansion, n_in, n_out in STAGES:
            blocks.append(Block(kernel, stride, expansion, n_in, n_out))
            blocks += [Block(kernel, 1, expansion, n_out, n_out) for _ in range(repeats - 1)]
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(320, 1280)
        self._bn1 = nn.BatchNorm2d(1280, eps=EPSILON)
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self._fc: nn.Module = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            maps = block(maps)
        maps = functional.relu6(self._bn1(self._conv_head(maps)))
        return self._fc(self.avgpool(maps).flatten(1))
