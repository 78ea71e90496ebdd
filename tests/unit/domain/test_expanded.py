"""A network written out means the same network."""

from __future__ import annotations

from hypothesis import given, settings

from service.domain.architecture import Architecture, resolve
from service.domain.expanded import expanded
from tests.unit.domain.random_specs import REPEATABLE, Network, networks


def meaning(architecture: Architecture) -> list[tuple[object, ...]]:
    """Everything but the names."""
    place = {node.name: index for index, node in enumerate(architecture.layers)}
    place |= {sample.name: -1 - index for index, sample in enumerate(architecture.inputs)}
    return [
        (
            node.type,
            node.args,
            [place.get(source, source) for source in node.inputs],
            node.init,
            node.output_shape,
            node.parameters,
            node.forward,
            node.parametrizations,
            place.get(node.shares or "", None),
        )
        for node in architecture.layers
    ]


@settings(REPEATABLE, max_examples=100)
@given(network=networks())
def test_written_out_it_resolves_to_the_same(network: Network) -> None:
    architecture = resolve(network.spec)
    written = expanded(architecture)
    assert meaning(resolve(written)) == meaning(architecture)
    names = [layer["name"] for layer in written["layers"]]
    assert len(set(names)) == len(names)
    assert not any("." in name for name in names)
    assert not any("layers" in layer or "repeat" in layer for layer in written["layers"])


def test_names_that_would_meet_are_kept_apart() -> None:
    spec = {
        "input": {"shape": [4]},
        "layers": [
            {"name": "a", "layers": [{"name": "b", "type": "ReLU"}]},
            {"name": "a_b", "type": "Tanh"},
        ],
    }
    written = expanded(resolve(spec))
    assert [layer["name"] for layer in written["layers"]] == ["a_b", "a_b_2"]
    assert [layer["inputs"] for layer in written["layers"]] == [["input"], ["a_b"]]
