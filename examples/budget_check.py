"""Check a budget in your own training script: a few lines of smidgen, the rest is plain PyTorch.

python examples/budget_check.py
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import smidgen
from smidgen.data import normalize

network = nn.Sequential(
    nn.Conv2d(1, 8, 3, stride=2),
    nn.ReLU(),
    nn.Conv2d(8, 16, 3, stride=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(16 * 6 * 6, 10),
)

# Before training: a limit on parameters needs only the network, other limits need its profile.
budget = smidgen.Budget(max_params=8_000, max_macs=200_000, max_epochs=3, min_accuracy=0.8)
verdict = budget.check(smidgen.profile(network, (1, 28, 28)), epochs=3)
assert verdict.passed, verdict

data = smidgen.load("digits")
images = normalize(data.train.images, data.mean, data.std)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
torch.manual_seed(0)
for _ in range(3):
    for chosen in torch.split(torch.randperm(len(images)), 16):
        loss = F.cross_entropy(network(images[chosen]), data.train.labels[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

with torch.no_grad():
    scores = network(normalize(data.test.images, data.mean, data.std))
accuracy = float((scores.argmax(1) == data.test.labels).float().mean())
verdict = budget.check(smidgen.profile(network, (1, 28, 28)), epochs=3, accuracy=accuracy)
print(verdict)
raise SystemExit(0 if verdict.passed else 1)
