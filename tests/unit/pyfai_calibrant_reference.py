#!/usr/bin/env python3
"""Writes pyfai_calibrant_reference.hpp: the spacings of every calibrant of pyFAI, as it reads its own files.

usage: pyfai_calibrant_reference.py > pyfai_calibrant_reference.hpp      (Python with tests/requirements.txt)
"""

import pyFAI
import pyFAI.calibrant


def main():
    print(f"// The spacings of all calibrants of pyFAI {pyFAI.version}; made by pyfai_calibrant_reference.py, "
          "not by hand.")
    print("""#pragma once

#include <string_view>
#include <vector>

namespace annulus::reference {

struct PyfaiCalibrant {
  std::string_view name;
  std::vector<double> d_spacings_angstrom;
};

inline const std::vector<PyfaiCalibrant> pyfai_calibrants{""")
    for name in sorted(pyFAI.calibrant.names()):
        spacings = pyFAI.calibrant.get_calibrant(name).dspacing
        print(f'    {{"{name}",\n     {{', end="")
        line = 6
        for index, spacing in enumerate(spacings):
            text = repr(float(spacing)) + (", " if index + 1 < len(spacings) else "}},")
            if line + len(text) > 120:
                print("\n      ", end="")
                line = 6
            print(text, end="")
            line += len(text)
        print()
    print("""};

}  // namespace annulus::reference""")


if __name__ == "__main__":
    main()
