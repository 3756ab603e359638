"""SAME padding on odd and even sizes, shapes, and the published weights in their places."""

import pytest
import torch
from torch.nn import functional

from eo_causal.encode.efficientnet_lite import EfficientNetLite0, SameConv2d, same_padding
from eo_causal.encode.image import LITE0_SHA256, packaged_weights
from eo_causal.encode.weights import read_weights


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (225, 3, 2, (1, 1)),
        (112, 5, 2, (1, 2)),
        (7, 5, 2, (2, 2)),
        (8, 5, 1, (2, 2)),
        (7, 3, 1, (1, 1)),
        (5, 1, 2, (0, 0)),
        (1, 5, 2, (2, 2)),
    ],
)
def test_padding_is_that_of_tensorflow(length, kernel, stride, expected):
    assert same_padding(length, kernel, stride) == expected
    outputs = (length + sum(expected) - kernel) // stride + 1
    assert outputs == -(-length // stride)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 7), (8, 7), (7, 10)])
def test_the_odd_pixel_goes_to_the_bottom_and_right(height, width):
    convolution = SameConv2d(1, 1, 3, 2)
    images = torch.rand(1, 1, height, width)
    padded = functional.pad(images, (*same_padding(width, 3, 2), *same_padding(height, 3, 2)))
    expected = functional.conv2d(padded, convolution.weight, stride=2)
    with torch.no_grad():
        found = convolution(images)
    torch.testing.assert_close(found, expected.detach())
    assert found.shape[2:] == (-(-height // 2), -(-width // 2))


def test_the_published_weights_fit_without_exception():
    state = read_weights(packaged_weights(), LITE0_SHA256)
    assert len(state) == 296
    network = EfficientNetLite0().eval()
    network.load_state_dict(state, strict=True)
    numbers = [item for key, item in state.items() if not key.endswith("num_batches_tracked")]
    assert sum(item.numel() for item in numbers) == 4_694_024


def test_the_last_map_has_1280_channels_of_a_32nd_of_the_size():
    network = EfficientNetLite0().eval()
    network.avgpool = network._fc = torch.nn.Identity()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 95)).shape == (1, 1280 * 2 * 3)
