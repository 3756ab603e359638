"""Frozen encoders on one thread, against torchgeo, plain PyTorch and the peak of matrix products."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from torch.nn import functional
from torchvision.models import resnet18

from eo_causal.encode.base import ChipBatch, Normalisation
from eo_causal.encode.image import ImageEncoder, ImageSettings
from eo_causal.encode.networks import chosen_precision
from eo_causal.encode.random_features import RandomFeatures, RandomFeaturesSettings
from eo_causal.encode.video import VideoEncoder, VideoSettings
from eo_causal.encode.weights import fill_randomly

PEAK = 1536
BANDS, SIZE = 6, 64
RCF = RandomFeaturesSettings(
    n_filters=256,
    width=3,
    bias=-1,
    scale=False,
    pooling="mean",
    normalise="none",
    n_components=None,
)
RCF_GFLOP = 2 * 256 * 9 * BANDS * (SIZE - 2) ** 2 / 1e9
RESNET18_GFLOP, MVIT_GFLOP = 3.63, 128.0
Variants = dict[str, Callable[[], Any]]


def fitted(encoder: Any, n_bands: int) -> Any:
    """An encoder as it is after fitting on chips that are normalised already."""
    encoder.preparation.bands_ = tuple(map(str, range(n_bands)))
    encoder.preparation.chosen_ = tuple(range(n_bands))
    encoder.preparation.normalisation_ = Normalisation(np.zeros(n_bands), np.ones(n_bands))
    return encoder


def peaks() -> Variants:
    """Square matrix products in float32, by both libraries, and in bfloat16."""
    values = np.random.default_rng(0).standard_normal((PEAK, PEAK)).astype(np.float32)
    full = torch.from_numpy(values)
    half = full.to(torch.bfloat16)
    products: Variants = {
        "product, float32, numpy": lambda: values @ values,
        "product, float32, torch": lambda: full @ full,
    }
    if chosen_precision("auto") == "bfloat16":
        products["product, bfloat16, torch"] = lambda: half @ half
    return products


def peak_seconds(seconds: dict[str, list[float]], precision: str, gflop: float) -> list[float]:
    """Per round: what the work would take at the rate of the faster product."""
    rounds = zip(*(values for name, values in seconds.items() if precision in name), strict=True)
    return [min(values) * gflop / (2 * PEAK**3 / 1e9) for values in rounds]


def rate(rows: common.Rows, what: str, n: int, seconds: list[float]) -> None:
    """One variant's images (or clips) per CPU second."""
    value = n / float(np.median(seconds))
    print(f"  {what}: {value:,.2f} per CPU second")
    rows.rows.append({"benchmark": rows.benchmark, "what": what, "per_cpu_second": value})


def random_feature_variants(images: np.ndarray) -> Variants:
    """Ours, one convolution, and torchgeo where it is installed; the same filters in all."""
    ours = fitted(RandomFeatures(RCF, seed=1), BANDS)
    weights = torch.from_numpy(ours.filters(BANDS).copy())
    inputs = torch.from_numpy(images)

    def convolution() -> np.ndarray:
        with torch.inference_mode():
            outputs = functional.conv2d(inputs, weights) - 1
            positive = outputs.clamp_min(0).mean((2, 3))
            return torch.cat([positive, positive - outputs.mean((2, 3))], dim=1).numpy()

    variants: Variants = {
        "random features, ours": lambda: ours.encode_frames(images),
        "random features, one convolution": convolution,
    }
    try:
        from torchgeo import models
    except ImportError:
        print("  torchgeo is not installed: skipped")
        return variants
    reference = models.RCF(BANDS, 512, 3, -1.0)
    reference.weights.copy_(weights)
    variants["random features, torchgeo"] = lambda: reference(inputs).numpy()
    return variants


def exact_features(images: np.ndarray) -> np.ndarray:
    """The definition in float64."""
    filters = torch.from_numpy(RandomFeatures(RCF, seed=1).filters(BANDS).astype(float))
    outputs = functional.conv2d(torch.from_numpy(images.astype(float)), filters) - 1
    halves = [outputs.clamp_min(0), (-outputs).clamp_min(0)]
    return torch.cat([half.mean((2, 3)) for half in halves], dim=1).numpy()


def bench_random_features(rows: common.Rows, n: int) -> None:
    images = np.random.default_rng(1).standard_normal((n, BANDS, SIZE, SIZE)).astype(np.float32)
    print(f"random features: {n} images {BANDS} x {SIZE} x {SIZE}, answers against float64")
    variants = random_feature_variants(images)
    common.check_answers(variants, exact_features(images), 1e-5)
    if rows.arguments.light:
        return
    seconds = common.interleave(variants | peaks(), rows.arguments.reps)
    for name in variants:
        rate(rows, name, n, seconds[name])
    ours = seconds["random features, ours"]
    if "random features, torchgeo" in seconds:
        speed = common.ratio(seconds["random features, torchgeo"], ours)
        rows.add("P5", "random features against torchgeo", speed, 3.0)
    ideal = peak_seconds(seconds, "float32", n * RCF_GFLOP)
    rows.add("P5", "random features, share of float32 peak", common.ratio(ideal, ours), 0.5)


def resnet_variants(images: np.ndarray, size: int) -> Variants:
    """ResNet18 with equal weights: plain, channels last, and through the encoder."""
    plain = resnet18(weights=None)
    fill_randomly(plain, 0)
    plain.fc = torch.nn.Identity()
    plain.eval()
    last = resnet18(weights=None)
    last.fc = torch.nn.Identity()
    last.load_state_dict(plain.state_dict())
    last.eval().to(memory_format=torch.channels_last)
    inputs = torch.from_numpy(images)

    def run(network: torch.nn.Module, layout: torch.memory_format) -> np.ndarray:
        with torch.inference_mode():
            return network(inputs.contiguous(memory_format=layout)).numpy()

    def encoder(precision: str) -> Callable[[], np.ndarray]:
        settings = ImageSettings(
            name="resnet18", random_weights=True, pooling="mean", precision=precision,
            input_size=size,
        )  # fmt: skip
        made = fitted(ImageEncoder(settings, seed=0), 3)
        return lambda: made.encode_frames(images)

    variants: Variants = {
        "ResNet18, plain float32": lambda: run(plain, torch.contiguous_format),
        "ResNet18, channels last": lambda: run(last, torch.channels_last),
        "ResNet18, encoder float32": encoder("float32"),
    }
    if chosen_precision("auto") == "bfloat16":
        variants["ResNet18, encoder bfloat16"] = encoder("bfloat16")
    return variants


def cosines(run: Callable[[], np.ndarray], reference: np.ndarray) -> Callable[[], np.ndarray]:
    """Cosine of every embedding with its reference."""

    def compare() -> np.ndarray:
        found = run()
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
        return (found * reference).sum(axis=1) / lengths

    return compare


def bench_resnet(rows: common.Rows, n: int, size: int) -> None:
    images = np.random.default_rng(2).standard_normal((n, 3, size, size)).astype(np.float32)
    print(f"ResNet18: {n} images 3 x {size} x {size}, cosine to plain float32")
    variants = resnet_variants(images, size)
    reference = variants["ResNet18, plain float32"]()
    compared = {name: cosines(run, reference) for name, run in variants.items()}
    common.check_answers(compared, np.ones(n), 1e-3)
    if rows.arguments.light:
        return
    seconds = common.interleave(variants | peaks(), rows.arguments.reps)
    for name in variants:
        rate(rows, name, n, seconds[name])
    precision = chosen_precision("auto")
    ours = seconds[f"ResNet18, encoder {precision}"]
    ideal = peak_seconds(seconds, precision, n * RESNET18_GFLOP)
    rows.add("P6", f"ResNet18, share of {precision} peak", common.ratio(ideal, ours), 0.8)
    faster = common.ratio(seconds["ResNet18, plain float32"], ours)
    if precision == "bfloat16":
        rows.add("P6", "ResNet18 against plain float32", faster, 1.8)
    else:
        print(f"  this processor has no bfloat16: {faster} x plain float32 (no goal)")


def bench_video(rows: common.Rows) -> None:
    settings = VideoSettings(name="mvit_v2_s", random_weights=True)
    encoder = fitted(VideoEncoder(settings), 3)
    encoder.n_frames_, encoder.size_ = 16, (224, 224)
    clips = np.random.default_rng(3).standard_normal((1, 16, 3, 224, 224)).astype(np.float32)
    batch = ChipBatch(clips, 2000.0 + np.arange(16.0)[None], ("0", "1", "2"), ("clip",))
    seconds = common.interleave(
        {"MViT v2 S, clip": lambda: encoder.encode(batch)} | peaks(), rows.arguments.reps
    )
    rate(rows, "MViT v2 S, clip of 16 x 224 x 224", 1, seconds["MViT v2 S, clip"])
    ideal = peak_seconds(seconds, chosen_precision("auto"), MVIT_GFLOP)
    share = common.ratio(ideal, seconds["MViT v2 S, clip"])
    print(f"  share of {chosen_precision('auto')} peak: {share} (no goal)")


def main() -> None:
    flags = common.parser(__doc__ or "")
    flags.add_argument("--images", type=int, default=32, help="of random features")
    flags.add_argument("--photos", type=int, default=16, help="of ResNet18")
    arguments = flags.parse_args()
    size = 224
    if arguments.light:
        arguments.images, arguments.photos, size = 3, 2, 64
    threads = os.environ["OMP_NUM_THREADS"]
    os.environ["EO_CAUSAL_TORCH_THREADS"] = threads
    torch.set_num_threads(int(threads))
    rows = common.Rows(
        "b3_encoders", arguments, "numpy", "torch", "torchvision", "torchgeo", "numba"
    )
    with warnings.catch_warnings(record=True):  # random weights are what is timed here
        bench_random_features(rows, arguments.images)
        bench_resnet(rows, arguments.photos, size)
        if not arguments.light:
            bench_video(rows)
    rows.write()


if __name__ == "__main__":
    main()
