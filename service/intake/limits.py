"""What the filter reads of a file, and where it stops, on one page.

Sizes of real files, for comparison: BERT-base traced has 0.6 MB of code, 1,400 members and 0.4
million pickle opcodes; a traced network of 600 layers a third of that.
"""

from __future__ import annotations

MIB = 1 << 20

MAX_DIRECTORY = 4 * MIB
"""Bytes of a zip's directory: some 40,000 members; reading one takes fifty times its size."""
MAX_NAME = 1024
"""Characters of a member's name."""
MAX_RATIO = 200
"""How many times its compressed size a member of a MiB or more may have. Code reaches 10."""
RATIO_MATTERS_FROM = MIB
"""Bytes; smaller members may be as small as they like when compressed."""
MAX_INFLATED = 1024 * MIB
"""Bytes of all compressed members together once unpacked. Tensors are stored uncompressed."""
MAX_CODE = 8 * MIB
"""Bytes of all TorchScript code together; it is read at some 2 MB a second."""
MAX_PICKLES = 32 * MIB
"""Bytes of all pickles together, where tensors do not count."""
MAX_OPCODES = 4_000_000
"""Of all pickles together; they are read at a million a second."""
MAX_PROGRAM = 32 * MIB
"""Bytes of an exported program's JSON; an operation takes some 2,000, so 15,000 operations."""
MAX_EXPRESSION = 1000
"""Characters of one size's expression."""
