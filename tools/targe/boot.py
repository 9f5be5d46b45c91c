"""From the options of a command to a machine that can be started.

`check` finds what is wrong with the options before anything is installed or built; `prepare`
needs the build. The boot archive is a file without a name: nothing is left of it afterwards.
"""

import errno
import re
import socket
import tempfile
from pathlib import Path

from targe import accel, archive, manifest, project
from targe.machine import Config
from targe.report import Failure, say

_MIB = 1 << 20
# What the firmware, the kernel, its page array and `init` need beside archive and programs.
_BASE_MEMORY = 24 * _MIB
_DEFAULT_MEMORY = 256 * _MIB
_SPARE_MEMORY = 64 * _MIB
_MOST_CPUS = 64


def check(options):
    """Finds mistakes in the options that need no build to be seen."""
    if not 1 <= options.smp <= _MOST_CPUS:
        raise Failure(f"--smp takes 1 to {_MOST_CPUS}, not {options.smp}")
    if options.memory is not None:
        memory_bytes(options.memory)
    if not re.fullmatch(r"user|none|tap=[^/\s,]{1,15}", options.net):
        raise Failure(f"--net takes user, tap=NAME or none, not '{options.net}'")
    check_site(options)
    manifest.read(manifest_file(options), cpus=options.smp)
    if options.net.startswith("tap="):
        _check_interface(options.net.removeprefix("tap="))
    if options.screen and options.machine == "microvm":
        raise Failure("--screen needs a machine with PCI, which microvm has not")
    if options.net == "none" and options.pcap:
        raise Failure("--pcap needs a network, but --net is none")
    if options.pcap:
        check_output("--pcap", options.pcap)
    if options.net == "user":
        check_port(options.port)


def _check_interface(name):
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        raise Failure(f"there is no network interface '{name}'") from error


def memory_bytes(text):
    """A size such as 512M, 2G or 512 (MB) in bytes."""
    match = re.fullmatch(r"(\d{1,7})([MmGg]?)[Bb]?", text)
    if not match:
        raise Failure(f"--memory takes a size such as 512M or 2G, not '{text}'")
    return int(match.group(1)) * (1024 if match.group(2) in ("G", "g") else 1) * _MIB


def site_folder(options):
    """The folder to serve."""
    if options.site is None:
        return project.DEFAULT_SITE
    folder = Path(options.site)
    if folder.exists() and not folder.is_dir():
        raise Failure(f"--site takes a folder, but {options.site} is a file")
    if not folder.is_dir():
        raise Failure(f"the site folder {options.site} does not exist")
    return folder


def check_site(options):
    """The site must be a folder; one without a first page is probably a mistake."""
    folder = site_folder(options)
    if not (folder / "index.html").is_file():
        say(f"warning: {folder} has no index.html, so / will not be found")
    if (folder / "machine.json").exists():
        say(f"warning: {folder}/machine.json will not be served: /machine.json is the machine's state")


def check_output(option, name):
    """A file that is to be written needs a folder that exists."""
    folder = Path(name).parent
    if not folder.is_dir():
        raise Failure(f"{option} {name}: there is no folder {folder}")
    if Path(name).is_dir():
        raise Failure(f"{option} {name}: this is a folder, not a file")


def manifest_file(options):
    """The manifest to boot with."""
    return Path(options.manifest) if options.manifest else project.DEFAULT_MANIFEST


def check_port(port):
    """Two ports are used: one for the site, the next for the second library OS."""
    if not 1 <= port <= 65534:
        raise Failure(f"--port takes 1 to 65534, not {port}")
    for number in (port, port + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise Failure(f"port {number} is in use; choose another with --port "
                                  "(the next one is used too)") from error
                raise Failure(f"cannot use port {number}: {error.strerror}") from error


def members(options, variant, init="init.elf"):
    """The boot archive's members and the manifest."""
    programs = project.programs(variant)
    first = programs.pop(init, None)
    if first is None:
        raise Failure(f"the build made no program {init}")
    settings = manifest.read(manifest_file(options), set(programs))
    site = site_folder(options)
    return archive.boot_members(first, settings.text, programs, site), settings


def open_archive(parts):
    """A nameless file with the boot archive."""
    project.BUILD.mkdir(exist_ok=True)
    file = tempfile.TemporaryFile(dir=project.BUILD)
    archive.write(parts, file)
    return file


def prepare(options, variant):
    """The machine that the options describe. The caller closes its `archive`."""
    parts, settings = members(options, variant)
    memory = _memory(options, archive.size(parts), settings)
    config = Config(
        kernel=str(project.kernel(variant)), machine=options.machine, smp=options.smp,
        memory=memory // _MIB, net=options.net, port=options.port, append=options.append or "",
        pcap=options.pcap, accel=accel.choose(options.accel, variant))
    if options.screen:
        config.devices = ("bochs-display",)
        config.vnc = "" if options.screen == "none" else options.screen
    if settings.address != manifest.Manifest.address:
        config.guest = str(settings.address.ip)
        config.user_net = f",net={settings.address.network},host={settings.gateway}"
    config.archive = open_archive(parts)
    return config, settings


def _memory(options, archive_size, settings):
    """Memory of the machine in bytes; the default grows with the site."""
    needed = archive_size + settings.pages * 4096 + _BASE_MEMORY
    needed = -(-needed // _MIB) * _MIB
    if options.memory is None:
        return max(_DEFAULT_MEMORY, needed + _SPARE_MEMORY)
    given = memory_bytes(options.memory)
    if given < needed:
        raise Failure(f"too little memory: {given // _MIB} MB, but this site and manifest "
                      f"need {needed // _MIB} MB (--memory {needed // _MIB}M)")
    return given
