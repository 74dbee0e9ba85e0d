"""Reconstruction-aware prediction as mathematics, in float64.

The code choice is p = one-hot(argmax logits). Decoder and loss are a function L(p); what reaches
the logits is J_softmax(logits)^T dL/dp, taken at that p (section 3.2 of the paper), and nothing
of it reaches what is frozen.
"""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.networks import straight_through
from tests.support.training import COMPUTE, OPTIMISER, batch, image_losses, rap_task
from tvqrap.architecture import Assignment
from tvqrap.networks.tokenizer import join
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.rap import RapTask
from tvqrap.training.batch import as_image

PLACES = ((0, 3, 5), (1, 15, 0))
"""Places of the map (image, row, column) at which all directions are tried."""
STEP = 1e-5


@pytest.fixture(scope="module")
def task() -> RapTask:
    compute = COMPUTE.model_copy(update={"precision": "float64"})
    return rap_task(compute=compute, image=image_losses(adversarial=0.0, perceptual=0.0))


def loss_of(
    network: UpscalerNetwork, decoded: Tensor | None, texture: Tensor, hr: Tensor
) -> Tensor:
    return F.mse_loss(network.decoder(join(decoded, texture)), hr)


def loss_of_choice(
    network: UpscalerNetwork, decoded: Tensor | None, choice: Tensor, hr: Tensor
) -> Tensor:
    """L(p) for any p (N, h, w, entries), not one-hot alone."""
    texture = (choice @ network.codebook.embedding.weight).permute(0, 3, 1, 2)
    return loss_of(network, decoded, texture, hr)


def test_logits_get_the_softmaxs_jacobian_times_the_gradient_of_the_choice(
    task: RapTask,
) -> None:
    network, given = task.network, batch(0)
    hr, lr = (as_image(each, task.learner.device, torch.float64) for each in (given.hr, given.lr))
    with torch.no_grad():
        prediction = network.predict(lr)
    # Spread out: with logits that are all alike the Jacobian would be too simple.
    generator = torch.Generator().manual_seed(1)
    shape = prediction.logits.shape
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    decoded = prediction.decoded_structure

    leaf = logits.clone().requires_grad_()
    texture = network.straight_through_texture(leaf)
    (found,) = torch.autograd.grad(loss_of(network, decoded, texture, hr), leaf)
    choice = F.one_hot(logits.argmax(1), shape[1]).double()
    entries = network.codebook.embedding.weight
    with torch.no_grad():
        torch.testing.assert_close(texture, (choice @ entries).permute(0, 3, 1, 2))
        for n, y, x in PLACES:
            gradient = torch.zeros(shape[1], dtype=torch.float64)
            for entry in range(shape[1]):
                aside = torch.zeros_like(choice)
                aside[n, y, x, entry] = STEP
                ahead, behind = (
                    loss_of_choice(network, decoded, choice + sign * aside, hr) for sign in (1, -1)
                )
                gradient[entry] = (ahead - behind) / (2 * STEP)
            soft = logits[n, :, y, x].softmax(0)
            jacobian = torch.diag(soft) - torch.outer(soft, soft)
            wanted = jacobian.T @ gradient
            assert wanted.abs().max() > 1e-9, "a gradient that shows something"
            torch.testing.assert_close(found[n, :, y, x], wanted, rtol=1e-5, atol=1e-12)


def test_soft_assignment_decodes_the_mean_entry_with_its_own_gradient(task: RapTask) -> None:
    """What the decoder is given, in a loop, and the gradient to a few scores by differences."""
    network = copy.deepcopy(task.network)
    network.assignment = "soft"
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(1, 16, 8, 8, generator=generator, dtype=torch.float64)
    entries = network.codebook.embedding.weight.detach()
    leaf = logits.clone().requires_grad_()
    texture = network.straight_through_texture(leaf)
    for y, x in ((0, 0), (3, 7)):
        scores = logits[0, :, y, x].exp()
        mean = sum(s * e for s, e in zip(scores, entries, strict=True)) / scores.sum()
        torch.testing.assert_close(texture[0, :, y, x], mean)

    def loss(given: Tensor) -> Tensor:
        return network.straight_through_texture(given).pow(2).sum()

    (found,) = torch.autograd.grad(loss(leaf), leaf)
    for place in ((0, 2, 0, 0), (0, 15, 3, 7)):
        aside = torch.zeros_like(logits)
        aside[place] = STEP
        wanted = (loss(logits + aside) - loss(logits - aside)) / (2 * STEP)
        assert abs(wanted) > 1e-9, "a gradient that shows something"
        torch.testing.assert_close(found[place], wanted, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("assignment", ["hard", "soft"])
def test_what_is_trained_is_what_upscales(task: RapTask, assignment: Assignment) -> None:
    network = copy.deepcopy(task.network)
    network.assignment = assignment
    lr = as_image(batch(0).lr, task.learner.device, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(straight_through(network, lr)[0], network(lr))


def test_what_is_frozen_does_not_move_by_a_bit(task: RapTask) -> None:
    own = copy.deepcopy(task)
    frozen = {
        name: value.clone()
        for name, value in own.network.state_dict().items()
        if not name.startswith("predictor.")
    }
    for step in range(3):
        own.update(batch(step), step)
    after = own.network.state_dict()
    assert frozen and all(torch.equal(after[name], value) for name, value in frozen.items())
    assert all(
        parameter.grad is None
        for name, parameter in own.network.named_parameters()
        if not name.startswith("predictor.")
    )


@pytest.mark.parametrize("adversarial", [0.0, 0.5])
def test_a_decoder_that_is_trained_moves_and_nothing_else_of_the_tokenizers(
    adversarial: float,
) -> None:
    image = image_losses(adversarial=adversarial, perceptual=0.0)
    own = rap_task(train_decoder=True, image=image)
    before = {name: value.clone() for name, value in own.network.state_dict().items()}
    for step in range(3):
        own.update(batch(step), step)
    for module in (own.network, own.learner.average.module):
        after = module.state_dict()
        for name, _ in own.network.named_parameters():
            trained = name.startswith(("predictor.", "decoder."))
            assert torch.equal(after[name], before[name]) != trained, name


def test_a_trained_decoder_gets_the_gradient_of_the_image_losses() -> None:
    """All that is trained, against automatic differentiation of the loss as it is written."""
    compute = COMPUTE.model_copy(update={"precision": "float64"})
    plain = image_losses(adversarial=0.0, perceptual=0.0)
    plain |= {"mse": 1.0} | dict.fromkeys(("l1", "gradient", "chroma", "grid", "contrast"), 0.0)
    own = rap_task(
        compute=compute,
        train_decoder=True,
        optimiser={**OPTIMISER, "grad_clip_norm": None},
        image=plain,
        loss_weights={"structure": 0.0, "code": 0.0},
    )
    network, given = copy.deepcopy(own.network), batch(0)
    hr, lr = (as_image(each, own.learner.device, torch.float64) for each in (given.hr, given.lr))
    F.mse_loss(straight_through(network, lr)[0], hr).backward()
    wanted = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert any(name.startswith("decoder.") for name in wanted)
    found: dict[str, Tensor] = {}

    def look(optimiser: torch.optim.Optimizer, *_: object) -> None:
        named = own.network.named_parameters()
        found.update({n: p.grad.clone() for n, p in named if p.grad is not None})

    own.learner.optimiser.register_step_pre_hook(look)
    own.update(given, 0)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-14)


def test_image_losses_reach_the_structure_head_through_the_decoder_alone(
    task: RapTask,
) -> None:
    """The structure that the code head is given is detached; the decoder's is not."""
    network, given = task.network, batch(0)
    lr = as_image(given.lr, task.learner.device, torch.float64)
    head = network.predictor.structure_head
    assert head is not None
    parameters = list(head.parameters())

    def reaches(value: Tensor) -> bool:
        gradients = torch.autograd.grad(
            value.square().sum(), parameters, retain_graph=True, allow_unused=True
        )
        return any(gradient is not None and bool(gradient.any()) for gradient in gradients)

    prediction = network.predict(lr)
    assert prediction.structure is not None and prediction.decoded_structure is not None
    assert not reaches(prediction.logits)
    assert not reaches(network.straight_through_texture(prediction.logits))
    assert reaches(prediction.structure) and reaches(prediction.decoded_structure)
    # Both paths: the picture reaches the head with the texture cut off, and the LR encoder's
    # texture query with the structure cut off.
    texture = network.straight_through_texture(prediction.logits)
    assert reaches(network.decoder(join(prediction.decoded_structure, texture.detach())))
    query = [p for n, p in network.predictor.lr_encoder.named_parameters() if n.endswith("weight")]
    image = network.decoder(join(prediction.decoded_structure.detach(), texture))
    gradients = torch.autograd.grad(image.square().sum(), query, allow_unused=True)
    assert any(gradient is not None and bool(gradient.any()) for gradient in gradients)
