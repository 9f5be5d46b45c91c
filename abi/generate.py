#!/usr/bin/env python3
"""Make everything that follows from abi/targe.toml.

usage: generate.py OUTDIR [--reference FILE]

OUTDIR/targe/abi.h          numbers and structures, for the kernel and for libOSes
OUTDIR/targe/calls.h        libOS stubs, one inline function a call
OUTDIR/targe/call_table.h   the kernel's prototypes and its table of calls
OUTDIR/targe/names.h        names of calls, errors and enumerators, as X-macros, and the kinds of calls' arguments
FILE                        the reference page in Markdown
"""
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
SIZES = {"u8": 1, "u16": 2, "u32": 4, "s32": 4, "u64": 8, "s64": 8}
NOTE = "Made by abi/generate.py from abi/targe.toml; change that instead."


class Abi:
    def __init__(self, path):
        with open(path, "rb") as file:
            data = tomllib.load(file)
        self.version = data["version"]
        self.errors = data["error"]
        self.enums = data["enum"]
        self.consts = data["const"]
        self.structs = data["struct"]
        self.calls = data["call"]
        self.numbers = {v[0]: v[1] for e in self.enums for v in e["values"]}
        self.layouts = {}
        for struct in self.structs:
            self.check_struct(struct)
        errors = {e["name"] for e in self.errors}
        for call in self.calls:
            call.setdefault("args", [])
            call.setdefault("errors", [])
            call.setdefault("class", "plain")
            call.setdefault("rights", "none")
            for name in call["errors"]:
                if name not in errors:
                    sys.exit(f"abi: call {call['name']}: no error {name}")
            if len(call["args"]) > 6:
                sys.exit(f"abi: call {call['name']}: too many arguments")
        if len(self.calls) > self.numbers["CALLS"]:
            sys.exit("abi: more calls than CALLS")

    def split(self, kind):
        """'u32[N]' -> ('u32', 'N', value of N)"""
        if not kind.endswith("]"):
            return kind, "", 1
        base, bound = kind[:-1].split("[")
        return base, bound, self.numbers.get(bound) or int(bound)

    def check_struct(self, struct):
        offset, align = 0, 1
        offsets = []
        for kind, name, _ in struct["fields"]:
            base, _, count = self.split(kind)
            size, need = (SIZES[base],) * 2 if base in SIZES else self.layouts[base]
            if offset % need:
                sys.exit(f"abi: struct {struct['name']}: {name} is not aligned")
            offsets.append(offset)
            offset += size * count
            align = max(align, need)
        if offset != struct["size"] or offset % align:
            sys.exit(f"abi: struct {struct['name']}: {offset} bytes, not {struct['size']}")
        self.layouts[struct["name"]] = (offset, align)
        struct["offsets"] = offsets


def comment(text):
    return " ".join(text.split())


def write_abi(abi):
    out = [f"/* {NOTE} */", "#pragma once", "", f"#define ABI_VERSION {abi.version}"]
    for number, error in enumerate(abi.errors, 1):
        out.append(f"#define E_{error['name']} (-{number}) /* {comment(error['doc'])} */")
    for enum in abi.enums:
        prefix = {"page_type": "PAGE_", "cap_type": "CAP_", "right": "RIGHT_"}.get(enum["name"], "")
        out += ["", f"/* {enum['name']}: {comment(enum['doc'])} */"]
        for name, value, doc in enum["values"]:
            out.append(f"#define {prefix}{name} {value} /* {comment(doc)} */")
    out.append("")
    for const in abi.consts:
        out.append(f"#define {const['name']} {const['value']} /* {comment(const['doc'])} */")
    out.append("")
    for number, call in enumerate(abi.calls):
        out.append(f"#define CALL_{call['name'].upper()} {number}")
    out += [f"#define CALL_COUNT {len(abi.calls)}", ""]
    for struct in abi.structs:
        for (_, name, _), offset in zip(struct["fields"], struct["offsets"]):
            out.append(f"#define {struct['name'].upper()}_{name.upper()}_AT {offset}")
        out.append(f"#define {struct['name'].upper()}_BYTES {struct['size']}")
    out += ["", "#ifndef __ASSEMBLER__", "#include <stddef.h>", "#include <stdint.h>",
            "typedef uint8_t u8;", "typedef uint16_t u16;", "typedef uint32_t u32;",
            "typedef uint64_t u64;", "typedef int32_t s32;", "typedef int64_t s64;"]
    for struct in abi.structs:
        out += ["", f"/* {comment(struct['doc'])} */", f"struct {struct['name']} {{"]
        for kind, name, doc in struct["fields"]:
            base, bound, _ = abi.split(kind)
            ctype = base if base in SIZES else f"struct {base}"
            tail = f"[{bound}]" if bound else ""
            note = f" /* {comment(doc)} */" if doc else ""
            out.append(f"    {ctype} {name}{tail};{note}")
        out.append("};")
        out.append(f"_Static_assert(sizeof(struct {struct['name']}) == {struct['size']}, \"abi\");")
    out += ["#endif", ""]
    return "\n".join(out)


def c_type(kind):
    return "const struct cap *" if kind == "cap" else kind + " "


def pointer_type(call, arg):
    """Stubs take real pointers where the description says 'address of'."""
    table = {("want",): "struct cap *", ("out",): "struct cap *", ("batch",): "struct update *", ("takings",): "struct taking *",
             ("spec",): "const struct env_spec *", ("binding",): "const struct flow_binding *",
             ("frames",): "const struct send *", ("text",): "const char *",
             ("word",): "const volatile u64 *",
             ("program",): "struct code_spec *", ("handler",): "const struct handler_binding *"}
    kind = table.get((arg[0],)) if arg[1] == "u64" else None
    if arg[0] == "spec" and call["name"] == "flow_create":
        kind = "const struct flow_spec *"
    return kind or c_type(arg[1])


def write_stubs(abi):
    out = [f"/* {NOTE} */", "#pragma once", '#include "targe/abi.h"', ""]
    registers = ["rdi", "rsi", "rdx", "r10", "r8", "r9"]
    for call in abi.calls:
        if call["name"] == "transfer":
            continue  # its registers are the message: libos/rt has it in assembly
        args = call["args"]
        names = [a[0] for a in args]
        proto = ", ".join(f"{pointer_type(call, a)}{a[0]}" for a in args) or "void"
        out += [f"/* {comment(call['doc'])}", f" * Returns {comment(call['returns'])}. */",
                f"static inline s64 sys_{call['name']}({proto}) {{"]
        out.append(f"    register u64 rax __asm__(\"rax\") = CALL_{call['name'].upper()};")
        for name, register in zip(names, registers):
            out.append(f"    register u64 {register} __asm__(\"{register}\") = (u64){name};")
        used = registers[: len(names)]
        outputs = ['"+r"(rax)'] + [f'"+r"({r})' for r in used]
        clobbers = ["rcx", "r11"] + [r for r in registers if r not in used] + ["memory"]
        text = ", ".join(f'"{c}"' for c in clobbers)
        out.append(f"    __asm__ volatile(\"syscall\" : {', '.join(outputs)} : : {text});")
        out += ["    return (s64)rax;", "}", ""]
    return "\n".join(out)


def write_table(abi):
    out = [f"/* {NOTE} */", "#pragma once", '#include "targe/abi.h"', "struct regs;"]
    for call in abi.calls:
        if call["class"] == "transfer":
            out.append(f"void call_{call['name']}(struct regs *r);")
        else:
            kinds = {"cap": "u64"}
            proto = ", ".join(f"{kinds.get(a[1], a[1])} {a[0]}" for a in call["args"]) or "void"
            out.append(f"s64 call_{call['name']}({proto});")
    out += ["", "/* CALL_TABLE(plain, wide, pause, transfer): every call in the order of its number; wide: plain, and four arguments or more. */",
            "#define CALL_TABLE(plain, wide, pause, transfer) \\"]
    kinds = {c["name"]: "wide" if c["class"] == "plain" and len(c["args"]) > 3 else c["class"] for c in abi.calls}
    out += [f"    {kinds[c['name']]}({c['name']}) \\" for c in abi.calls]
    out += ["    /* end */", ""]
    return "\n".join(out)


def write_names(abi):
    out = [f"/* {NOTE} */", "#pragma once", ""]
    groups = [("CALL_NAMES", [(c["name"], n) for n, c in enumerate(abi.calls)]),
              ("ERROR_NAMES", [(e["name"], -n) for n, e in enumerate(abi.errors, 1)])]
    groups += [(f"{e['name'].upper()}_NAMES", [(v[0], v[1]) for v in e["values"]]) for e in abi.enums]
    for macro, values in groups:
        out.append(f"#define {macro}(X) \\")
        out += [f'    X({value}, "{name.lower()}") \\' for name, value in values]
        out += ["    /* end */", ""]
    letters = {"cap": "c", "u32": "n", "u64": "w"}
    shapes = ["".join(letters[a[1]] for a in c["args"]) for c in abi.calls]
    out += ["/* The kinds of each call's arguments: c the address of a capability, n a number of 32 bits, w one of 64. */",
            "#define CALL_SHAPES {" + ", ".join(f'"{shape}"' for shape in shapes) + "}", ""]
    return "\n".join(out)


def write_reference(abi):
    out = ["# Reference", "", f"{NOTE} Version {abi.version} of the interface.", "",
           "Numbers are in `eax`, arguments in `rdi rsi rdx r10 r8 r9`, the result in `rax`.",
           "A *cap* argument is the address of a capability; 0 presents ownership instead.", "", "## Calls", "",
           "| number | call | does |", "| --- | --- | --- |"]
    for number, call in enumerate(abi.calls):
        first = comment(call["doc"]).split(". ")[0].rstrip(".")
        out.append(f"| {number} | [{call['name']}](#{call['name']}) | {first} |")
    for number, call in enumerate(abi.calls):
        out += ["", f"### {call['name']}", "", f"Number {number}. {comment(call['doc'])}", ""]
        for name, kind, doc in call["args"]:
            out.append(f"- `{name}` ({kind}): {doc}")
        out.append(f"- returns: {call['returns']}")
        if call["errors"]:
            out.append("- errors: " + ", ".join(f"`{e}`" for e in call["errors"]))
        out.append(f"- rights: {call['rights']}")
        if call["class"] != "plain":
            out.append("- may suspend the caller: only rax, rsp, rbx, rbp and r12 to r15 survive")
        if "source" in call:
            out.append(f"- source: {call['source']}")
    out += ["", "## Errors", "", "| number | error | meaning |", "| --- | --- | --- |"]
    out += [f"| -{n} | {e['name']} | {e['doc']} |" for n, e in enumerate(abi.errors, 1)]
    out += ["", "## Constants"]
    for const in abi.consts:
        out += ["", f"`{const['name']}` = {const['value']}: {const['doc']}"]
    for enum in abi.enums:
        out += ["", f"### {enum['name']}", "", enum["doc"], "", "| name | value | meaning |", "| --- | --- | --- |"]
        out += [f"| {v[0]} | {v[1]} | {v[2]} |" for v in enum["values"]]
    out += ["", "## Structures", "", "Sizes and offsets are in bytes. *Exposed* ones lie in pages that every environment may map read-only."]
    for struct in abi.structs:
        exposed = ", exposed" if struct.get("exposed") else ""
        out += ["", f"### struct {struct['name']}", "", f"{comment(struct['doc'])} ({struct['size']} bytes{exposed})", "",
                "| offset | type | field | meaning |", "| --- | --- | --- | --- |"]
        for (kind, name, doc), offset in zip(struct["fields"], struct["offsets"]):
            out.append(f"| {offset} | {kind} | {name} | {doc} |")
    return "\n".join(out) + "\n"


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main():
    args = sys.argv[1:]
    if not args or args[0].startswith("-"):
        sys.exit(__doc__.strip())
    abi = Abi(HERE / "targe.toml")
    out = pathlib.Path(args[0]) / "targe"
    put(out / "abi.h", write_abi(abi))
    put(out / "calls.h", write_stubs(abi))
    put(out / "call_table.h", write_table(abi))
    put(out / "names.h", write_names(abi))
    if args[1:2] == ["--reference"]:
        put(pathlib.Path(args[2]), write_reference(abi))


if __name__ == "__main__":
    main()
