"""One training step: forward, loss, backward, optimizer, average."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.config import Train
from smidgen.errors import CheckpointError, ModelError
from smidgen.training.averaging import EMA
from smidgen.training.optimizers import build_optimizer


class TrainStep:
    """A network with its optimizer and running average, trained one batch at a time."""

    def __init__(
        self, network: nn.Module, settings: Train, forward: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Use `forward` for the training scores of `network`; by default the network itself."""
        self.network = network
        self.optimizer = build_optimizer(network, settings.optimizer)
        ema = settings.average.name == "ema"
        self.average = EMA(network, settings.average.decay) if ema else None
        self._forward = forward or network
        self._smoothing = settings.label_smoothing

    @property
    def result(self) -> nn.Module:
        """The network to evaluate and keep: the average, if there is one."""
        return self.average.network if self.average else self.network

    def step(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Train on one batch; return its mean loss and scores (batch, classes) before the step.

        Raises:
            ModelError: the batch is too small for batch norm.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1.0)
        try:
            scores = self._forward(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ModelError(
                f"batch norm cannot train on a batch of {len(images)} image(s) here: it needs more "
                "than one value per channel; increase train.batch_size."
            ) from error
        # Also right for log-probabilities: log-softmax leaves them unchanged.
        loss = F.cross_entropy(scores, labels, label_smoothing=self._smoothing)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return loss.detach(), scores.detach()

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name; the tensors themselves, not copies."""
        found = {f"network.{name}": tensor for name, tensor in _tensors(self.network)}
        for place, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state[parameter].items():
                found[f"optimizer.{place}.{name}"] = value
        if self.average:
            found |= {f"average.{n}": tensor for n, tensor in _tensors(self.average.network)}
            found["average_steps"] = torch.tensor(self.average.steps)
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state()` returned.

        Raises:
            CheckpointError: it belongs to another network or other settings.
        """
        try:
            self._load(state)
        except (KeyError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint belongs to another network or other settings: {first}."
            ) from None

    def _load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in _tensors(self.network):
                tensor.copy_(state[f"network.{name}"])
            for place, parameter in enumerate(self._parameters()):
                own = f"optimizer.{place}."
                for key, value in state.items():
                    if key.startswith(own):
                        # keep the parameter's memory layout, which fused optimizers assume
                        like = parameter if value.shape == parameter.shape else value
                        device = parameter.device
                        restored = torch.empty_like(like, dtype=value.dtype, device=device)
                        self.optimizer.state[parameter][key[len(own) :]] = restored.copy_(value)
            if self.average:
                for name, tensor in _tensors(self.average.network):
                    tensor.copy_(state[f"average.{name}"])
                self.average.steps = int(state["average_steps"])

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers, including non-persistent ones."""
    return [*network.named_parameters(), *network.named_buffers()]
