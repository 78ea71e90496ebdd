"""The filter lets pass what people save, and names only operators that there are."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from service.intake.check import check_model
from service.intake.operators import ATEN, NEVER, PRIM, PROFILER
from service.storage.formats import told_by_content
from tests.security.legitimate_models import CUSTOM, LAYERS, exports, layer


def passes(folder: Path, content: bytes) -> None:
    path = folder / "model.pt"
    path.write_bytes(content)
    check_model(path, told_by_content(path))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_type_passes(tmp_path: Path, name: str) -> None:
    module, inputs = layer(name)
    made = exports(module, *inputs)
    assert len(made) >= 2
    for content in made.values():
        passes(tmp_path, content)


@pytest.mark.parametrize("name", CUSTOM)
def test_own_code_passes(tmp_path: Path, name: str) -> None:
    module, example = CUSTOM[name]()
    made = exports(module, example)
    assert {"scripted", "frozen"} <= set(made)
    for content in made.values():
        passes(tmp_path, content)


class FirstOutput(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(*inputs)[0]  # type: ignore[no-any-return]


SMALL: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
WORDS: dict[str, object] = {"vocab_size": 99, **SMALL}
IDS, IMAGE, SOUND = torch.ones(2, 16, dtype=torch.long), (2, 3, 32, 32), (2, 800)
NETWORKS: dict[str, tuple[dict[str, object], tuple[int, ...] | None]] = {
    "Bert": (WORDS, None),
    "GPT2": ({"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 2}, None),
    "T5": (
        {"vocab_size": 99, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
        None,
    ),
    "Llama": (WORDS | {"num_key_value_heads": 2}, None),
    "Mixtral": (WORDS | {"num_key_value_heads": 2, "num_local_experts": 2}, None),
    "Mamba": ({"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2}, None),
    "DebertaV2": (WORDS | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, None),
    "ViT": (SMALL | {"image_size": 32, "patch_size": 8}, IMAGE),
    "ResNet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}, IMAGE),
    "ConvNext": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, IMAGE),
    "Swin": (
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]},
        IMAGE,
    ),
    "Wav2Vec2": (
        SMALL
        | {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3)}
        | {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16}
        | {"num_conv_pos_embedding_groups": 2},
        SOUND,
    ),
}
"""By the name of their classes in transformers: a small configuration, and the shape of an input;
None: token ids."""


ONE_ATTENTION = ("ResNet", "ConvNext", "Mamba", "DebertaV2", "T5")
NETWORKS_AND_ATTENTIONS = [
    (name, attention)
    for name in NETWORKS
    for attention in ("eager", "sdpa")
    if attention == "eager" or name not in ONE_ATTENTION
]


@pytest.mark.parametrize(("name", "attention"), NETWORKS_AND_ATTENTIONS)
def test_known_networks_pass(tmp_path: Path, name: str, attention: str) -> None:
    """Built from a configuration: nothing is downloaded."""
    settings, shape = NETWORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        config = getattr(transformers, f"{name}Config")(**settings)
        config._attn_implementation = attention
        config.use_cache = False
        model = getattr(transformers, f"{name}{'Encoder' if name == 'T5' else ''}Model")(config)
        example = IDS if shape is None else torch.randn(shape)
        traced = torch.jit.trace(FirstOutput(model.eval()), example, check_trace=False)
        file = io.BytesIO()
        torch.jit.save(traced, file)
    passes(tmp_path, file.getvalue())


def test_an_exported_program_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        torch.export.save(torch.export.export(module, (torch.ones(2, 4),)), path)
    passes(tmp_path, path.read_bytes())


def test_an_archive_that_was_packed_again_passes(tmp_path: Path) -> None:
    """As `unzip` and `zip` leave it: other flags, everything compressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = exports(nn.Linear(4, 3), torch.ones(1, 4))["scripted"]
    again = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    passes(tmp_path, again.getvalue())


def registered(namespace: str) -> set[str]:
    schemas = torch._C._jit_get_all_schemas()
    names = (str(schema.name) for schema in schemas)
    return {name.partition("::")[2] for name in names if name.startswith(f"{namespace}::")}


def test_every_name_on_the_list_is_an_operator() -> None:
    assert ATEN - registered("aten") == set()
    assert PRIM - registered("prim") == set()
    assert registered("profiler") == PROFILER


def test_nothing_that_torch_has_to_open_files_or_reach_others_is_on_the_list() -> None:
    """By what an operator takes: a file name, another process, a process group."""
    for schema in torch._C._jit_get_all_schemas():
        namespace, _, name = str(schema.name).partition("::")
        arguments = {one.name for one in schema.arguments if "str" in str(one.type)}
        if namespace == "aten" and arguments & {"filename", "file", "path", "dst", "group_name"}:
            assert name not in ATEN, schema
    assert {"from_file", "save"} <= registered("aten") & NEVER
    assert not NEVER & (ATEN | PRIM | PROFILER)
