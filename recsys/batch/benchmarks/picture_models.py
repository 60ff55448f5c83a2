"""Picture encoders without Ray: decoding alone, encoding alone, and both together beside a plain
loop over torch's DataLoader."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from recsys.encoders.efficientnet import EfficientNetEncoder, padded_square
from recsys.encoders.vision import VisionEncoder
from recsys.errors import InputError
from recsys.evaluation.results import Row, say
from recsys.interfaces import PictureEncoder
from recsys.pictures.decode import decode_picture

PictureEncoderFactory = Callable[[], PictureEncoder]
#: A model and a batch to vectors.
Forward = Callable[[Any, Any], Any]
#: Pictures of a batch of the plain loop, and of ours.
PLAIN_BATCH, BATCH = 64, 256
#: The same without a GPU.
CPU_BATCH = 16
#: So many are drawn; the others are these with other bytes behind their end.
DRAWN = 256


def draw_picture(seed: int) -> bytes:
    """A JPEG of a shop's: 500 to 1,000 pixels a side, a few shapes with texture on white."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(500, 1_001, 2).tolist()
    values = np.full((height, width, 3), 255.0)
    y, x = np.mgrid[:height, :width]
    for _ in range(6):
        center, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.35, 2)
        inside = ((x / width - center[0]) / radius[0]) ** 2
        inside = inside + ((y / height - center[1]) / radius[1]) ** 2 < 1
        waves = np.sin(x * rng.uniform(0.02, 0.3) + y * rng.uniform(0.02, 0.3))
        texture = rng.normal(0, 12, (int(inside.sum()), 1)) + 30 * waves[inside][:, None]
        values[inside] = rng.uniform(0, 255, 3) + texture
    sink = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=85)
    return sink.getvalue()


def picture_number(drawn: list[bytes], number: int) -> bytes:
    """No two are equal."""
    return drawn[number % len(drawn)] + number.to_bytes(8)


def draw_pictures(count: int) -> list[bytes]:
    with _pool() as pool:
        return list(pool.map(draw_picture, range(min(count, DRAWN)), chunksize=8))


def read_pictures(path: str) -> list[bytes]:
    """Those of a Parquet's column `image`."""
    table = pq.read_table(path)
    if "image" not in table.column_names:
        raise InputError(f"{path} has no column image: name a Parquet of encoded pictures")
    if pictures := [each for each in table["image"].to_pylist() if isinstance(each, bytes)]:
        return pictures
    raise InputError(f"the images of {path} are no bytes: name a Parquet of encoded pictures")


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(cores(), get_context("spawn"))


def decode(make: PictureEncoderFactory, pictures: list[bytes]) -> NDArray[np.uint8]:
    """As the night does it."""
    encoder = _encoder(make)
    return encoder.pixels([decode_picture(picture, encoder.side) for picture in pictures])


def _encoder(make: PictureEncoderFactory) -> PictureEncoder:
    """The one of this process."""
    if repr(make) not in _ENCODERS:
        _ENCODERS[repr(make)] = make()
    return _ENCODERS[repr(make)]


_ENCODERS: dict[str, PictureEncoder] = {}


def decode_rate(make: PictureEncoderFactory, drawn: list[bytes], seconds: float) -> float:
    """Pictures a second of one process a core."""
    with _pool() as pool:
        work = partial(_decode_for_seconds, make, drawn)
        list(pool.map(work, [0.1] * cores()))  # they start
        return sum(pool.map(work, [seconds] * cores()))


def _decode_for_seconds(make: PictureEncoderFactory, drawn: list[bytes], seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        start = count % len(drawn)
        batch = drawn[start : start + 64]
        decode(make, batch)
        count += len(batch)
    return count / passed


def encode_rate(make: PictureEncoderFactory, drawn: list[bytes], seconds: float) -> float:
    """Pictures a second: of one process with a GPU, else of one a core."""
    import torch

    if torch.cuda.is_available():
        pixels = decode(make, drawn)
        return _encode_for_seconds(make, np.concatenate([pixels] * 8), seconds)
    pixels = decode(make, drawn[:64])
    with _pool() as pool:
        work = partial(_encode_for_seconds, make, pixels)
        list(pool.map(work, [0.1] * cores()))
        return sum(pool.map(work, [seconds] * cores()))


def _encode_for_seconds(
    make: PictureEncoderFactory, pixels_NSSC: NDArray[np.uint8], seconds: float
) -> float:
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    encoder = _encoder(make)
    encoder.encode_pixels(pixels_NSSC)
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        encoder.encode_pixels(pixels_NSSC)
        count += len(pixels_NSSC)
    return count / passed


def vit_b(folder: str) -> VisionEncoder:
    """ViT-B/16 with random weights, saved to the folder where it is not there."""
    from transformers import ViTConfig, ViTModel

    if not Path(folder, "config.json").exists():
        ViTModel(ViTConfig()).save_pretrained(folder)
        processor = '{"size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
        Path(folder, "preprocessor_config.json").write_text(processor)
    return VisionEncoder(folder)


class PictureBytes:
    """Number to bytes: what both loops' data sets read."""

    def __init__(self, drawn: list[bytes], count: int) -> None:
        self.drawn, self.count = drawn, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> bytes:
        return picture_number(self.drawn, number)


class PlainPictures(PictureBytes):
    """Decoded and normalised as tutorials do it."""

    def __getitem__(self, number: int) -> Any:
        picture = Image.open(io.BytesIO(super().__getitem__(number))).convert("RGB")
        pixels_SSC = np.asarray(padded_square(picture, 224), np.float32)
        return ((pixels_SSC - 127) / 128).transpose(2, 0, 1)


def plain_rate(model: Any, forward: Forward, drawn: list[bytes], count: int) -> float:
    """Pictures a second, from bytes to vectors in memory, of a DataLoader with a worker a core and
    a float32 model in a loop."""
    import torch
    from torch.utils.data import DataLoader

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().to(device)
    loader: Any = DataLoader(
        PlainPictures(drawn, count),  # type: ignore[arg-type]
        batch_size=PLAIN_BATCH if device == "cuda" else CPU_BATCH,
        num_workers=cores(),
        pin_memory=device == "cuda",
    )
    rate, vectors = _Rate(), []
    with torch.inference_mode():
        for batch_NCSS in loader:
            vectors.append(forward(model, batch_NCSS.to(device)).cpu())
            rate.add(len(batch_NCSS))
    return rate.per_second


def our_rate(make: PictureEncoderFactory, drawn: list[bytes], count: int) -> float:
    """The same of our decoding and our encoder."""
    import torch
    from torch.utils.data import DataLoader

    encoder = make()
    encoder.load()
    loader: Any = DataLoader(
        PictureBytes(drawn, count),  # type: ignore[arg-type]
        batch_size=BATCH if torch.cuda.is_available() else CPU_BATCH,
        num_workers=cores(),
        collate_fn=partial(_collate, make),
        prefetch_factor=4,
    )
    rate, vectors = _Rate(), []
    for batch_NSSC in loader:
        vectors.append(encoder.encode_pixels(batch_NSSC.numpy()))
        rate.add(len(batch_NSSC))
    return rate.per_second


def _collate(make: PictureEncoderFactory, pictures: list[bytes]) -> Any:
    import torch

    return torch.from_numpy(decode(make, pictures))


class _Rate:
    """Pictures a second from the fifth batch on: workers start, and models are warmed up."""

    def __init__(self) -> None:
        self.batches = self.count = 0
        self.started = time.perf_counter()

    def add(self, pictures: int) -> None:
        self.batches += 1
        if self.batches == 5:
            self.count, self.started = 0, time.perf_counter()
        else:
            self.count += pictures

    @property
    def per_second(self) -> float:
        return self.count / (time.perf_counter() - self.started)


def benchmark_models(drawn: list[bytes], count: int, folder: str) -> Iterator[Row]:
    """Rows of lite0 and ViT-B: ours, and the plain loop of each."""
    encoders: dict[str, PictureEncoderFactory] = {
        "lite0": EfficientNetEncoder,
        "ViT-B": partial(vit_b, folder),
    }
    for name, make in encoders.items():
        plain = plain_rate(*_plain_model(name, folder), drawn, count)
        say(f"{name}, plain DataLoader loop: {plain:,.0f} pictures/s")
        yield {"name": f"{name}, plain DataLoader loop", "pictures_per_s": plain}
        ours = our_rate(make, drawn, count)
        say(f"{name}, nightshelf: {ours:,.0f} pictures/s")
        yield {"name": f"nightshelf, {name}", "pictures_per_s": ours, "ratio": ours / plain}
        encode = encode_rate(make, drawn, 3)
        yield {"name": f"{name}, encode alone", "pictures_per_s": encode}


def _plain_model(name: str, folder: str) -> tuple[Any, Forward]:
    if name == "ViT-B":
        from transformers import ViTModel

        vit_b(folder)
        model = ViTModel.from_pretrained(folder)
        return model, lambda model, x: model(pixel_values=x).last_hidden_state[:, 0]
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    return model, lambda model, x: model.extract_features(x).mean(dim=(2, 3))
