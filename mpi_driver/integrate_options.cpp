#include "mpi_driver/integrate_options.hpp"

#include <algorithm>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

#include "mapping/frame_source.hpp"
#include "mpi_driver/configuration.hpp"
#include "mpi_driver/map_options.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace fs = std::filesystem;
namespace {

po::options_description option_table() {
  po::options_description output("Output");
  auto add = output.add_options();
  add("output,o", po::value<std::string>(),
      "NAME.xy: text, one image; NAME.h5: all images; a folder, or NAME/: a file an image");
  add("overwrite", "replace files that exist");
  add("help,h", "show this help");
  po::options_description all;
  all.add(integration_option_group()).add(compute_option_group()).add(output);
  return all;
}

/// A folder is one that exists or a name that ends in '/'; files are known by their extension.
PatternOutput kind_of(const fs::path& output) {
  std::error_code ignored;
  if (!output.has_filename() || fs::is_directory(output, ignored)) return PatternOutput::folder;
  std::string extension = output.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char letter) { return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter; });
  if (extension == ".xy" || extension == ".dat") return PatternOutput::text_file;
  if (extension == ".h5" || extension == ".hdf5" || extension == ".nxs") return PatternOutput::hdf5_file;
  throw InputError(fmt::format("--output {}: expected a name that ends in .xy or .h5, or a folder (NAME/ makes it)",
                               output.string()));
}

/// By the numbers in the names, as map and tomo order their frames.
std::vector<std::string> ordered(const std::vector<std::string>& images) {
  std::vector<std::string> result;
  for (const fs::path& image : mapping::natural_order({images.begin(), images.end()})) result.push_back(image.string());
  return result;
}

/// What a configuration says that `integrate` has a use for; a scan's grid is none of it.
void apply_config(const std::string& file, IntegrateOptions& options) {
  MapOptions configured;
  apply_configuration(file, configured);
  if (!configured.monitor.empty()) {
    throw InputError(fmt::format(
        "--config {}: monitor_name: found {}, expected none: single images have no monitor (--normalization divides)",
        file, configured.monitor));
  }
  options.integration = std::move(configured.integration);
  options.warnings = std::move(configured.warnings);
  for (const fs::path& frame : configured.frames) options.images.push_back(frame.string());
}

}  // namespace

IntegrateOptions parse_integrate_options(const std::vector<std::string>& arguments, std::optional<std::string>& help,
                                         Problems& problems) {
  const po::options_description visible = option_table();
  po::options_description all;
  all.add(visible).add_options()("images", po::value<std::vector<std::string>>()->composing());
  const po::variables_map given =
      parse_arguments(arguments, all, "images", integration_pairs(), integration_optional_numbers());
  if (given.count("help") > 0) {
    std::ostringstream text;
    text << "usage: annulus integrate -p GEO.poni -o OUT [options] IMAGE...\n"
         << "       annulus integrate --config AZIMINT.json -o OUT [options] IMAGE...\n"
         << "IMAGE is a file (TIFF, HDF5, EDF, numpy) or FILE::DATASET; each of its frames makes a pattern.\n"
         << visible;
    help = text.str();
    return {};
  }

  IntegrateOptions options;
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  if (has("config")) problems.collect([&] { apply_config(text("config"), options); });
  const bool config_failed = problems.any();  // then what it would have given is not missing
  if (has("images")) options.images = given["images"].as<std::vector<std::string>>();
  options.images = ordered(options.images);
  options.overwrite = has("overwrite");
  apply_integration_options(given, options.integration, problems);
  settle_integration_options(options.integration, problems);
  options.compute = parse_compute_options(given, problems);

  if (options.images.empty() && !config_failed) problems.add("no images given: name TIFF, HDF5, EDF or numpy files");
  const IntegrationOptions& integration = options.integration;
  if (integration.poni.empty() && integration.geometry_json.empty() && !has("poni") && !config_failed) {
    problems.add("--poni is missing: the geometry, a PONI file");
  }
  if (!has("output") || text("output").empty()) {
    problems.add(
        fmt::format("--output is {}, expected a file or a folder to write", has("output") ? "empty" : "missing"));
    return options;
  }
  options.output = text("output");
  problems.collect([&] { options.kind = kind_of(options.output); });
  if (options.kind != PatternOutput::text_file) return options;
  if (options.images.size() > 1) {
    problems.add(fmt::format("--output {}: found {} images, but text holds one pattern: name a folder or an .h5 file",
                             options.output.string(), options.images.size()));
  }
  if (integration.settings.azimuthal_bins > 0) {
    problems.add(fmt::format("--output {}: text holds no azimuthal bins (--npt-azim): name an .h5 file",
                             options.output.string()));
  }
  return options;
}

}  // namespace annulus::driver
