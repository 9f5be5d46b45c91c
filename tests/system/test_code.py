"""Downloaded code on the host: `targe code` on what clang makes, and the conformance plugin."""

import subprocess
import sys

from harness.fuzz import fuzz
from harness.system import limit
from targe import project
from targe.build import build

_PLUGIN = project.BUILD / "host" / "bpf-plugin"

_GOOD = """
#include "code/program.h"
static __attribute__((noinline)) u32 port(const u8 *packet) { return packet[36] << 8 | packet[37]; }
PROGRAM("predicate") u64 web(const u8 *packet, u64 length) {
    if (length < 38)
        return 0;
    return *(const u16 *)(packet + 12) == from_big16(0x0800) && packet[23] == 6 &&
           port(packet) == 80;
}
PROGRAM("handler") u64 answer(const struct handler_context *context) {
    u8 head[16];
    u64 sum = 0;
    if (context->packet_length < 60 || context->reply_length < 60)
        return 0;
    for (u64 n = 0; n < context->packet_length; n++)
        sum += context->packet[n];
    copy(head, context->packet, 16, 0);
    context->reply[sum % 60] = head[sum & 15];
    return copy(context->reply, context->packet + 14, 20, sum & 0xffff);
}
"""

_BAD = {
    "stores": ("predicate", "u64 f(u8 *p, u64 n) {\n    p[0] = (u8)n;\n    return 1;\n}",
               "p[0] = (u8)n;", "does not let it write"),
    "leaks": ("handler", "u64 f(struct handler_context *c) {\n    return (u64)c->packet;\n}",
              None, "exits without a number in r0"),
    "escapes": ("handler", "u64 f(struct handler_context *c) {\n    volatile u8 b[8];\n"
                "    b[0] = 1;\n    return b[c->time & 15];\n}",
                "return b[c->time & 15];", "stack"),
    "wild": ("handler", "u64 f(struct handler_context *c) {\n    return *(u64 *)c->time;\n}",
             "return *(u64 *)c->time;", "not a pointer"),
    "data": ("handler", "const u64 t[4] = {1, 2, 3, 4};\nu64 f(struct handler_context *c) {\n"
             "    return t[c->time & 3];\n}", None, "global data"),
    "calls": ("handler", "u64 other(u64 n);\nu64 f(struct handler_context *c) {\n"
              "    return other(c->time);\n}", None, "does not have: other"),
}


def _compile(ctx, name, text):
    source = ctx.folder / f"{name}.c"
    source.write_text(text, encoding="utf-8")
    made = ctx.folder / f"{name}.o"
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", f"-I{project.ROOT / 'libos' / 'lib'}",
                    "-c", source, "-o", made], check=True)
    return made


def _code(*words):
    done = subprocess.run([sys.executable, "-B", project.ROOT / "tools" / "targe", "code", *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@limit(120)
def test_accepted(ctx):
    """A program that clang made is shown with its bounds and its source lines."""
    made = _compile(ctx, "good", _GOOD)
    status, text, errors = _code(made)
    assert status == 0, text + errors
    assert "proved, packet has at least 38" in text and "accepted" in text, text
    assert "if (length < 38)" in text and "4 accesses proved, 0 checked" in text, text
    status, text, errors = _code(made, "--section", "handler")
    assert status == 0, text + errors
    assert "checked in each run" in text and "going back costs" in text, text


@limit(120)
def test_refused(ctx):
    """A program that is refused: the first reason, and the source line if there is one."""
    for name, (section, body, line, why) in _BAD.items():
        head = f'#include "code/program.h"\n#define F PROGRAM("{section}") u64 f\n'
        text = head + body.replace("u64 f(", "F(") + "\n"
        status, out, errors = _code(_compile(ctx, name, text))
        assert status == 1 and why in out + errors, f"{name}: {out}{errors}"
        assert line is None or line in out, f"{name}: {out}"


def test_code_errors(ctx):
    """What is no object, or not there, is one clear line."""
    (ctx.folder / "text").write_text("hello", encoding="ascii")
    for words, why in ((("text",), "not an object"), (("missing",), "no such file")):
        status, _, errors = _code(ctx.folder / words[0])
        assert status == 1 and why in errors, errors


def _plugin(program, *words):
    return subprocess.run([_PLUGIN, *words], input=program, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


@limit(120)
def test_plugin(_ctx):
    """The plugin as conformance suites call it, with both engines."""
    build(goals=["host"])
    length, add = "bf 20 00 00 00 00 00 00", "0f 10 00 00 00 00 00 00"
    end = "95 00 00 00 00 00 00 00"
    cases = [
        (f"b7 00 00 00 2a 00 00 00 {end}", [], "2a"),
        (f"b7 00 00 00 ff ff ff ff {end}", [""], "ffffffffffffffff"),
        (f"{length} {end}", ["01 02 03"], "3"),
        (f"{length} {end}", [""], "0"),
        (f"71 10 02 00 00 00 00 00 {end}", ["01 02 a3"], "a3"),
        (f"71 10 02 00 00 00 00 00 {end}\n", ["0102a3"], "a3"),
        (f"7a 0a f8 ff 07 00 00 00 79 a0 f8 ff 00 00 00 00 {end}", [], "7"),
        (f"b7 00 00 00 01 00 00 00 c3 01 00 00 00 00 00 00 61 10 00 00 00 00 00 00 {end}",
         ["ff ff ff ff"], "0"),
        (f"{length} {add} {end}", ["00"], None),             # returns a pointer
        (f"71 10 03 00 00 00 00 00 {end}", ["01 02 a3"], None),  # behind the memory
        (f"bf 50 00 00 00 00 00 00 {end}", [], None),        # r5 has no value
        ("05 00 ff ff 00 00 00 00", [], None),               # for ever
        ("b7 00 00", [], None), ("", [], None), ("zz", [], None),
    ]
    for program, words, result in cases:
        for engine in ([], ["--jit"], ["--interpret"]):
            done = _plugin(program, *words, *engine)
            if result is None:
                assert done.returncode != 0 and done.stderr and not done.stdout, (program, done)
            else:
                assert done.returncode == 0 and done.stdout == f"{result}\n", (program, done)


@limit(300)
def test_fuzz(_ctx):
    """Every fuzz target from the kept corpus: for a minute in CI, else for 5 seconds."""
    fuzz(*sorted(path.stem for path in (project.ROOT / "tests" / "fuzz").glob("fuzz_code_*.c")), seconds=60)
