"""A network and what changes with it as it learns, one step at a time."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.config import Train
from smidgen.errors import CheckpointError, ModelError
from smidgen.training.averaging import Ema
from smidgen.training.optimizers import build_optimizer


class TrainStep:
    """The network, its optimizer and its running average, as the settings ask for them."""

    def __init__(
        self, network: nn.Module, settings: Train, forward: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Learn through `forward`, which is `network` in whatever form; left out, the network."""
        self.network = network
        self.optimizer = build_optimizer(network, settings.optimizer)
        ema = settings.average.name == "ema"
        self.average = Ema(network, settings.average.decay) if ema else None
        self._forward = forward or network
        self._smoothing = settings.label_smoothing

    @property
    def result(self) -> nn.Module:
        """The network that counts: the average, where there is one."""
        return self.average.network if self.average else self.network

    def step(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Learn from one batch; its mean loss and its scores (batch, classes) before the step.

        Raises:
            ModelError: the batch is too small for a batch norm, or forward fails.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1.0)
        try:
            scores = self._forward(images)
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            few = "more than 1 value per channel" in first  # batch norm needs a spread
            advice = "; a larger train.batch_size helps" if few else ""
            raise ModelError(
                f"the network cannot learn from a batch of {len(images)}: {first}{advice}."
            ) from error
        # On log-probabilities, too: their log-softmax is what they are.
        loss = F.cross_entropy(scores, labels, label_smoothing=self._smoothing)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return loss.detach(), scores.detach()

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name: the tensors themselves, not copies."""
        found = {f"network.{name}": tensor for name, tensor in _tensors(self.network)}
        for place, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state[parameter].items():
                found[f"optimizer.{place}.{name}"] = value
        if self.average:
            found |= {f"average.{n}": tensor for n, tensor in _tensors(self.average.network)}
            found["average_steps"] = torch.tensor(self.average.steps)
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """Become what gave `state`.

        Raises:
            CheckpointError: it is that of another network, or of other settings.
        """
        try:
            self._load(state)
        except (KeyError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint is of another network, or of other settings: {first}."
            ) from None

    def _load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in _tensors(self.network):
                tensor.copy_(state[f"network.{name}"])
            for place, parameter in enumerate(self._parameters()):
                own = f"optimizer.{place}."
                for key, value in state.items():
                    if key.startswith(own):
                        # in the parameter's own layout, which a fused step takes for granted
                        like = parameter if value.shape == parameter.shape else value
                        device = parameter.device
                        kept = torch.empty_like(like, dtype=value.dtype, device=device)
                        self.optimizer.state[parameter][key[len(own) :]] = kept.copy_(value)
            if self.average:
                for name, tensor in _tensors(self.average.network):
                    tensor.copy_(state[f"average.{name}"])
                self.average.steps = int(state["average_steps"])

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers, also those that a state_dict leaves out."""
    return [*network.named_parameters(), *network.named_buffers()]
