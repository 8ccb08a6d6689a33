"""A network and what changes with it as it learns, one step at a time."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.config import Train
from smidgen.errors import ModelError
from smidgen.training.average import Ema
from smidgen.training.optimizer import build_optimizer


class Learner:
    """The network, its optimizer and its running average, as the settings ask for them."""

    def __init__(self, network: nn.Module, settings: Train) -> None:
        self.network = network
        self.optimizer = build_optimizer(network, settings.optimizer)
        ema = settings.average.name == "ema"
        self.average = Ema(network, settings.average.decay) if ema else None
        self._forward = torch.compile(network) if settings.compile else network
        self._half = settings.precision == "bfloat16"
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
            group["lr"] = lr
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._half):
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
        loss = F.cross_entropy(scores.float(), labels, label_smoothing=self._smoothing)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return loss.detach(), scores.detach()
