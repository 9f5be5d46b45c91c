"""Where things are in the project. Everything that is made goes below build/."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
ARTIFACTS = BUILD / "artifacts"
DEFAULT_SITE = ROOT / "site"
DEFAULT_MANIFEST = ROOT / "libos" / "init" / "manifest"


def kernel(variant):
    """The kernel of a build variant."""
    return BUILD / variant / "targe.elf"


def programs(variant):
    """The programs of a build variant by name, as files."""
    return {path.name: path for path in sorted((BUILD / variant / "programs").glob("*.elf"))}
