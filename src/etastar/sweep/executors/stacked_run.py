"""Many runs of one size trained as one, each as it would be trained alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, isfinite
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call, stack_module_state, vmap

from etastar.sweep.executors.stacked_optimizers import UnstackableError, stack_optimizers
from etastar.sweep.trial import Prospect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from etastar.sweep.space import Experiment, Point, Size

__all__ = ["Lane", "StackedRun"]


@dataclass
class Lane:
    """One run among those that are trained together.

    Attributes:
        point: Learning rate and seed.
        model: Its own model; holds its parameters before and after training only.
        optimizer: As `make_optimizer` made it; its settings are used, its `step` is not.
        losses: Training losses so far.
        diverged: Whether the last of them says so.
        prospect: Whether its mean loss can still be of use.
    """

    point: Point
    model: nn.Module
    optimizer: Optimizer
    prospect: Prospect
    losses: list[float] = field(default_factory=list)
    diverged: bool = False


class _Stream:
    """The batches of one seed, drawn with the random numbers that a run of its own would have."""

    def __init__(self, experiment: Experiment, seed: int, state: Tensor) -> None:
        self._batches = self._iterate(experiment, seed)
        self.state = state

    @staticmethod
    def _iterate(experiment: Experiment, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        budget = experiment.budget
        yield from experiment.batches(seed, budget.batch_size, budget.num_steps)

    def draw(self) -> tuple[Tensor, Tensor]:
        torch.set_rng_state(self.state)
        try:
            batch = next(self._batches, None)
        finally:
            self.state = torch.get_rng_state()
        if batch is None:
            raise UnstackableError("the batches end early")
        return batch


class StackedRun:
    """Trains many points of one size together, step by step.

    One vectorised forward and backward pass serves all of them: PyTorch's `vmap` over stacked
    parameters. Draws from the global random numbers, so call it inside `torch.random.fork_rng`.

    Args:
        experiment: What a run is.
        size: Size of the network.
        points: Learning rates and seeds.
        device: Where to train.

    Raises:
        UnstackableError: The runs cannot be trained as one.
    """

    def __init__(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._experiment = experiment
        self._size = size
        self._device = torch.device(device)
        self._streams: dict[int, _Stream] = {}
        self.lanes = [self._lane(point) for point in points]
        self.active = list(self.lanes)
        self._model = self.lanes[0].model
        models = [lane.model for lane in self.lanes]
        self._optimizer = stack_optimizers([lane.optimizer for lane in self.lanes], models)
        self._params, self._buffers = stack_module_state(models)
        self._last: dict[int, tuple[Tensor, Tensor]] = {}
        self._steps = 0

    @property
    def is_done(self) -> bool:
        """Whether every run has ended."""
        return not self.active or self._steps == self._experiment.budget.num_steps

    def step(self) -> None:
        """One training step of every run that has not ended.

        Raises:
            Exception: Whatever the model does that cannot be vectorised.
        """
        losses = self._losses(*self._batch())
        self._steps += 1
        values = losses.tolist()
        going_on = [
            index
            for index, (lane, loss) in enumerate(zip(self.active, values, strict=True))
            if not self._ends(lane, loss)
        ]
        params = {name: param for name, param in self._params.items() if param.requires_grad}
        found = torch.autograd.grad(losses.sum(), list(params.values()), allow_unused=True)
        grads: dict[str, Tensor | None] = dict.fromkeys(self._params)
        grads.update(zip(params, found, strict=True))
        self._optimizer.step(self._params, grads)
        if len(going_on) < len(self.active):
            self._keep(going_on)

    def evaluations(self) -> dict[Point, float]:
        """What the experiment's `evaluate` says of each trained model that has not diverged.

        Returns:
            Evaluation by point.
        """
        evaluate = self._experiment.evaluate
        assert evaluate is not None, "an experiment with this objective has `evaluate`"
        found = {}
        with torch.no_grad():
            for index, lane in enumerate(self.active):
                for name, tensor in (*lane.model.named_parameters(), *lane.model.named_buffers()):
                    tensor.copy_((self._params | self._buffers)[name][index])
                torch.set_rng_state(self._streams[lane.point.seed].state)
                found[lane.point] = float(evaluate(lane.model.eval()))
        return found

    def copy_of_one(self) -> Callable[[], None]:
        """A training step as it is without stacking, of a new model on the last batch.

        Returns:
            A function that makes one step, to be timed; it is not a part of any run.
        """
        model, optimizer = self._made(self.lanes[0].point)

        def step() -> None:
            inputs, targets = next(iter(self._last.values()))
            optimizer.zero_grad()
            loss = self._experiment.loss_fn(model(inputs), targets)
            isfinite(loss.item())
            torch.autograd.backward(loss)
            optimizer.step()

        return step

    def _made(self, point: Point) -> tuple[nn.Module, Optimizer]:
        torch.default_generator.manual_seed(point.seed)
        model = self._experiment.factory(**dict(self._size)).to(self._device)
        optimizer = self._experiment.make_optimizer(model, point.lr)
        return model.train(), optimizer

    def _lane(self, point: Point) -> Lane:
        model, optimizer = self._made(point)
        state, seed = torch.get_rng_state(), point.seed
        stream = self._streams.setdefault(seed, _Stream(self._experiment, seed, state))
        if not torch.equal(stream.state, state):
            raise UnstackableError("runs of one seed draw different random numbers")
        budget = self._experiment.budget
        ceiling = point.ceiling if budget.objective == "mean" else inf
        return Lane(point, model, optimizer, Prospect(ceiling, budget.num_steps))

    def _batch(self) -> tuple[Tensor, Tensor, int | None]:
        """Inputs and targets of all runs, and the dimension that tells the runs apart."""
        seeds = dict.fromkeys(lane.point.seed for lane in self.active)
        self._last = drawn = {seed: self._drawn(seed) for seed in seeds}
        if len(drawn) == 1:
            ((inputs, targets),) = drawn.values()
            return inputs, targets, None
        each = [drawn[lane.point.seed] for lane in self.active]
        return torch.stack([x for x, _ in each]), torch.stack([y for _, y in each]), 0

    def _drawn(self, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self._streams[seed].draw()
        return inputs.to(self._device), targets.to(self._device)

    def _losses(self, inputs: Tensor, targets: Tensor, dim: int | None) -> Tensor:
        losses, self._buffers = vmap(self._loss, in_dims=(0, 0, dim, dim), randomness="error")(
            self._params, self._buffers, inputs, targets
        )
        if losses.shape != (len(self.active),):
            raise UnstackableError("the loss is not one number")
        return losses

    def _loss(
        self,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one run, and its buffers afterwards."""
        state = params | buffers
        outputs = functional_call(self._model, state, (inputs,))
        # from the dict: a module may have put another tensor in the place of a buffer
        after = {name: state[name] for name in buffers}
        return self._experiment.loss_fn(outputs, targets), after

    def _ends(self, lane: Lane, loss: float) -> bool:
        """Take in a loss, by the rule of `run_trial`."""
        lane.losses.append(loss)
        limit = self._experiment.budget.divergence_factor * abs(lane.losses[0]) or inf
        lane.diverged = not isfinite(loss) or loss > limit
        return lane.diverged or lane.prospect.is_hopeless_after(loss)

    def _keep(self, indices: list[int]) -> None:
        kept = torch.tensor(indices, dtype=torch.long, device=self._device)
        self.active = [self.active[index] for index in indices]
        self._params = {
            name: param.detach()[kept].requires_grad_(param.requires_grad)
            for name, param in self._params.items()
        }
        self._buffers = {name: buffer[kept] for name, buffer in self._buffers.items()}
        self._optimizer.keep(kept)
