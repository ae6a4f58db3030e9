"""Many runs of one size trained as one, each as it would be trained alone."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call, stack_module_state, vmap

from etastar.sweep.executors.lanes import Lane, Stream
from etastar.sweep.executors.refusals import NoGainError, UnstackableError
from etastar.sweep.executors.stacked_optimizers import stack_optimizers
from etastar.sweep.trial import Prospect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from etastar.sweep.space import Experiment, Point, Size

    Batches = dict[int, tuple[Tensor, Tensor]]
    Grads = dict[str, Tensor | Sequence[Tensor] | None]

__all__ = ["StackedRun"]


class StackedRun:
    """Trains many points of one size together, step by step.

    Their parameters are stacked. A step's gradients come from one vectorised forward and backward
    pass, PyTorch's `vmap`, or from each run's own model in turn, whose parameters are then views of
    the stack; either way one update of the stack serves all. Draws from the global random numbers,
    so call it inside `torch.random.fork_rng`.

    Args:
        experiment: What a run is.
        size: Size of the network.
        points: Learning rates and seeds.
        device: Where to train.
        most_bytes: Most memory that the parameters of one run may take.

    Raises:
        UnstackableError: The runs cannot be trained as one.
        NoGainError: The model is larger than that.
    """

    def __init__(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        device: torch.device | str = "cpu",
        most_bytes: float = inf,
    ) -> None:
        self._experiment = experiment
        self._size = size
        self._device = torch.device(device)
        self._streams: dict[int, Stream] = {}
        first = self._lane(points[0])
        _require_small(first.model, most_bytes)
        self.lanes = [first, *(self._lane(point) for point in points[1:])]
        self.active = list(self.lanes)
        self._model = self.lanes[0].model
        models = [lane.model for lane in self.lanes]
        self._optimizer = stack_optimizers([lane.optimizer for lane in self.lanes], models)
        self._params, self._buffers = stack_module_state(models)
        self._last: dict[int, tuple[Tensor, Tensor]] = {}
        self._views: list[list[Tensor]] = []
        self._steps = 0

    @property
    def steps_left(self) -> int:
        """Steps that a run still has to make."""
        return self._experiment.budget.num_steps - self._steps

    @property
    def is_done(self) -> bool:
        """Whether every run has ended."""
        return not (self.active and self.steps_left)

    def step(self, *, vectorised: bool = True) -> None:
        """One training step of every run that has not ended.

        Args:
            vectorised: Whether one pass is to serve all runs; otherwise there is one for each.

        Raises:
            Exception: Whatever the model does that cannot be vectorised.
        """
        batches = self._draw()
        losses, grads = (self._grads_at_once if vectorised else self._grads_in_turn)(batches)
        self._steps += 1
        values = losses.tolist()
        going_on = [
            index
            for index, (lane, loss) in enumerate(zip(self.active, values, strict=True))
            if not self._ends(lane, loss)
        ]
        self._optimizer.step(self._params, grads())
        if len(going_on) < len(self.active):
            self._keep(going_on)

    def evaluations(self) -> dict[Point, float]:
        """What the experiment's `evaluate` says of each trained model that has not diverged.

        Returns:
            Evaluation by point.
        """
        evaluate = self._experiment.evaluate
        assert evaluate is not None, "an experiment with this objective has `evaluate`"
        self._make_views()
        found = {}
        with torch.no_grad():
            for lane in self.active:
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
        stream = self._streams.setdefault(seed, Stream(self._experiment, seed, state))
        if not torch.equal(stream.state, state):
            raise UnstackableError("runs of one seed draw different random numbers")
        budget = self._experiment.budget
        ceiling = point.ceiling if budget.objective == "mean" else inf
        return Lane(point, model, optimizer, Prospect(ceiling, budget.num_steps))

    def _draw(self) -> dict[int, tuple[Tensor, Tensor]]:
        """The next batch of each seed."""
        seeds = dict.fromkeys(lane.point.seed for lane in self.active)
        self._last = {seed: self._drawn(seed) for seed in seeds}
        return self._last

    def _drawn(self, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self._streams[seed].draw()
        return inputs.to(self._device), targets.to(self._device)

    def _grads_at_once(self, batches: Batches) -> tuple[Tensor, Callable[[], Grads]]:
        """Losses of all runs from one pass, and what takes their gradients."""
        self._drop_views()
        if len(batches) == 1:
            ((inputs, targets),) = batches.values()
            dim = None
        else:
            each = [batches[lane.point.seed] for lane in self.active]
            inputs, targets = (torch.stack(tensors) for tensors in zip(*each, strict=True))
            dim = 0
        losses, self._buffers = vmap(self._loss, in_dims=(0, 0, dim, dim), randomness="error")(
            self._params, self._buffers, inputs, targets
        )
        _require_numbers(losses, (len(self.active),))
        params = self._trained()

        def grads() -> Grads:
            found = torch.autograd.grad(losses.sum(), list(params.values()), allow_unused=True)
            return dict.fromkeys(self._params) | dict(zip(params, found, strict=True))

        return losses, grads

    def _grads_in_turn(self, batches: Batches) -> tuple[Tensor, Callable[[], Grads]]:
        """Losses from a pass of each run's own model, and their gradients."""
        self._make_views()
        names = list(self._trained())
        losses: list[Tensor] = []
        per_run: list[tuple[Tensor | None, ...]] = []
        for lane, views in zip(self.active, self._views, strict=True):
            inputs, targets = batches[lane.point.seed]
            loss = self._experiment.loss_fn(lane.model(inputs), targets)
            _require_numbers(loss, ())
            per_run.append(torch.autograd.grad(loss, views, allow_unused=True))
            losses.append(loss.detach())
        found = {
            name: _of_all(name, grads)
            for name, grads in zip(names, zip(*per_run, strict=True), strict=True)
        }
        return torch.stack(losses), lambda: dict.fromkeys(self._params) | found

    def _trained(self) -> dict[str, Tensor]:
        return {name: param for name, param in self._params.items() if param.requires_grad}

    def _make_views(self) -> None:
        """Let each model's parameters and buffers be its part of the stacks."""
        if self._views:
            return
        for index, lane in enumerate(self.active):
            for name, param in lane.model.named_parameters():
                param.data = self._params[name].detach()[index]
            for name, buffer in lane.model.named_buffers():
                buffer.data = self._buffers[name][index]
            trained = (param for param in lane.model.parameters() if param.requires_grad)
            self._views.append(list(trained))

    def _drop_views(self) -> None:
        """Take buffers that the models have put in the place of others into the stacks."""
        if self._views and self._buffers:
            each = [dict(lane.model.named_buffers()) for lane in self.active]
            self._buffers = {
                name: torch.stack([buffers[name] for buffers in each]) for name in self._buffers
            }
        self._views = []

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
        self._drop_views()
        kept = torch.tensor(indices, dtype=torch.long, device=self._device)
        self.active = [self.active[index] for index in indices]
        self._params = {
            name: param.detach()[kept].requires_grad_(param.requires_grad)
            for name, param in self._params.items()
        }
        self._buffers = {name: buffer[kept] for name, buffer in self._buffers.items()}
        self._optimizer.keep(kept)


def _require_numbers(losses: Tensor, shape: tuple[int, ...]) -> None:
    if losses.shape != shape:
        raise UnstackableError("the loss is not one number")


def _of_all(name: str, grads: Sequence[Tensor | None]) -> Sequence[Tensor] | None:
    found = [grad for grad in grads if grad is not None]
    if found and len(found) < len(grads):
        raise UnstackableError(f"some runs have a gradient of {name} and others have none")
    return found or None


def _require_small(model: nn.Module, most_bytes: float) -> None:
    taken = sum(param.nbytes for param in model.parameters())
    if taken > most_bytes:
        raise NoGainError(
            f"the parameters take {taken / 2**20:.1f} MiB, and only those of up to "
            f"{most_bytes / 2**20:.1f} MiB are trained faster together"
        )
