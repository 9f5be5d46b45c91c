"""Runs the tests; `./targe test` calls it. See docs/running.md."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE)
sys.path.insert(1, str(HERE.parent / "tools"))

from harness.runner import main  # noqa: E402  (the path must be set first)

sys.exit(main(sys.argv[1:]))
