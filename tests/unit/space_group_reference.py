#!/usr/bin/env python3
"""Writes space_group_reference.hpp: how many reflections of a box each space group leaves, and which, by gemmi.

usage: space_group_reference.py > space_group_reference.hpp      (Python with gemmi; made with 0.7.5)

Every setting of gemmi's table whose symbol tells it: origins and the hexagonal or rhombohedral axes of R aside.
"""

import re

import gemmi

# Large enough for h = 4n and 6n, with signs that matter in trigonal groups; not alike along the three axes.
BOX = [(h, k, l) for h in range(-4, 9) for k in range(-3, 9) for l in range(-4, 9) if (h, k, l) != (0, 0, 0)]


def digest(present):
    """FNV-1a, 64 bits, over the reflections in the order of the box."""
    value = 0xCBF29CE484222325
    for flag in present:
        value = ((value ^ flag) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def settings():
    seen = set()
    for group in gemmi.spacegroup_table():
        symbols = {group.hm}
        if group.is_reference_setting():
            symbols |= {group.short_name(), group.short_name().replace("H", "R")}
        # "I 2 3a" is I 2 3 with its origin elsewhere.
        if group.ext == "R" or re.search(r"[()]|[0-9]a$", group.hm):
            continue
        for symbol in sorted(symbols):
            if symbol.startswith("H") or symbol in seen:
                continue
            seen.add(symbol)
            yield symbol, group


def main():
    print("""// Systematic absences of all space groups, by gemmi 0.7.5; made by space_group_reference.py, not by hand.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace annulus::reference {

/// Reflections with h from -4 to 8, k from -3 to 8 and l from -4 to 8, (0 0 0) left out.
struct SpaceGroupAbsences {
  std::string_view symbol;
  std::uint32_t present;
  std::uint64_t digest;  ///< FNV-1a over 1 (present) and 0 in the order of h, k, l
};
""")
    lines = []
    for symbol, group in settings():
        operations = group.operations()
        present = [0 if operations.is_systematically_absent(index) else 1 for index in BOX]
        lines.append(f'    {{"{symbol}", {sum(present)}, 0x{digest(present):016x}U}},')
    print(f"inline constexpr std::array<SpaceGroupAbsences, {len(lines)}> space_group_absences{{{{")
    print("\n".join(lines))
    print("}};\n\n}  // namespace annulus::reference")


if __name__ == "__main__":
    main()
