"""Entry: `python3 tools/targe COMMAND ...`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from targe.cli import main  # noqa: E402  (the path must be set first)

sys.exit(main(sys.argv[1:]))
