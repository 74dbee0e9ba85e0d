"""The three stages' updates against plain references, and what each of them may move."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.support.networks import straight_through
from tests.support.training import (
    ARCHITECTURE,
    OPTIMISER,
    batch,
    image_losses,
    predictor_task,
    rap_task,
    tokenizer_task,
)
from tvqrap.architecture import Architecture
from tvqrap.config.training import ImageLosses, TeacherShares
from tvqrap.losses.augmentation import view_of_step
from tvqrap.losses.blockiness import grid_loss
from tvqrap.losses.contrast import contrast_loss
from tvqrap.losses.gan import adaptive_weight, hinge_generator_loss
from tvqrap.losses.image_terms import chroma_loss, gradient_loss
from tvqrap.objectives.image_losses.image_loss import ImageGradient, ImageLoss
from tvqrap.objectives.tokenizer import takes_teacher
from tvqrap.training.batch import as_image

VANILLA = Architecture(width=0.0625, codebook=16, texture=4, structure=None, swin_blocks=2)


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Top-level parts whose parameters differ."""
    names = set()
    for (name, ours), theirs in zip(before.named_parameters(), after.parameters(), strict=True):
        if not torch.equal(ours, theirs):
            names.add(name.split(".")[0])
    return names


def test_image_gradients_equal_those_of_the_plain_sum() -> None:
    torch.manual_seed(0)
    settings = ImageLosses.model_validate(image_losses(perceptual=0.0))
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1
    target = torch.rand_like(image)
    judge = nn.Conv2d(3, 1, 3, dtype=torch.float64)
    found = ImageLoss(settings, None).gradients(image, target, lambda given: [judge(given)])
    leaf = image.clone().requires_grad_()
    plain = (
        (leaf - target).square().mean()
        + 0.5 * (leaf - target).abs().mean()
        + 0.5 * gradient_loss(leaf, target)
        + 0.5 * chroma_loss(leaf, target)
        + 0.5 * grid_loss(leaf, target)
        + 0.5 * contrast_loss(leaf, target)
    )
    torch.testing.assert_close(found.reconstruction, torch.autograd.grad(plain, leaf)[0])
    (adversarial,) = torch.autograd.grad(hinge_generator_loss(judge(leaf)), leaf)
    assert found.adversarial is not None
    torch.testing.assert_close(found.adversarial, adversarial)
    assert judge.weight.grad is None


def test_varied_views_change_with_the_step_and_with_nothing_else() -> None:
    torch.manual_seed(0)
    asked = image_losses(adversarial=0.0)
    asked["perceptual"] |= {"share": 1.0, "augment": True}
    image, target = torch.rand(2, 2, 3, 64, 64, dtype=torch.float64).mul(2).sub(1).unbind(0)

    def distance(ours: Tensor, theirs: Tensor) -> Tensor:
        return (ours - theirs).square().mean((1, 2, 3)) * ours.shape[3]

    loss = ImageLoss(ImageLosses.model_validate(asked), _Distance(distance))
    found = [loss.gradients(image, target, None, step=step) for step in (5, 6, 5)]
    assert torch.equal(found[0].reconstruction, found[2].reconstruction)
    assert not torch.equal(found[0].reconstruction, found[1].reconstruction)
    for step, made in zip((5, 6), found, strict=False):
        view = view_of_step(step)
        wanted = distance(view.of(image), view.of(target)).mean()
        torch.testing.assert_close(made.terms["perceptual"], wanted)


def test_losses_against_two_targets_are_weighted_by_their_shares() -> None:
    torch.manual_seed(0)
    asked = image_losses(adversarial=0.0)
    asked["perceptual"] |= {"share": 1.0, "augment": True}
    settings = ImageLosses.model_validate(asked)
    image, hr, teacher = torch.rand(3, 2, 3, 64, 64, dtype=torch.float64).mul(2).sub(1).unbind(0)

    def distance(ours: Tensor, theirs: Tensor) -> Tensor:
        return (ours - theirs).square().mean((1, 2, 3)) * ours.shape[3]

    def found(pixels: float, perceptual: float) -> ImageGradient:
        shares = TeacherShares(pixels=pixels, perceptual=perceptual, adversarial=False)
        loss = ImageLoss(settings, _Distance(distance), shares)
        return loss.gradients(image, hr, None, step=3, teacher=teacher)

    photo, pictures, mixed = found(0.0, 0.0), found(1.0, 1.0), found(0.25, 0.75)
    swapped = ImageLoss(settings, _Distance(distance)).gradients(image, teacher, None, step=3)
    assert torch.equal(pictures.reconstruction, swapped.reconstruction)
    for name, term in mixed.terms.items():
        share = 0.75 if name == "perceptual" else 0.25
        wanted = (1 - share) * photo.terms[name] + share * pictures.terms[name]
        torch.testing.assert_close(term, wanted, msg=name)


def test_rap_compares_with_the_teachers_images() -> None:
    plain = {"image": image_losses(adversarial=0.0, perceptual=0.0)}
    given = batch(0)
    taught = replace(given, hr=given.teacher)
    shares = {"pixels": 1.0, "perceptual": 0.0, "adversarial": False}
    found = rap_task(teacher=shares, **plain).update(given, 0)["mse"]
    assert found == rap_task(**plain).update(taught, 0)["mse"]
    assert found != rap_task(**plain).update(given, 0)["mse"]


def test_a_share_of_the_tokenizers_steps_takes_the_teachers_images() -> None:
    assert [takes_teacher(step, 0.25) for step in range(8)] == [False, False, False, True] * 2
    assert not any(takes_teacher(step, 0.0) for step in range(100))
    assert all(takes_teacher(step, 1.0) for step in range(100))
    plain = {"image": image_losses(adversarial=0.0, perceptual=0.0)}
    given = batch(0)
    taught = replace(given, hr=given.teacher)
    found = tokenizer_task(teacher=1.0, **plain).update(given, 0)["mse"]
    assert found == tokenizer_task(**plain).update(taught, 0)["mse"]


class _Distance(nn.Module):
    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        return self.distance(ours, theirs)


@pytest.mark.parametrize("discriminator_kind", ["patch", "unet"])
def test_rap_gradient_equals_that_of_the_plain_loss(discriminator_kind: str) -> None:
    """Adding both gradients at the decoder's input is the gradient of the whole loss."""
    image_settings = image_losses(perceptual=0.0)
    image_settings["adversarial"] |= {"discriminator": discriminator_kind, "matching": 3.0}
    task = rap_task(
        image=image_settings,
        teacher={"pixels": 0.0, "perceptual": 0.0, "adversarial": True},
        optimiser={**OPTIMISER, "grad_clip_norm": None},
    )
    assert task.adversary is not None
    network, given = task.network, batch(0)
    discriminator = copy.deepcopy(task.adversary.discriminator)
    plain = copy.deepcopy(network)
    hr = as_image(given.hr, task.learner.device)
    image, prediction = straight_through(plain, as_image(given.lr, task.learner.device))
    reconstruction = (
        (image - hr).square().mean()
        + 0.5 * (image - hr).abs().mean()
        + 0.5 * gradient_loss(image, hr)
        + 0.5 * chroma_loss(image, hr)
        + 0.5 * grid_loss(image, hr)
        + 0.5 * contrast_loss(image, hr)
    )
    *features, scores = discriminator(image)
    with torch.no_grad():
        *real, _ = discriminator(as_image(given.teacher, task.learner.device))
    relative = [
        (a[n] - b[n]).abs().mean() / b[n].abs().mean()
        for a, b in zip(features, real, strict=True)
        for n in range(len(image))
    ]
    adversarial = hinge_generator_loss(scores) + 3.0 * torch.stack(relative).mean()
    last = plain.predictor.code_head.score.weight
    (reconstruction_grad,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (adversarial_grad,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    assert given.codes is not None and given.structure is not None
    assert prediction.structure is not None
    loss = (
        reconstruction
        + 0.5 * adaptive_weight(reconstruction_grad, adversarial_grad) * adversarial
        + 0.5 * nn.functional.cross_entropy(prediction.logits, given.codes)
        + (prediction.structure - given.structure.float()).square().mean()
    )
    loss.backward()
    wanted = {n: p.grad for n, p in plain.predictor.named_parameters()}
    found: dict[str, Tensor] = {}

    def catch(*_: object) -> None:
        for name, parameter in network.predictor.named_parameters():
            assert parameter.grad is not None, name
            found[name] = parameter.grad.clone()

    task.learner.optimiser.register_step_pre_hook(catch)
    task.update(given, 1)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient is not None
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_rap_moves_the_predictor_alone_and_its_structure_head_too() -> None:
    task = rap_task(loss_weights={"structure": 0.0, "code": 0.0})
    before = copy.deepcopy(task.network)
    task.update(batch(0), 1)
    assert changed(before, task.network) == {"predictor"}
    assert changed(before.predictor, task.network.predictor) == {
        "lr_encoder",
        "structure_head",
        "code_head",
    }


def test_the_predictor_stage_moves_the_predictor_alone() -> None:
    task = predictor_task()
    before = copy.deepcopy(task.network)
    task.update(batch(0), 0)
    assert changed(before, task.network) == {"predictor"}


@pytest.mark.parametrize("architecture", [ARCHITECTURE, VANILLA], ids=["tvq", "vanilla"])
@pytest.mark.parametrize("make", [tokenizer_task, predictor_task, rap_task])
def test_the_loss_falls_on_one_batch(make: object, architecture: Architecture) -> None:
    kind = {
        tokenizer_task: {"steps": 20, "image": image_losses(adversarial=0.0, perceptual=0.0)},
        predictor_task: {"phases": [{"set": "train", "batch_size": 2, "steps": 20}]},
        rap_task: {"steps": 20, "image": image_losses(adversarial=0.0, perceptual=0.0)},
    }
    task = make(architecture, **kind[make])  # type: ignore[operator, index]
    given = batch(0, architecture)
    first = task.update(given, 0)
    for step in range(1, 20):
        last = task.update(given, step)
    watched = "cross_entropy" if make is predictor_task else "mse"
    assert last[watched] < 0.95 * first[watched]


def test_commitment_weight_can_be_on_either_term() -> None:
    """With nothing else to learn from, the term's weight decides which side moves."""
    quiet = {
        "mse": 0.0,
        "l1": 0.0,
        "gradient": 0.0,
        "chroma": 0.0,
        "grid": 0.0,
        "contrast": 0.0,
        "perceptual": {"network": "stlpips_alex", "weight": 0.0, "share": 1.0, "augment": False},
        "adversarial": image_losses()["adversarial"] | {"weight": 0.0},
    }
    for where, moved in (("encoder", "codebook"), ("codebook", "encoder")):
        task = tokenizer_task(
            image=quiet,
            loss_weights={
                "codebook": 1.0,
                "commitment": 0.0,
                "small_autoencoder": 0.0,
                "alignment": 0.0,
            },
            commitment_on=where,
            codebook_life={"vq_warmup_steps": 0, "revive_every": 0},
        )
        before = copy.deepcopy(task.tokenizer)
        task.update(batch(0), 2)
        assert moved in changed(before, task.tokenizer)
        still = {"encoder", "codebook"} - {moved}
        assert not still & changed(before, task.tokenizer)


def test_kmeans_and_revival_put_the_codebook_where_the_texture_is() -> None:
    task = tokenizer_task(image=image_losses(adversarial=0.0, perceptual=0.0))
    entries = task.tokenizer.codebook.embedding.weight
    start = entries.detach().clone()
    task.update(batch(0), 0)
    task.update(batch(1), 1)
    assert torch.equal(entries, start), "nothing moves the entries before k-means"
    task.update(batch(2), 2)
    assert not torch.isclose(entries, start).any(dim=1).all()
    used = task.used.clone()
    assert (used > 0).float().mean() > 0.5
    dead = torch.zeros_like(used, dtype=torch.bool)
    dead[:3] = True
    with torch.no_grad():
        entries[:3] = 1e3  # far from all texture: never chosen
    task.used.zero_()
    task.update(batch(3), 3)
    assert entries[:3].abs().max() < 1e2, "revived onto texture of the batch"
    torch.testing.assert_close(
        task.learner.average.module.codebook.embedding.weight[:3], entries[:3].detach()
    )
    assert task.used.sum() == 0


def test_entries_have_a_whole_window_before_they_are_revived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    revived: list[int] = []
    life = {"vq_warmup_steps": 2, "revive_every": 3}
    task = tokenizer_task(image=image_losses(0.0, 0.0), codebook_life=life, steps=20)
    monkeypatch.setattr(task.tokenizer.codebook, "revive_", lambda *_: revived.append(step))
    for step in range(9):
        task.update(batch(step), step)
    assert revived == [5, 8], "not in step 2, as k-means"


def test_a_given_tokenizer_keeps_its_codebook() -> None:
    task = tokenizer_task(trained_before=True)
    start = task.tokenizer.codebook.embedding.weight.detach().clone()
    terms = task.update(batch(0), 0)
    assert "codebook" in terms, "quantized from the first step"
    assert (task.tokenizer.codebook.embedding.weight - start).abs().max() < 0.1


def test_texture_dropout_decodes_the_end_of_a_batch_from_the_structure_alone() -> None:
    task = tokenizer_task(
        texture_dropout=0.5,
        image=image_losses(perceptual=0.0),
        codebook_life={"vq_warmup_steps": 0, "revive_every": 0},
    )
    assert task.adversary is not None
    seen: dict[str, torch.Tensor] = {}
    judged: list[int] = []
    tokenizer = task.tokenizer
    assert tokenizer.structure_decoder is not None
    tokenizer.structure_decoder.register_forward_hook(lambda _m, _i, out: seen.update(s=out))
    tokenizer.decoder.register_forward_pre_hook(lambda _m, given: seen.update(d=given[0]))
    task.adversary.discriminator.register_forward_pre_hook(
        lambda _m, given: judged.append(len(given[0]))
    )
    task.update(batch(0), task.settings.steps - 1)
    assert torch.equal(seen["d"][1], seen["s"][1])
    assert not torch.equal(seen["d"][0], seen["s"][0])
    assert set(judged) == {1}, "images without texture are not judged"


def test_texture_dropout_leaves_some_texture() -> None:
    with pytest.raises(ValueError, match=r"texture_dropout is 0\.9; allowed with a batch of 2"):
        tokenizer_task(texture_dropout=0.9)
