#include "integrator/matrix_store.hpp"

#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/digest.hpp"

namespace annulus::integrator {
namespace {

template <typename Element>
std::string array_text(std::span<const Element> elements) {
  const Digest digest = digest_of(std::as_bytes(elements));
  return fmt::format("{} elements {:016x}{:016x}", elements.size(), digest.first, digest.second);
}

std::string range_text(const std::optional<std::pair<double, double>>& range) {
  return range ? fmt::format("{} {}", range->first, range->second) : "all";
}

std::string builder_text(const kernels::Engine& engine) {
  // Devices differ in the last bits of their functions; what a host's device is called is its number of threads.
  const std::string backend(name_of(engine.backend()));
  return engine.backend() == kernels::Backend::opencl ? backend + " " + engine.device_name() : backend;
}

/// The structured bindings of this function and the next fail to compile when a member is added that has no line yet.
std::string geometry_text(const kernels::PixelGeometry& geometry) {
  const auto& [rows, columns, pixel1_m, pixel2_m, distance_m, poni1_m, poni2_m, wavelength_m, rotation, flip1, flip2,
               vertices, parallax_m] = geometry;
  std::string text;
  text += fmt::format("pixels {} {}\n", rows, columns);
  text += fmt::format("pixel size {} {} m\n", pixel1_m, pixel2_m);
  text += fmt::format("distance {} m\n", distance_m);
  text += fmt::format("poni {} {} m\n", poni1_m, poni2_m);
  text += fmt::format("wavelength {} m\n", wavelength_m);
  text += fmt::format("rotation {}\n", fmt::join(rotation, " "));
  text += fmt::format("flip {:d} {:d}\n", flip1, flip2);
  text += fmt::format("vertices {}\n", array_text(vertices));
  text += fmt::format("parallax {}\n", array_text(parallax_m));
  return text;
}

}  // namespace

std::string matrix_key(const kernels::MatrixSpec& spec, const kernels::Engine& engine) {
  const auto& [geometry, space, frame, azimuthal_space, azimuthal_frame, splitting, bins, azimuthal_bins, range,
               azimuthal_range, cut, azimuth_in_degrees, negative_radial, convention, mask] = spec;
  std::string text;
  text += fmt::format("version {}\n", kernels::matrix_version);
  text += fmt::format("builder {}\n", builder_text(engine));
  text += geometry_text(geometry);
  text += fmt::format("space {}\n", static_cast<int>(space));
  text += fmt::format("frame {}\n", fmt::join(frame, " "));
  text += fmt::format("azimuthal space {}\n", static_cast<int>(azimuthal_space));
  text += fmt::format("azimuthal frame {}\n", fmt::join(azimuthal_frame, " "));
  text += fmt::format("azimuth in degrees {:d}\n", azimuth_in_degrees);
  text += fmt::format("splitting {}\n", name_of(splitting));
  text += fmt::format("bins {} {}\n", bins, azimuthal_bins);
  text += fmt::format("range {}\n", range_text(range));
  text += fmt::format("azimuthal range {}\n", range_text(azimuthal_range));
  text += fmt::format("cut {}\n", static_cast<int>(cut));
  text += fmt::format("negative radial {:d}\n", negative_radial);
  text += fmt::format("convention {}\n", name_of(convention));
  text += fmt::format("mask {}\n", array_text(mask));
  return text;
}

}  // namespace annulus::integrator
