"""The `debug` command: gdb attached to the machine, with the kernel's symbols."""

from harness.context import free_port, processes_with, until


def test_symbols_and_breakpoint(ctx):
    """A gdb script stops in the kernel and reads a register and a symbol."""
    script = ctx.folder / "script.gdb"
    script.write_text("info symbol $pc\nhbreak kernel_main\ncontinue\nbacktrace 1\n"
                      "info line\nprograms\nkill\n", encoding="ascii")
    port = free_port()
    process = ctx.targe("debug", "--accel", "tcg", "--batch", str(script), "--port", str(port))
    out, errors = process.communicate(timeout=100)
    text = out.decode()
    assert "kernel_main" in text, text + errors.decode()
    assert ".c:" in text or '.c"' in text, text
    assert "add-symbol-file" in text and "web.elf" in text, text
    until(lambda: not processes_with(f"127.0.0.1:{port}-"), 5, "the end of QEMU")
