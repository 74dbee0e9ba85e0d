"""Perceptual distances: equal to pyiqa's, with gradients, strict about their weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import vgg16

from tvqrap.losses.perceptual_weights import (
    Backbone,
    lpips_vgg,
    perceptual_distance,
    stlpips,
    stlpips_weights,
)
from tvqrap.runtime.errors import UserError

BACKBONES: tuple[Backbone, ...] = ("alex", "vgg")


def images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator)
    return image, 0.5 * image + 0.5 * torch.rand(shape, generator=generator)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_stlpips_equals_pyiqa(backbone: Backbone) -> None:
    import pyiqa

    name = "stlpips" if backbone == "alex" else "stlpips-vgg"
    metric = pyiqa.create_metric(
        name,
        device=torch.device("cpu"),
        pretrained_model_path=str(stlpips_weights(backbone)),
    )
    ours = stlpips(backbone)
    for shape in ((2, 3, 64, 64), (1, 3, 37, 50)):
        image, target = images(*shape)
        expected = metric(image, target).flatten()
        torch.testing.assert_close(ours(image * 2 - 1, target * 2 - 1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_gradient_reaches_the_image_alone(backbone: Backbone) -> None:
    distance = stlpips(backbone)
    image, target = (x * 2 - 1 for x in images(2, 3, 32, 32))
    image.requires_grad_()
    target.requires_grad_()
    distance(image, target).sum().backward()
    assert image.grad is not None and image.grad.isfinite().all() and image.grad.abs().sum() > 0
    assert target.grad is None
    assert not any(p.requires_grad for p in distance.parameters())
    assert not distance.train().training


def test_features_of_the_target_can_be_used_again() -> None:
    distance = stlpips("alex")
    image, target = (x * 2 - 1 for x in images(2, 3, 32, 32))
    torch.testing.assert_close(distance(image, distance.features(target)), distance(image, target))
    assert (distance(image, image) == 0).all()


def test_flat_images_have_a_finite_gradient() -> None:
    distance = stlpips("alex")
    for level in (-1.0, 0.0, 1.0):
        image = torch.full((1, 3, 32, 32), level, requires_grad=True)
        distance(image, images(1, 3, 32, 32)[0]).sum().backward()
        assert image.grad is not None and image.grad.isfinite().all()


def test_images_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="20x40 image, at least 21"):
        stlpips("vgg").features(torch.zeros(1, 3, 40, 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("lin2.model.1.weight"), "'lin2.model.1.weight' is missing"),
        (lambda w: w.update(more=torch.zeros(1)), "unexpected tensor 'more'"),
        (lambda w: w["net.slice1.1.filt"].mul_(2), "differs from the published definition"),
        (lambda w: w["net.slice1.0.bias"].fill_(torch.nan), "not finite"),
        (lambda w: w.update({"net.slice1.0.bias": torch.zeros(3)}), r"shape \(3,\), expected"),
    ],
)
def test_changed_weights_are_refused(
    change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.load(stlpips_weights("alex"), map_location="cpu", weights_only=True)
    change(weights)
    torch.save(weights, tmp_path / "changed.pth")
    monkeypatch.setattr(
        "tvqrap.losses.perceptual_weights.stlpips_weights", lambda _: tmp_path / "changed.pth"
    )
    with pytest.raises(UserError, match=message):
        stlpips("alex")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tvqrap.losses.perceptual_weights._package_file", lambda package, name: None
    )
    with pytest.raises(UserError, match="pip install stlpips_pytorch"):
        stlpips("vgg")


def test_lpips_vgg_equals_pyiqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up weights: the published ones are not in any package the tests may use."""
    torch.manual_seed(0)
    network = vgg16(weights=None)
    torch.save(network.state_dict(), tmp_path / "vgg16-397923af.pth")
    widths = (64, 128, 256, 512, 512)
    linear = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate(widths)}
    torch.save(linear, tmp_path / "lpips_vgg.pth")
    monkeypatch.setenv("TVQRAP_WEIGHTS", str(tmp_path))
    ours = perceptual_distance("lpips_vgg")

    from pyiqa.archs import lpips_arch

    monkeypatch.setattr(lpips_arch.models, "vgg16", lambda **options: network)
    theirs = lpips_arch.LPIPS(net="vgg", pretrained_model_path=str(tmp_path / "lpips_vgg.pth"))
    image, target = images(2, 3, 32, 48)
    with torch.no_grad():
        expected = theirs(image, target).flatten()
    torch.testing.assert_close(ours(image * 2 - 1, target * 2 - 1), expected, atol=1e-5, rtol=1e-5)


def test_missing_lpips_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVQRAP_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(UserError) as error:
        lpips_vgg()
    message = str(error.value)
    assert "\n" not in message
    assert "vgg16-397923af.pth" in message and str(tmp_path) in message and "https://" in message
    with pytest.raises(UserError, match=r"nothing\.pth: no such file"):
        lpips_vgg(vgg=tmp_path / "nothing.pth")
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"not weights")
    (tmp_path / "lpips_vgg.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match="not readable as"):
        lpips_vgg()
