"""Source of the layer types that torch.nn lacks and that are more than an expression."""

from __future__ import annotations

from collections.abc import Mapping

_NOISY_RELU = '''
class NoisyReLU(nn.Module):
    """max(0, x + N(0, sigmoid(x))) in training, max(0, x) in evaluation (Nair & Hinton 2010)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + torch.sigmoid(x.detach()).sqrt() * torch.randn_like(x)
        return torch.relu(x)
'''

_PARAMETER = '''
class Parameter(nn.Module):
    """Numbers that are learned, the same for every sample: of its input only the batch counts."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), *self.weight.shape)
'''

OWN_CLASSES: Mapping[str, str] = {
    "NoisyReLU": _NOISY_RELU,
    "Parameter": _PARAMETER,
}
"""By layer type."""
NEED_TORCH = frozenset({"Concat", "Squareplus", "SparsePlus", *OWN_CLASSES})
"""Layer types whose source says `torch.`"""
