// pyFAI's configuration files: what `--config` gives to map, tomo and integrate.
//
// Two kinds of JSON, told apart by their keys: pyFAI-diffmap's (diffmap_config_version 1, and the older form that has
// no version), and pyFAI-integrate's (.azimint.json, versions 1 to 5), which is also the entry `ai` of the former.
// Every key is honoured, or named: in an error when its value would change the numbers, in a warning when it cannot.
// Names of files are relative to the working folder, as in pyFAI. The keys and how versions follow from each other:
// pyFAI 2026.9.0, io/integration_config.py and io/diffmap_config.py.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mpi_driver/map_options.hpp"

namespace annulus::driver {

/// Puts what the file says into `options`, and warnings into options.warnings. What it does not say stays as it is.
/// Throws one InputError with all problems of the file; what could be understood has been put into `options` then.
void apply_configuration(const std::filesystem::path& file, MapOptions& options);

/// The same from text; `source` names it in messages.
void apply_configuration_text(std::string_view text, const std::string& source, MapOptions& options);

/// FILE or FILE::DATASET, as read_image takes it, of a path or URL as pyFAI and silx write them: "silx:FILE?path=DATA",
/// "silx:FILE::DATA", "FILE?/DATA", "file://FILE", "fabio:FILE?slice=0". Throws InputError for other schemes and for
/// slices other than a whole image.
[[nodiscard]] std::string image_url(std::string_view url);

}  // namespace annulus::driver
