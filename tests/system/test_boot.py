"""The machine boots in every way that is promised, and serves."""

import subprocess
import urllib.request

from harness.context import free_port, wait_for_answer
from harness.machine_json import machine_json
from harness.system import limit
from targe import archive, boot, manifest, project
from targe.machine import Config

_OVMF = "/usr/share/ovmf/OVMF.fd"


def _serves(machine, cpus=1, seconds=30):
    wait_for_answer(machine, seconds)
    state = machine_json(machine)
    assert len(state["cpus"]) == cpus, f"{len(state['cpus'])} CPUs instead of {cpus}"
    assert state["memory"]["free"] > 0


def test_q35(ctx):
    """QEMU's usual machine, by PVH."""
    _serves(ctx.machine(machine="q35"))


def test_pc(ctx):
    """The older PC, by PVH."""
    _serves(ctx.machine(machine="pc"))


def test_microvm(ctx):
    """No PCI: virtio over MMIO."""
    _serves(ctx.machine(machine="microvm"))


def test_two_cpus(ctx):
    """Two CPUs are started."""
    _serves(ctx.machine(smp=2), cpus=2)


def test_four_cpus(ctx):
    """Four CPUs are started."""
    _serves(ctx.machine(smp=4), cpus=4)


def test_four_cpus_microvm(ctx):
    """Four CPUs without the usual firmware."""
    _serves(ctx.machine(smp=4, machine="microvm"), cpus=4)


def test_much_memory(ctx):
    """Memory above 4 GiB is found and used."""
    machine = ctx.serving(memory="6G")
    pages = machine_json(machine)["memory"]["free"]
    assert pages > 5 << 18, f"only {pages} pages are free of 6 GB"


def test_eight_megabytes(ctx):
    """A machine of 8 MB holds web, monitor and mini, with some memory to spare (bench/manifest-small)."""
    folder, programs = project.ROOT / "bench", project.programs("release")
    first = programs.pop("init.elf")
    settings = manifest.read(folder / "manifest-small", set(programs))
    wanted = {name: programs[name] for name in settings.programs.values()}
    parts = archive.boot_members(first, settings.text, wanted, folder / "site")
    config = Config(kernel=str(project.kernel("release")), memory=8, net="user", port=free_port())
    with boot.open_archive(parts) as config.archive:
        machine = ctx.start(config)
    _serves(machine)
    state = machine_json(machine)
    assert {env["name"] for env in state["envs"]} == {"init", "web", "monitor", "mini"}
    assert state["memory"]["free"] > 256, state["memory"]["free"]
    with urllib.request.urlopen(f"http://127.0.0.1:{config.port + 1}/envs", timeout=15) as answer:
        assert b"web" in answer.read()


@limit(600)  # it may have to be built
def test_debug_variant(ctx):
    """The debug build, which checks itself, serves too."""
    _build("debug")
    _serves(ctx.machine(variant="debug", smp=2), cpus=2)


@limit(600)
def test_ubsan_variant(ctx):
    """The kernel with the undefined-behaviour sanitizer serves too, and has nothing to say."""
    _build("ubsan")
    machine = ctx.machine(variant="ubsan", smp=2)
    _serves(machine, cpus=2)
    assert "ubsan" not in machine.output.lower(), machine.output


def _build(variant):
    subprocess.run([str(project.ROOT / "targe"), "build", "--variant", variant],
                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _iso(ctx):
    output = ctx.folder / "targe.iso"
    made = ctx.targe("iso", "--output", str(output))
    _, errors = made.communicate()
    assert made.returncode == 0, errors.decode()
    return str(output)


@limit(240)
def test_grub_bios(ctx):
    """The image that `targe iso` writes, by GRUB and multiboot2 on BIOS."""
    port = ctx.options().port
    _serves(ctx.start(Config(iso=_iso(ctx), net="user", port=port)), seconds=60)


@limit(240)
def test_grub_uefi(ctx):
    """The same image on UEFI."""
    port = ctx.options().port
    config = Config(iso=_iso(ctx), firmware=_OVMF, net="user", port=port, smp=2, memory=512)
    _serves(ctx.start(config), cpus=2, seconds=120)
