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

_SPARSEMAX = '''
class Sparsemax(nn.Module):
    """The nearest probabilities along `dim`: many are exactly 0 (arXiv:1602.02068)."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        z = x.transpose(self.dim, -1)
        ordered = z.sort(-1, descending=True).values
        beyond = ordered.cumsum(-1) - 1
        ranks = torch.arange(1, z.shape[-1] + 1, device=z.device)
        support = (ranks * ordered > beyond).sum(-1, keepdim=True)
        threshold = beyond.gather(-1, support - 1) / support
        return (z - threshold).clamp_min(0).transpose(self.dim, -1)
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
    "Sparsemax": _SPARSEMAX,
    "Parameter": _PARAMETER,
}
"""By layer type."""
NEED_TORCH = frozenset({"Concat", "Squareplus", "SparsePlus", *OWN_CLASSES})
"""Layer types whose source says `torch.`"""
