"""Names that a layer can have anywhere: in a flat spec, as an attribute of an nn.Module, as a key
of a state dict."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from keyword import iskeyword

MODULE_ATTRIBUTES = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children",
    "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward",
    "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half", "ipu",
    "load_state_dict", "modules", "mtia", "named_buffers", "named_children", "named_modules",
    "named_parameters", "parameters", "register_backward_hook", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_",
    "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip
"""What torch.nn.Module uses itself; those that begin with _ are avoided as such."""


def plain_names(paths: Iterable[str]) -> dict[str, str]:
    """A unique Python identifier for each dotted path, close to it: body.0.conv → body_0_conv.

    None is a keyword, a public attribute of nn.Module or begins with _, which nn.Module and Python
    have uses for; a number is added where a name is taken."""
    plain: dict[str, str] = {}
    taken = {"input"}
    counts: dict[str, int] = {}
    for path in paths:
        name = wanted = _identifier(path)
        while name in taken:
            counts[wanted] = counts.get(wanted, 1) + 1
            name = f"{wanted}_{counts[wanted]}"
        taken.add(name)
        plain[path] = name
    return plain


def _identifier(path: str) -> str:
    # Python reads identifiers in this normal form, so two spellings would be one attribute.
    letters = unicodedata.normalize("NFKC", path)
    name = "".join(letter if f"a{letter}".isidentifier() else "_" for letter in letters)
    if not name.isidentifier() or name.startswith("_"):
        name = f"layer_{name.lstrip('_')}"
    return f"{name}_" if iskeyword(name) or name in MODULE_ATTRIBUTES else name
