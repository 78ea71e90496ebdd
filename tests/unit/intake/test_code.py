"""Operators in TorchScript code, however they are written."""

from __future__ import annotations

import contextlib
import time

import pytest

from service.intake.code import CodeFile, check_code
from service.intake.operators import ATEN, NEVER
from service.intake.refusal import Refused

MODEL = """class Net(Module):
  __parameters__ = ["weight", ]
  weight : Tensor
  names : Dict[str, int]
  __annotations__["0"] = __torch__.torch.nn.modules.linear.Linear
  p : Final[float] = 1.0000000000000001e-05
  def forward(self: __torch__.save.Net,
    x: Tensor) -> Tensor:
    _0 = __torch__.torch.nn.functional.dropout
    weight = self.weight  # torch.save is only told of here
    _1 = (getattr(self, "0")).forward(x, )
    _2 = _0(_1, 0.5, False, False, )
    def __forked_function():
      return (self).helper(_2, 2, )
    y = torch.wait(fork(__forked_function))
    if torch.gt(torch.dim(y), 2):
      ops.prim.RaiseException(torch.format("cannot torch.save: {}", "from_file"))
    _3 = ops.prim.NumToTensor(torch.size(y, 0))
    _4 = torch.mul(torch.linalg_norm(y), CONSTANTS.c0)
    _5 = [y, y].append(y)
    return torch.add(y, 2.5e+3, alpha=1.)
  def helper(self: __torch__.Net,
    x: Tensor,
    n: int) -> Tensor:
    return annotate(Optional[Tensor], torch.relu(x))
"""


def check(text: str) -> None:
    check_code([CodeFile("'net/code/__torch__.py'", text)])


def test_what_torch_prints_passes() -> None:
    check(MODEL)


@pytest.mark.parametrize(
    "line",
    [
        'x = torch.from_file("/etc/passwd", False, 8)',
        'torch.save(x, "/tmp/loot")',
        'ops.aten.save(x, "/tmp/loot")',
        'torch . save(x, "/tmp/loot")',
        'torch.\\\n  save(x, "/tmp/loot")',
        'x.save("/tmp/loot")',
        '(x).save("/tmp/loot")',
        '(2).save("/tmp/loot")',
        '2..save("/tmp/loot")',
        '.5.save("/tmp/loot")',
        '"text".save("/tmp/loot")',
        '[x][0].save("/tmp/loot")',
        "write = x.save",
        "write = torch.save",
        'read = getattr\n    read(x, "save")("/tmp/loot")',
        'getattr ((x), "save")("/tmp/loot")',
        "t = torch",
        "o = ops",
        "a = ops.aten",
        'getattr(torch, "save")(x, "/tmp/loot")',
        'getattr(x, "save")("/tmp/loot")',
        'getattr(x, "sa\\166e")("/tmp/loot")',
        "getattr(x, 'save', )('/tmp/loot')",
        'getattr(x, """save""")("/tmp/loot")',
        "torch._foobar(x)",
        "torch.conv2d.save(x)",
        "torch.quantize_per_tensor(x, 0.1, 1, 13)",
        "torch._sparse_coo_tensor_unsafe(x, x, [2])",
        "torch.set_(x, y)",
        "x.set_(y)",
        "x.rpc_async()",
        "ops.prim.PythonOp(x)",
        "ops.quantized.add(x, x, 1., 0)",
        "ops.torchvision.nms(x, x, 0.5)",
        "ops.mylib.run(x)",
        "x.unknown_method()",
        "x : __torch__.torch.classes.dist_c10d.Store = y",
        "torch.zeros([1]) + torch.brandnew(x)",
        "x = \u00e9",
        'x = "never ends',
    ],
)
def test_what_no_model_needs_is_refused(line: str) -> None:
    with pytest.raises(Refused, match="line 5: "):
        check(f"class Net(Module):\n  def forward(self, x):\n    pass\n\n    {line}\n")


def test_a_text_is_not_code() -> None:
    for text in ('"torch.save"', "'ops.mylib.run'", '"\\"torch.save("', '"""a\n"torch.save"\n"""'):
        check(f"x = [{text}, 1]\n")


def test_a_method_of_the_file_may_have_any_harmless_name() -> None:
    check("def brandnew(self): return 1\ndef forward(self, x): return (self).brandnew()\n")
    with pytest.raises(Refused):
        check("def save(self): return 1\ndef forward(self, x): return (self).save()\n")


def test_the_answer_names_file_line_and_operator() -> None:
    with pytest.raises(Refused) as caught:
        check('def forward(self, x):\n  return torch.from_file("x")\n')
    assert str(caught.value).startswith(
        "'net/code/__torch__.py', line 2: the operator aten::from_f"
    )


def test_reading_takes_time_in_proportion() -> None:
    """No text makes the expressions try again and again: 200 kB take a moment."""
    for piece in ("a.", '"', "\\", "torch.relu(x)\n", ".a", "1.", "'''", "# ", "a .\n"):
        begun = time.process_time()
        with contextlib.suppress(Refused):
            check(piece * (200_000 // len(piece)))
        assert time.process_time() - begun < 10, piece


def test_never_is_never_on_the_list() -> None:
    assert not NEVER & ATEN
