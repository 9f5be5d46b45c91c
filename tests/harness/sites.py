"""Sites made for tests, and fetching them whole with curl."""

import hashlib
import random
import subprocess
from urllib.parse import quote

_MIB = 1 << 20
_NAMES = ("index.html", "a.css", "deep/er/still/x.js", "with space.txt", "percent%41.txt",
          "question?mark.txt", "hash#sign.txt", "plus+and&.txt", "\u00fcml\u00e4ut.txt",
          "empty.bin", "dir/index.html", "no-extension", "..dots..txt",
          "long/" + "n" * 90 + ".txt")


def make(folder, megabytes=1, files=60):
    """Fills a folder with files of odd names and sizes, the same each time."""
    random.seed(1995)
    for name in _NAMES:
        size = 0 if name == "empty.bin" else random.choice((1, 511, 512, 513, 4096, 70001))
        _write(folder / name, size)
    left = megabytes * _MIB
    for number in range(files):
        part = left // (files - number)
        size = left if number == files - 1 else max(1, int(part * random.uniform(0.3, 1.7)))
        _write(folder / f"data{number % 7}" / f"file{number}.bin", min(size, left))
        left -= min(size, left)
    return folder


def _write(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.randbytes(size))


def fetch_all(site, address, folder, seconds, prefix=()):
    """Fetches every file of a site by one curl and compares the checksums."""
    files = sorted(path for path in site.rglob("*") if path.is_file())
    lines = []
    for number, path in enumerate(files):
        url = address + quote("/" + str(path.relative_to(site)))
        lines += [f'url = "{url}"', f'output = "{folder}/{number}"']
    config = folder / "curl.config"
    config.write_text("\n".join(["fail", "silent", "show-error", "path-as-is", *lines]) + "\n",
                      encoding="utf-8")
    done = subprocess.run([*prefix, "curl", "--config", str(config)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"curl: {done.stdout.strip()}"
    for number, path in enumerate(files):
        assert _digest(folder / str(number)) == _digest(path), f"{path} arrived changed"
    return len(files)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
