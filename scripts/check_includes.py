#!/usr/bin/env python3
"""Checks the rules of the house that a compiler does not: who may include what, and how a source file begins.

usage: check_includes.py [--self-test] [TOP]

Every breach is told as file:line: rule. Exit status 0: none; 1: some; 2: nothing to check, so the call is wrong.
--self-test plants one breach of each rule in a copy of a small tree and demands that it is told.
"""

import pathlib
import re
import sys
import tempfile

# Room -> rooms that it may include, its own aside: the arrows between the CMake targets.
ROOMS = {
    "base": set(),
    "kernels": {"base"},
    "integrator": {"base", "kernels"},
    "calibration": {"base", "kernels", "integrator"},
    "mapping": {"base", "kernels", "integrator"},
    "simulation": {"base", "kernels", "integrator", "calibration", "mapping"},
    "mpi_driver": {"base", "kernels", "integrator", "calibration", "mapping", "simulation"},
}

# Folders of code that stands outside the rooms and may look into all of them.
OUTSIDE = ("benchmarks", "tests")

# Header -> the only places in the rooms from which it may be included; both are regular expressions on whole paths.
RESERVED = [
    (r"mpi\.h", r"mapping/volume.*|mpi_driver/.*"),
    # nexus.* writes the groups and attributes of the volume.
    (r"hdf5\.h|hdf5_hl\.h|H5.*\.h", r"mapping/(hdf5|frame|image|volume|nexus|pattern_file).*|simulation/.*"),
    (r"CL/.*", r"kernels/opencl/.*"),
    (r"omp\.h", r"kernels/open(mp|cl)/.*|mpi_driver/.*"),
    (r"tiff.*\.h", r"mapping/.*|simulation/.*"),
    (r"fstream|filesystem|fcntl\.h|sys/stat\.h|unistd\.h",
     r"(base|integrator|calibration|mapping|simulation|mpi_driver)/.*"),
    (r"png\.h", r"calibration/report\.cpp"),
    (r"ceres/.*", r"calibration/.*"),
    (r"iostream|boost/program_options.*", r"mpi_driver/.*"),
]

# What libraries never do: print and exit. snprintf and the like write to memory and are not meant.
PRINTS = re.compile(
    r"\bstd::(cout|cerr|clog)\b|\bfmt::print\b|(?<![\w.>])(std::)?(v?f?printf|puts|fputs|putchar|perror)\s*\("
)
EXITS = re.compile(r"(?<![\w.>:])(std::|::)?(exit|_exit|_Exit|quick_exit|abort|terminate)\s*\(")

CODE = {".hpp", ".cpp", ".inc"}
TEXT = CODE | {".cl", ".h", ".c", ".in", ".sh", ".py", ".cmake", ".txt"}
MAXIMUM_LINE = 120
MADE_BY_A_SCRIPT = re.compile(r"^// .*[Mm]ade by \w+\.py, not by hand", re.MULTILINE)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Comments, strings (raw ones too) and character constants: what they hold is not code.
NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"'
    r'|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL,
)


def without_comments_and_strings(text):
    """The code alone, with every line where it was."""
    return NOT_CODE.sub(lambda found: "\n" * found.group().count("\n"), text)


def sources(top):
    """Every file of ours that is written by hand: not what is built, nor hidden folders."""
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(top).parts
        if any(part.startswith((".", "build", "__pycache__")) for part in parts[:-1]):
            continue
        if path.is_file() and path.suffix in TEXT:
            yield path


def check_layout(text, tell):
    if MADE_BY_A_SCRIPT.search(text[:400]):
        return  # tables of numbers that nobody reads line by line
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line:
            tell(number, "tab")
        if len(line) > MAXIMUM_LINE:
            tell(number, f"line of {len(line)} characters, at most {MAXIMUM_LINE} are allowed")


def check_header(text, tell):
    lines = text.split("\n")
    if not re.match(r"//\s*\w", lines[0]):
        tell(1, "a header starts with a comment that says what it is for")
    code = without_comments_and_strings(text)
    first = next((line for line in code.split("\n") if line.strip()), "")
    if first.strip() != "#pragma once":
        tell(1, "#pragma once must be the first line after the leading comment")


def check_own_header_first(top, path, included, tell):
    own = path.with_suffix(".hpp")
    if not own.is_file():
        return
    name = own.relative_to(top).as_posix()
    if not included or included[0][1] != name:
        tell(included[0][0] if included else 1, f'the first include must be "{name}"')


def check_room(top, name, included, code, tell):
    room = name.split("/")[0]
    for number, target, quoted in included:
        if quoted:
            other = target.split("/")[0]
            if other not in ROOMS:
                tell(number, f'"{target}" does not begin with a room; includes are written from the top of the tree')
            elif other != room and other not in ROOMS[room]:
                tell(number, f"{room} may not include {target}")
        for header, places in RESERVED:
            if re.fullmatch(header, target) and not re.fullmatch(places, name):
                tell(number, f"{target} may be included in {places} alone")
    if room == "mpi_driver":
        return
    for number, line in enumerate(code.split("\n"), 1):
        if PRINTS.search(line):
            tell(number, "libraries do not print")
        if EXITS.search(line):
            tell(number, "libraries do not end the program")


def check(top):
    """All breaches under `top`, and the number of files looked at in each room."""
    breaches = []
    counts = dict.fromkeys(ROOMS, 0)
    for path in sources(top):
        name = path.relative_to(top).as_posix()
        top_folder = name.split("/")[0]

        def tell(number, rule, name=name):
            breaches.append(f"{name}:{number}: {rule}")

        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            tell(1, f"not UTF-8: {error}")
            continue
        check_layout(text, tell)
        if path.suffix not in CODE:
            continue
        if path.suffix == ".hpp":
            check_header(text, tell)
        included = []
        for number, line in enumerate(text.split("\n"), 1):
            found = INCLUDE.match(line)
            if found:
                included.append((number, found.group(2), found.group(1) == '"'))
        if path.suffix == ".cpp":
            check_own_header_first(top, path, included, tell)
        if top_folder in ROOMS:
            counts[top_folder] += 1
            check_room(top, name, included, without_comments_and_strings(text), tell)
        elif top_folder not in OUTSIDE:
            tell(1, f"{top_folder} is no room: sources live in {', '.join(ROOMS)}, {' and '.join(OUTSIDE)}")
    return breaches, counts


GOOD = {
    "base/a.hpp": '// What a is for.\n#pragma once\n\n#include <string>\n',
    "kernels/b.hpp": '// What b is for.\n#pragma once\n#include "base/a.hpp"\n',
    "kernels/b.cpp": '#include "kernels/b.hpp"\n\n#include <cstdio>\n// printf(1) exit(1)\n'
                     'const char* s = "std::cout << \\" exit(1)"; int n = 1\'000;\n'
                     'void f() { std::snprintf(p, 1, ""); }\n',
    "kernels/opencl/c.hpp": "// What c is for.\n#pragma once\n#include <CL/opencl.hpp>\n",
    "kernels/openmp/d.cpp": "#include <omp.h>\n",
    "integrator/e.hpp": '// What e is for.\n#pragma once\n#include "kernels/b.hpp"\n',
    "mapping/volume.hpp": "// What the volume is for.\n#pragma once\n#include <hdf5.h>\n#include <mpi.h>\n",
    "mapping/hdf5_thing.cpp": "#include <hdf5.h>\n",
    "simulation/f.cpp": '#include "mapping/volume.hpp"\n#include <hdf5.h>\n',
    "mpi_driver/main.cpp": '#include <iostream>\n#include <mpi.h>\n#include "simulation/f.hpp"\n'
                           'int main() { std::cout << 1; std::exit(1); }\n',
    "tests/unit/g_test.cpp": '#include <hdf5.h>\n#include "mapping/volume.hpp"\n',
}

# File, text, what must be told.
PLANTED = [
    ("base/x.hpp", '// X.\n#pragma once\n#include "kernels/b.hpp"\n', "base/x.hpp:3: base may not include"),
    ("kernels/x.cpp", '#include "integrator/e.hpp"\n', "kernels/x.cpp:1: kernels may not include"),
    ("integrator/x.cpp", '#include "mapping/volume.hpp"\n', "integrator/x.cpp:1: integrator may not include"),
    ("mapping/x.cpp", '#include "simulation/e.hpp"\n', "mapping/x.cpp:1: mapping may not include"),
    ("simulation/x.cpp", '#include "mpi_driver/x.hpp"\n', "simulation/x.cpp:1: simulation may not include"),
    ("kernels/x.cpp", "#include <mpi.h>\n", "kernels/x.cpp:1: mpi.h"),
    ("kernels/x.cpp", "#include <fstream>\n", "kernels/x.cpp:1: fstream"),
    ("kernels/openmp/x.cpp", "#include <hdf5.h>\n", "kernels/openmp/x.cpp:1: hdf5.h"),
    ("kernels/openmp/x.cpp", "#include <CL/cl.h>\n", "kernels/openmp/x.cpp:1: CL/cl.h"),
    ("kernels/reference/x.cpp", "  #  include <omp.h>\n", "kernels/reference/x.cpp:1: omp.h"),
    ("integrator/x.cpp", "\n#include <hdf5.h>\n", "integrator/x.cpp:2: hdf5.h"),
    ("integrator/x.cpp", "#include <CL/opencl.hpp>\n", "integrator/x.cpp:1: CL/opencl.hpp"),
    ("integrator/x.cpp", "#include <omp.h>\n", "integrator/x.cpp:1: omp.h"),
    ("mapping/scan.cpp", "#include <hdf5.h>\n", "mapping/scan.cpp:1: hdf5.h"),
    ("mapping/frame_x.cpp", "#include <mpi.h>\n", "mapping/frame_x.cpp:1: mpi.h"),
    ("mapping/x.cpp", "#include <omp.h>\n", "mapping/x.cpp:1: omp.h"),
    ("simulation/x.cpp", "#include <mpi.h>\n", "simulation/x.cpp:1: mpi.h"),
    ("mpi_driver/x.cpp", "#include <H5public.h>\n", "mpi_driver/x.cpp:1: H5public.h"),
    ("base/x.cpp", "#include <iostream>\n", "base/x.cpp:1: iostream"),
    ("kernels/x.cpp", '#include "b.hpp"\n', "kernels/x.cpp:1: \"b.hpp\" does not begin with a room"),
    ("kernels/b.cpp", '#include <cstdio>\n#include "kernels/b.hpp"\n', "kernels/b.cpp:1: the first include must be"),
    ("kernels/b.cpp", "int x;\n", "kernels/b.cpp:1: the first include must be"),
    ("tests/unit/x.hpp", "#pragma once\n", "tests/unit/x.hpp:1: a header starts with"),
    ("base/x.hpp", "// X.\n#include <string>\n#pragma once\n", "base/x.hpp:1: #pragma once"),
    ("base/x.hpp", "// X.\n// #pragma once\nint x;\n", "base/x.hpp:1: #pragma once"),
    ("mapping/x.cpp", "\nvoid f() { std::cerr << 1; }\n", "mapping/x.cpp:2: libraries do not print"),
    ("mapping/x.cpp", "void f() { std::printf(p); }\n", "mapping/x.cpp:1: libraries do not print"),
    ("kernels/x.inc", "void f() { fprintf(stderr, p); }\n", "kernels/x.inc:1: libraries do not print"),
    ("simulation/x.cpp", "/* a\n */ void f() { std::exit(1); }\n", "simulation/x.cpp:2: libraries do not end"),
    ("tests/unit/x.cpp", "int\tx;\n", "tests/unit/x.cpp:1: tab"),
    ("kernels/opencl/x.cl", "// " + 118 * "x" + "\n", "kernels/opencl/x.cl:1: line of 121 characters"),
    ("scripts/x.sh", "\techo\n", "scripts/x.sh:1: tab"),
    ("extra/x.cpp", "int x;\n", "extra/x.cpp:1: extra is no room"),
]


def self_test():
    """The small good tree has no breach; with any planted file it has that one breach and no other."""
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)

        def write(name, text):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text, encoding="utf-8")

        for name, text in GOOD.items():
            write(name, text)
        write("build/x.cpp", "\t\n")
        write("base/wide.cpp", "// " + 117 * "\u00b5" + "\n")  # 120 characters, though more bytes
        failures = [f"the good tree: {breach}" for breach in check(top)[0]]
        for name, text, expected in PLANTED:
            write(name, text)
            breaches = check(top)[0]
            if len(breaches) != 1 or not breaches[0].startswith(expected):
                failures.append(f"planted in {name}: {text!r}\n  expected: {expected}...\n  told: {breaches}")
            if name in GOOD:
                write(name, GOOD[name])
            else:
                (top / name).unlink()
    if failures:
        print("\n".join(failures))
        return 1
    print(f"check_includes: all {len(PLANTED)} planted breaches were told")
    return 0


def main(arguments):
    if arguments[:1] == ["--self-test"]:
        return self_test()
    top = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    breaches, counts = check(top)
    empty = [room for room, count in counts.items() if count == 0]
    if empty:
        print(f"check_includes: {top}: no sources in {', '.join(empty)}")
        return 2
    for breach in breaches:
        print(breach)
    looked_at = ", ".join(f"{count} in {room}" for room, count in counts.items())
    print(f"check_includes: {len(breaches)} breaches; sources looked at: {looked_at}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
