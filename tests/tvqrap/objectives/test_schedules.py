"""What follows the schedule of a training: discriminator, GAN term and a trained decoder."""

import pytest
import torch

from tests.support.training import OPTIMISER, batch, image_losses, rap_task, tokenizer_task

pytestmark = pytest.mark.usefixtures("small_distance")

STEPPED = {
    **OPTIMISER,
    "learning_rate": 1e-3,
    "warmup_steps": 4,
    "lr_schedule": "step",
    "lr_milestones": [5],
    "lr_factor": 0.1,
}


def adversarial(**changes: float) -> dict[str, object]:
    losses = image_losses()
    return losses | {"adversarial": {**losses["adversarial"], "learning_rate": 2e-3, **changes}}


def test_the_discriminator_follows_warm_up_and_schedule_at_its_own_rate() -> None:
    task = rap_task(optimiser=STEPPED, image=adversarial(start=1))
    assert task.adversary is not None
    rates = []
    for step in range(7):
        task.update(batch(step), step)
        (theirs,) = task.adversary.optimiser.param_groups
        rates.append(theirs["lr"])
        if step:
            assert rates[-1] == pytest.approx(2 * task.learner.optimiser.param_groups[0]["lr"])
    assert rates[1:] == pytest.approx([1e-3, 1.5e-3, 2e-3, 2e-3, 2e-4, 2e-4])


def test_the_gan_term_grows_from_its_start_while_the_discriminator_learns() -> None:
    task = tokenizer_task(image=adversarial(start=3, warmup_steps=4, weight=0.5))
    assert task.adversary is not None
    discriminator = task.adversary.discriminator
    weights = []
    for step in range(8):
        before = [parameter.clone() for parameter in discriminator.parameters()]
        terms = task.update(batch(step), step)
        learned = any(map(lambda a, b: not torch.equal(a, b), before, discriminator.parameters()))
        assert learned == ("discriminator" in terms) == (step >= 3)
        weights.append(task.adversary.weight)
    assert weights[3:] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])


def test_the_generator_gets_the_grown_weight() -> None:
    """With the weight of a later step, an earlier step moves the generator elsewhere."""

    def after(**changes: float) -> torch.Tensor:
        task = rap_task(train_decoder=True, image=adversarial(start=0, **changes))
        task.update(batch(0), 0)
        return task.network.decoder[-1].get_parameter("weight").detach()

    whole, grown = after(weight=0.5), after(weight=0.5, warmup_steps=2)
    assert not torch.equal(whole, grown)


def test_a_trained_decoder_has_a_learning_rate_of_its_own() -> None:
    task = rap_task(train_decoder=True, decoder_lr_factor=0.1, optimiser=STEPPED)
    predictor, decoder = task.learner.optimiser.param_groups
    assert {id(each) for each in decoder["params"]} == {
        id(each) for each in task.network.decoder.parameters()
    }
    for step in range(6):
        task.update(batch(step), step)
        assert decoder["lr"] == pytest.approx(predictor["lr"] / 10)
    assert len(rap_task().learner.optimiser.param_groups[0]["params"]) == len(predictor["params"])


def test_factor_one_is_one_learning_rate() -> None:
    """Groups change no weight: the norm of the gradient is over the same order of parameters."""
    task = rap_task(train_decoder=True, decoder_lr_factor=1.0)
    trained = [each for group in task.learner.optimiser.param_groups for each in group["params"]]
    in_order = [each for each in task.network.parameters() if each.requires_grad]
    assert [id(each) for each in trained] == [id(each) for each in in_order]
