"""The real server on a host whose kernel has no Landlock, or refuses it filters of calls."""

from __future__ import annotations

import sys

from api.__main__ import main
from service.sandbox import linux
from tests.security.test_unsealable_host import without_landlock, without_seccomp

linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
{"landlock": without_landlock, "seccomp": without_seccomp}[sys.argv.pop()]()
main()
