"""One detector and its optimiser: what `loop.fit` drives when a detector is trained."""

from __future__ import annotations

import torch
from torch import nn

from rlkit.data.streams import Windows
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.optim import Adam, clip_norm
from rlkit.ops.schedules import warmed_up_cosine
from rlkit.perception.detection.detector import DetectionTask, DetectorClass, DetectorConfig, WindowBatch
from rlkit.types import Metrics, State


class DetectorLearner:
    """Learns a detector from windows with Adam, whose weight decay is decoupled (Loshchilov and Hutter 2019).

    Args:
        kind: Class of the detector.
        config: Its options.
        task: What it is told.
    """

    def __init__(self, kind: DetectorClass, config: DetectorConfig, task: DetectionTask) -> None:
        self.config, self.task = config, task
        self.device = torch.device(task.device)
        self.detector = kind(config, task).to(self.device)
        self.learned = [parameter for parameter in self.detector.parameters() if parameter.requires_grad]
        # biases and norms are vectors: they are not shrunk
        decays = [torch.full((parameter.numel(),), float(parameter.dim() > 1)) for parameter in self.learned]
        self.flat = flatten_parameters(nn.ParameterList(self.learned))
        self._decayed = torch.cat(decays).to(self.device)
        self.optimizer = Adam(self.flat, config.learning_rate)
        self.updates = 0

    def learn(self, batch: Windows) -> Metrics:
        """Exactly one update."""
        self.detector.train()
        loss, metrics = self.detector.loss(WindowBatch.of(batch, self.device))
        found = torch.autograd.grad(loss, self.learned, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.reshape(-1) for part in found])
        if self.config.max_grad_norm is not None:
            clip_norm(gradient, self.config.max_grad_norm)
        rate = self.learning_rate()
        with torch.no_grad():
            self.flat.addcmul_(self.flat, self._decayed, value=-rate * self.config.weight_decay)
        self.optimizer.learning_rate = rate
        self.optimizer.step(gradient)
        self.updates += 1
        return {"train/loss": loss.detach().item(), "train/learning_rate": rate, **metrics}

    def learning_rate(self) -> float:
        """Step size of the next update."""
        if self.config.learning_rate_schedule == "constant":
            return self.config.learning_rate
        return warmed_up_cosine(0.0, self.config.learning_rate, 0.0, 0.0, self.task.updates, self.updates)

    def policy_state(self) -> State:
        """The detector's weights, and how features are standardised."""
        return {"detector": dict(self.detector.state_dict())}

    def load_policy_state(self, state: State) -> None:
        """Restore what `policy_state` returned."""
        self.detector.load_state_dict(state["detector"])

    def training_state(self) -> State:
        """The optimiser and the updates made."""
        return {"optimizer": self.optimizer.state(), "updates": self.updates}

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        self.optimizer.load_state(state["optimizer"])
        self.updates = state["updates"]
