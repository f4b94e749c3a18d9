// Conformance with pyFAI: every row of reference.json, made by make_reference.py, on every backend.
//
// ANNULUS_CONFORMANCE_TABLE=FILE in the environment writes the largest differences, a line a row; run the executable
// itself for that, without a filter: ctest starts it anew for every test.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <numbers>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"
#include "integrator/integration.hpp"
#include "kernels/engine.hpp"

namespace {
using namespace annulus;
using kernels::Backend;
using kernels::Convention;
using kernels::ErrorModel;
using kernels::Splitting;
using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "reference.bin is read as it stands");

// ------------------------------------------------------------------------------------------------------- The reference

struct Reference {
  std::vector<Json> rows;
  std::vector<float> numbers;

  /// One of a row's arrays: "intensity", "count", "sem", "std"; empty where the row has none.
  [[nodiscard]] std::span<const float> array(const Json& row, std::string_view name) const {
    const std::size_t size =
        row["bins"].get<std::size_t>() * std::max<std::size_t>(1, row["azimuthal_bins"].get<std::size_t>());
    std::size_t first = row["first_number"];
    for (const Json& found : row["arrays"]) {
      if (found == name) return std::span(numbers).subspan(first, size);
      first += size;
    }
    return {};
  }
};

const Reference& reference() {
  static const Reference read = [] {
    const std::string folder = ANNULUS_CONFORMANCE_FOLDER;
    std::ifstream text(folder + "/reference.json");
    Json json = Json::parse(text);
    Reference made;
    made.rows = json["rows"].get<std::vector<Json>>();
    made.numbers.resize(json["numbers"].get<std::size_t>());
    std::ifstream binary(folder + "/reference.bin", std::ios::binary);
    const auto bytes = static_cast<std::streamsize>(made.numbers.size() * sizeof(float));
    binary.read(reinterpret_cast<char*>(made.numbers.data()), bytes);
    if (binary.gcount() != bytes || binary.peek() != std::ifstream::traits_type::eof()) {
      throw IoError(folder + "/reference.bin: its size is not what reference.json says");
    }
    return made;
  }();
  return read;
}

// -------------------------------- The images of a row: class Random of make_reference.py, whose comments hold here too

enum class Stream : std::uint64_t { frame, mask, dark, flat, variance, absorption };

class Random {
 public:
  Random(std::uint64_t row, Stream stream) : state_(64 * row + static_cast<std::uint64_t>(stream)) {}

  [[nodiscard]] std::uint64_t bits(std::size_t pixel) const {
    std::uint64_t z = state_ + (pixel + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }

  /// 24 random bits in [0, 1).
  [[nodiscard]] double unit(std::size_t pixel) const { return static_cast<double>(bits(pixel) >> 40) * 0x1p-24; }

 private:
  std::uint64_t state_;
};

struct Shape {
  std::size_t rows = 0;
  std::size_t columns = 0;

  [[nodiscard]] std::size_t pixels() const { return rows * columns; }
};

Shape shape_of(const Json& row) { return {row["shape"][0], row["shape"][1]}; }

/// [pixels] value(random, pixel) of a stream.
template <typename Value>
std::vector<float> image_of(const Json& row, Stream stream, Value&& value) {
  const Random random(row["seed"], stream);
  std::vector<float> image(shape_of(row).pixels());
  for (std::size_t pixel = 0; pixel < image.size(); ++pixel) image[pixel] = static_cast<float>(value(random, pixel));
  return image;
}

template <typename Pixel>
std::vector<std::byte> frame_bytes_of(const Json& row) {
  const Random random(row["seed"], Stream::frame);
  const bool wide = row["spread"] == "wide";
  const bool marks = row["marks"];
  std::vector<Pixel> frame(shape_of(row).pixels());
  for (std::size_t pixel = 0; pixel < frame.size(); ++pixel) {
    const std::uint64_t z = random.bits(pixel);
    std::uint64_t counts = 20 + ((z >> 32) & 255);
    if (!wide) counts = 100 + ((z >> 32) & 31) + ((z >> 37) & 31) + ((z >> 42) & 31) + ((z >> 47) & 31);
    if ((z & 255) == 0) counts += 4000;
    frame[pixel] = static_cast<Pixel>(counts);
    if constexpr (std::is_floating_point_v<Pixel>) frame[pixel] += static_cast<Pixel>((z >> 8) & 255) / Pixel{256};
    if (marks && ((z >> 16) & 127) == 0) {
      if constexpr (std::is_floating_point_v<Pixel>) {
        frame[pixel] = std::numeric_limits<Pixel>::quiet_NaN();
      } else {
        frame[pixel] = static_cast<Pixel>(-1);  // the maximum of an unsigned type
      }
    }
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(frame));
  return {bytes.begin(), bytes.end()};
}

struct Frame {
  std::vector<std::byte> bytes;
  kernels::PixelType type = kernels::PixelType::u16;
};

Frame frame_of(const Json& row) {
  if (row["frame"] == "uint16") return {frame_bytes_of<std::uint16_t>(row), kernels::PixelType::u16};
  if (row["frame"] == "int32") return {frame_bytes_of<std::int32_t>(row), kernels::PixelType::i32};
  if (row["frame"] == "float32") return {frame_bytes_of<float>(row), kernels::PixelType::f32};
  throw InputError("reference.json: frame: found " + row["frame"].dump() + ", expected uint16, int32 or float32");
}

/// The frame's counts as float32; bad ones as they stand.
std::vector<float> counts_of(const Json& row) {
  const Frame frame = frame_of(row);
  return kernels::visit_pixel_type(frame.type, [&]<typename Pixel>() {
    const auto* counts = reinterpret_cast<const Pixel*>(frame.bytes.data());
    return std::vector<float>(counts, counts + shape_of(row).pixels());
  });
}

std::vector<std::uint8_t> mask_of(const Json& row, std::vector<std::uint8_t> detector_mask) {
  const Shape shape = shape_of(row);
  const Random random(row["seed"], Stream::mask);
  for (std::size_t pixel = 0; pixel < shape.pixels(); ++pixel) {
    const std::size_t down = pixel / shape.columns;
    const std::size_t right = pixel % shape.columns;
    const bool in_block =
        down >= shape.rows / 3 && down < shape.rows / 2 && right >= shape.columns / 4 && right < 2 * shape.columns / 3;
    if (row["mask"] == "random" && (random.bits(pixel) & 7) == 0) detector_mask[pixel] = 1;
    if (row["mask"] == "block" && in_block) detector_mask[pixel] = 1;
  }
  return detector_mask;
}

std::vector<float> flat_of(const Json& row) {
  return image_of(row, Stream::flat, [&](const Random& random, std::size_t pixel) {
    return row["flat"] == "zeros" && (random.bits(pixel) & 63) == 0 ? 0.0 : 0.5 + random.unit(pixel);
  });
}

std::vector<float> absorption_of(const Json& row) {
  return image_of(row, Stream::absorption,
                  [](const Random& random, std::size_t pixel) { return 0.625 + 0.375 * random.unit(pixel); });
}

std::vector<float> dark_of(const Json& row) {
  return image_of(row, Stream::dark, [](const Random& random, std::size_t pixel) { return 16.0 * random.unit(pixel); });
}

std::vector<float> variance_of(const Json& row) {
  return image_of(row, Stream::variance,
                  [](const Random& random, std::size_t pixel) { return 10.0 + 256.0 * random.unit(pixel); });
}

/// dish_corners() of make_reference.py.
std::vector<float> dish_vertices(const Json& row) {
  const Shape shape = shape_of(row);
  const double pixel1 = row["geometry"]["detector_config"]["pixel1"];
  const double pixel2 = row["geometry"]["detector_config"]["pixel2"];
  const double middle_row = static_cast<double>(shape.rows) / 2.0;
  const double middle_column = static_cast<double>(shape.columns) / 2.0;
  constexpr std::array<std::pair<double, double>, 4> places{
      {{0.0625, 0.0625}, {0.9375, 0.0625}, {0.9375, 0.9375}, {0.0625, 0.9375}}};
  std::vector<float> vertices;
  vertices.reserve(shape.pixels() * 12);
  for (std::size_t pixel = 0; pixel < shape.pixels(); ++pixel) {
    for (const auto& [down, right] : places) {
      const double at_row = static_cast<double>(pixel / shape.columns) + down;
      const double at_column = static_cast<double>(pixel % shape.columns) + right;
      const double from_row = at_row - middle_row;
      const double from_column = at_column - middle_column;
      vertices.push_back(static_cast<float>(-0x1p-20 * (from_row * from_row + 0.5 * (from_column * from_column))));
      vertices.push_back(static_cast<float>(pixel1 * at_row));
      vertices.push_back(static_cast<float>(pixel2 * at_column));
    }
  }
  return vertices;
}

// ----------------------------------------------------------------------------------------------------- A row as a plan

integrator::Geometry geometry_of(const Json& row) {
  const Json& json = row["geometry"];
  std::string poni = "poni_version: 3\n";
  poni += "Detector: " + json["detector"].get<std::string>() + "\n";
  poni += "Detector_config: " + json["detector_config"].dump() + "\n";
  for (const auto& [key, name] : {std::pair{"Distance", "distance"},
                                  {"Poni1", "poni1"},
                                  {"Poni2", "poni2"},
                                  {"Rot1", "rot1"},
                                  {"Rot2", "rot2"},
                                  {"Rot3", "rot3"},
                                  {"Wavelength", "wavelength"}}) {
    poni += fmt::format("{}: {}\n", key, json[name].get<double>());
  }
  poni += fmt::format("Parallax: {}\n", json["parallax"].get<bool>() ? "True" : "False");
  integrator::Geometry geometry = integrator::parse_poni(poni, row["id"].get<std::string>());
  if (json["vertices"].get<bool>()) {
    geometry.detector.vertices = std::make_shared<const std::vector<float>>(dish_vertices(row));
  }
  return geometry;
}

template <typename Value, std::size_t count>
Value named(const Json& name, const std::array<std::pair<std::string_view, Value>, count>& values) {
  for (const auto& [known, value] : values) {
    if (name == known) return value;
  }
  throw InputError("reference.json: found " + name.dump() + ", which the test does not know");
}

Splitting splitting_of(const Json& row) {
  return named(row["split"], std::to_array<std::pair<std::string_view, Splitting>>(
                                 {{"no", Splitting::no}, {"bbox", Splitting::bbox}, {"full", Splitting::full}}));
}

ErrorModel error_model_of(const Json& row) {
  return named(row["error_model"],
               std::to_array<std::pair<std::string_view, ErrorModel>>({{"no", ErrorModel::no},
                                                                       {"variance", ErrorModel::variance},
                                                                       {"poisson", ErrorModel::poisson},
                                                                       {"azimuthal", ErrorModel::azimuthal},
                                                                       {"hybrid", ErrorModel::hybrid}}));
}

std::optional<std::pair<double, double>> range_of(const Json& range) {
  if (range.is_null()) return std::nullopt;
  return std::pair{range[0].get<double>(), range[1].get<double>()};
}

kernels::OutlierFilter filter_of(const Json& row) {
  const Json& filter = row["filter"];
  if (filter.is_null()) return {};
  if (filter.contains("threshold")) return kernels::SigmaClip{filter["threshold"], filter["cycles"]};
  return kernels::QuantileRange{filter["quantiles"][0], filter["quantiles"][1]};
}

bool has_note(const Json& row, std::string_view note) {
  return std::ranges::any_of(row["notes"], [&](const Json& found) { return found == note; });
}

integrator::IntegrationPlan plan_of(const Json& row, Convention convention) {
  integrator::IntegrationPlan plan;
  plan.geometry = geometry_of(row);
  integrator::IntegrationSettings& settings = plan.settings;
  settings.bins = row["bins"];
  settings.azimuthal_bins = row["azimuthal_bins"];
  settings.unit = row["unit"];
  if (!row["azimuthal_unit"].is_null()) settings.azimuthal_unit = row["azimuthal_unit"];
  if (row.contains("sample")) {
    settings.sample = {integrator::radians_of(row["sample"][0]), integrator::radians_of(row["sample"][1]),
                       row["sample"][2]};
  }
  settings.splitting = splitting_of(row);
  settings.radial_range = range_of(row["radial_range"]);
  settings.azimuth_range = range_of(row["azimuth_range"]);
  settings.azimuth_cut = row["cut"] == "zero" ? kernels::AzimuthCut::at_zero : kernels::AzimuthCut::at_pi;
  settings.convention = convention;
  settings.error_model = error_model_of(row);
  settings.filter = filter_of(row);
  settings.normalisation_factor = row["normalisation_factor"];
  settings.corrections.solid_angle = row["solid_angle"];
  settings.corrections.convention = convention;
  if (const Json& polarisation = row["polarisation"]; !polarisation.is_null()) {
    settings.corrections.polarisation_factor = polarisation[0].get<double>();
    settings.corrections.polarisation_offset_rad = polarisation[1].get<double>() * std::numbers::pi / 180.0;
  }
  if (row["absorption"] == "sensor") settings.corrections.transmission_normal = row["transmission"].get<double>();
  if (const Json& dummy = row["dummy"]; !dummy.is_null()) {
    settings.dummy = dummy[0].get<double>();
    settings.delta_dummy = dummy[1].is_null() ? 0.0 : dummy[1].get<double>();
  }
  plan.mask = mask_of(row, plan.geometry.detector.mask());
  if (row["dark"].get<bool>()) plan.dark = dark_of(row);
  if (row["error_model"] == "variance") plan.variance = variance_of(row);
  if (convention == Convention::pyfai && has_note(row, "dark in the variance")) {
    // That of pyFAI's cakes, given as an image: the counts', at least 1, and the dark's.
    settings.error_model = ErrorModel::variance;
    plan.variance = counts_of(row);
    for (std::size_t pixel = 0; pixel < plan.variance.size(); ++pixel) {
      // A count that is not a number is bad whatever its variance.
      plan.variance[pixel] = std::fmax(plan.variance[pixel], 1.0F) + plan.dark[pixel];
    }
  }
  if (row["flat"] != "none") plan.flat = flat_of(row);
  if (row["absorption"] == "array") {
    // A factor for each pixel as the flat is.
    const std::vector<float> absorption = absorption_of(row);
    if (plan.flat.empty()) plan.flat.assign(absorption.size(), 1.0F);
    for (std::size_t pixel = 0; pixel < absorption.size(); ++pixel) plan.flat[pixel] *= absorption[pixel];
  }
  return plan;
}

// --------------------------------------------------------------------------------------------------------- Differences

/// A reason for which rows may differ by more than rounding, and by how much.
struct Exception {
  std::string_view name;
  std::string_view reason;
  bool (*holds)(const Json& row);
  /// Relative, in a bin of one pixel or more; in bins that hold less, it is that of the whole pixel. Infinite =
  /// recorded and not bounded.
  double bound;
};

/// Rounding of the results to float32 on both sides: 1.2e-7. Weights are float32 and so is pyFAI's normalisation of a
/// pixel, a product of up to six factors: 6e-8 each, which partly cancel in a bin.
constexpr double default_bound = 1e-6;

constexpr double unbounded = std::numeric_limits<double>::infinity();

/// A pixel stands some 10^2 to 10^3 of its widths from the origin of the coordinate, so that the last bit of a float32
/// corner (6e-8) is 6e-6 to 6e-5 of the width, and of the pixel's weights.
constexpr double corner_bound = 6e-5;

bool is_azimuthal_variance(const Json& row) {
  return row["error_model"] == "azimuthal" || (row["error_model"] == "hybrid" && row["kind"] == "sigma_clip");
}

bool has_areas_that_cancel(const Json& row) { return has_note(row, "areas that cancel"); }

const std::array pyfai_exceptions{
    Exception{
        "areas that cancel",
        "pyFAI's float32 areas of pixels that are torn, or all but a line, are rounding errors: so are the weights",
        has_areas_that_cancel, unbounded},
    Exception{"float32 vertices", "pyFAI goes from float64 nodes of this detector, vertices are float32",
              [](const Json& row) { return row["geometry"]["detector"] == "ImXPadS70"; }, 5e-4},
    Exception{"polar angles", "the last bits of small components differ, and corners round to the neighbouring float32",
              [](const Json& row) {
                return row.contains("sample") && (row["unit"].get<std::string>().starts_with("chigi") ||
                                                  row["azimuthal_unit"].dump().starts_with("\"chigi"));
              },
              corner_bound},
    Exception{"float32 areas", "pyFAI's compiler orders the float32 arithmetic of its cakes' areas in its own way",
              [](const Json& row) { return row["split"] == "full" && row["azimuthal_bins"] != 0; }, 3e-4},
};

const std::array exact_exceptions{
    Exception{"areas that cancel", "pyFAI weighs pixels that are torn, or all but a line, by rounding errors",
              has_areas_that_cancel, unbounded},
    Exception{"azimuthal variance", "pyFAI's depends on the order of the pixels; clipping by it drops other ones",
              is_azimuthal_variance, unbounded},
    Exception{"solid angle of tilted pixels", "pyFAI has cos^3 of the incidence for pixels of any tilt",
              [](const Json& row) { return row["geometry"]["vertices"].get<bool>() && row["solid_angle"].get<bool>(); },
              unbounded},
    Exception{"dark in the variance", "pyFAI adds the dark to Poisson's variance in cakes of no and bbox splitting",
              [](const Json& row) { return has_note(row, "dark in the variance"); }, unbounded},
    Exception{"range across the cut", "pyFAI loses what lies beyond the cut",
              [](const Json& row) { return has_note(row, "range across the cut"); }, unbounded},
    Exception{"azimuths beyond 180 degrees", "pyFAI clips them in cakes of no and bbox splitting, wherever the cut is",
              [](const Json& row) { return has_note(row, "azimuths beyond 180 degrees"); }, unbounded},
    Exception{"pixels across the cut", "pyFAI misjudges which they are, or moves them by a wrong period",
              [](const Json& row) {
                return has_note(row, "pixels across the cut") || has_note(row, "pixels moved by 360 rad") ||
                       has_note(row, "pixels taken for ones across the cut");
              },
              unbounded},
    Exception{
        "areas in cakes",
        "pyFAI fills cells from below, right for edges within one row of cells, and moves corners to a range's edge",
        [](const Json& row) { return row["split"] == "full" && row["azimuthal_bins"] != 0; }, unbounded},
    Exception{"float32 vertices", "pyFAI goes from float64 nodes of this detector, vertices are float32",
              [](const Json& row) { return row["geometry"]["detector"] == "ImXPadS70"; }, 5e-4},
    Exception{"parallax", "the last bits of the displacement differ, and corners round to the neighbouring float32",
              [](const Json& row) { return row["geometry"]["parallax"].get<bool>(); }, corner_bound},
    Exception{"float32 positions", "pyFAI rounds the corners' places in m to float32",
              [](const Json& row) { return has_note(row, "float32 positions"); }, 2e-4},
    Exception{"float32 areas",
              "pyFAI sums areas in float32, under edges as high as the azimuth itself: 6e-8 of 2 pi "
              "against the 0.01 that a pixel covers",
              [](const Json& row) { return row["split"] == "full"; }, 2e-4},
};

const Exception* exception_of(const Json& row, Convention convention) {
  const std::span<const Exception> all =
      convention == Convention::pyfai ? std::span<const Exception>(pyfai_exceptions) : exact_exceptions;
  const auto found = std::ranges::find_if(all, [&](const Exception& exception) { return exception.holds(row); });
  return found == all.end() ? nullptr : &*found;
}

/// Largest relative differences of a row.
struct Differences {
  double intensity = 0.0;
  double sem = 0.0;
  double std = 0.0;
  double per_pixel = 0.0;    ///< of all three, relative to one pixel where a bin holds less
  std::size_t compared = 0;  ///< bins that hold pixels
  std::string worst;         ///< what to say of the largest, by pixel
  bool same_axes = true;

  [[nodiscard]] double largest() const { return std::max({intensity, sem, std}); }
};

/// pyFAI counts pixels up to one bin below the range's lower edge as in the first bin, unless splitting is full.
bool in_truncated_bin(const Json& row, std::size_t place) {
  if (row["split"] == "full") return false;
  const std::size_t bins = row["bins"];
  return (!row["radial_range"].is_null() && place % bins == 0) ||
         (!row["azimuth_range"].is_null() && row["azimuthal_bins"] != 0 && place / bins == 0);
}

struct Found {
  std::vector<float> intensity;
  std::vector<float> sem;
  std::vector<float> std;
  std::vector<double> radial;
  std::vector<double> azimuthal;
};

/// An engine that outlives the integrators which use it: an OpenCL engine compiles its programs once for all rows.
class BorrowedEngine final : public kernels::Engine {
 public:
  explicit BorrowedEngine(kernels::Engine& owner) : owner_(owner) {}
  [[nodiscard]] Backend backend() const override { return owner_.backend(); }
  [[nodiscard]] std::string device_name() const override { return owner_.device_name(); }
  kernels::BinAxes build_matrix(const kernels::MatrixSpec& spec) override { return owner_.build_matrix(spec); }
  void set_matrix(kernels::CsrMatrix matrix) override { owner_.set_matrix(std::move(matrix)); }
  [[nodiscard]] kernels::CsrMatrix matrix() const override { return owner_.matrix(); }
  void set_corrections(const kernels::Corrections& corrections) override { owner_.set_corrections(corrections); }
  void integrate(const kernels::FrameBatch& batch, std::span<const double> monitor,
                 const kernels::Patterns& patterns) override {
    owner_.integrate(batch, monitor, patterns);
  }

 private:
  kernels::Engine& owner_;
};

Found integrate(const Json& row, Convention convention, kernels::Engine& engine) {
  const integrator::IntegrationPlan plan = plan_of(row, convention);
  integrator::Integrator integrator(plan, std::make_unique<BorrowedEngine>(engine));
  const Frame frame = frame_of(row);
  const kernels::FrameBatch batch{frame.bytes.data(), frame.type, 1, shape_of(row).pixels()};
  const bool errors = plan.settings.error_model != ErrorModel::no;
  Found found;
  found.intensity.assign(integrator.rows(), -1.0F);  // poisoned: every element must be written
  found.sem.assign(errors ? integrator.rows() : 0, -1.0F);
  found.std.assign(errors ? integrator.rows() : 0, -1.0F);
  const std::array monitor{row["monitor"].get<double>()};
  integrator.integrate(batch, monitor, {found.intensity, found.sem, found.std});
  found.radial = integrator.radial();
  found.azimuthal = integrator.azimuthal();
  return found;
}

/// Bin centres: a corner may round to the neighbouring float32, which moves edges by no more (`bound` = 1.2e-7).
bool same_ends(const Json& expected, const std::vector<double>& found, double bound) {
  if (expected.is_null()) return found.empty();
  if (found.empty()) return false;
  const double first = expected[0];
  const double last = expected[1];
  const double largest = std::max(std::abs(first), std::abs(last));
  return std::abs(found.front() - first) <= bound * largest && std::abs(found.back() - last) <= bound * largest;
}

Differences differences_of(const Json& row, Convention convention, const Found& found) {
  Differences differences;
  const std::span<const float> intensity = reference().array(row, "intensity");
  const std::span<const float> count = reference().array(row, "count");
  const bool scatter = row["error_model"] == "azimuthal" || row["error_model"] == "hybrid";
  const auto compare = [&](std::string_view what, const std::vector<float>& values, double& largest) {
    const std::span<const float> expected = reference().array(row, what);
    if (values.size() != expected.size()) {
      largest = differences.per_pixel = unbounded;
      differences.worst = fmt::format("{}: found {} numbers, expected {}", what, values.size(), expected.size());
      return;
    }
    for (std::size_t place = 0; place < expected.size(); ++place) {
      if (convention == Convention::exact && in_truncated_bin(row, place)) continue;
      const double here = values[place];
      // Where pyFAI's weights are negative, so is its standard error.
      const double there = what == "intensity" ? expected[place] : std::abs(expected[place]);
      double difference = std::abs(here - there);
      // The scatter of values that are nearly the same drowns in the rounding of each: products of six float32 factors.
      if (what != "intensity" && scatter && difference <= 4e-7 * std::abs(static_cast<double>(intensity[place]))) {
        difference = 0.0;
      }
      // 0 stands for an empty bin, or for no scatter at all: there is nothing that rounding could change.
      double relative = 0.0;
      if (difference != 0.0) relative = there == 0.0 ? unbounded : difference / std::abs(there);
      if (std::isnan(here)) relative = unbounded;
      largest = std::max(largest, relative);
      const double pixels = std::abs(static_cast<double>(count[place]));
      // A bin without pixels in pyFAI may hold a trace of one here: another bin then holds less of it.
      if (!std::isnan(here)) relative = pixels == 0.0 ? 0.0 : relative * std::min(pixels, 1.0);
      if (relative > differences.per_pixel) {
        differences.per_pixel = relative;
        differences.worst = fmt::format("{} of bin {}: found {}, expected {} (count {})", what, place, values[place],
                                        expected[place], count[place]);
      }
    }
  };
  compare("intensity", found.intensity, differences.intensity);
  compare("sem", found.sem, differences.sem);
  compare("std", found.std, differences.std);
  for (std::size_t place = 0; place < count.size(); ++place) {
    const bool compared = !(convention == Convention::exact && in_truncated_bin(row, place));
    differences.compared += compared && count[place] > 0.0F;
  }
  // Places in m that were rounded to float32 before: the logarithm of a small q takes that as a larger share of itself.
  const double bound = has_note(row, "float32 positions") ? 1e-5 : 1.2e-7;
  differences.same_axes =
      same_ends(row["radial"], found.radial, bound) && same_ends(row["azimuthal"], found.azimuthal, bound);
  return differences;
}

// --------------------------------------------------------------------------------------------------------------- Tests

/// The sum that checksum() of make_reference.py takes.
template <typename Value>
std::uint64_t checksum_of(const std::vector<Value>& image) {
  std::uint64_t sum = 0;
  std::uint64_t place = 0;
  for (const std::byte byte : std::as_bytes(std::span(image))) sum += ++place * std::to_integer<std::uint64_t>(byte);
  return sum;
}

TEST(ConformanceImages, AreThoseOfTheScript) {
  std::map<std::string, std::size_t> compared;
  for (const Json& row : reference().rows) {
    for (const auto& [name, expected] : row["checksums"].items()) {
      std::uint64_t found = 0;
      if (name == "frame") found = checksum_of(frame_of(row).bytes);
      if (name == "mask") found = checksum_of(mask_of(row, geometry_of(row).detector.mask()));
      if (name == "dark") found = checksum_of(dark_of(row));
      if (name == "flat") found = checksum_of(flat_of(row));
      if (name == "variance") found = checksum_of(variance_of(row));
      if (name == "absorption") found = checksum_of(absorption_of(row));
      if (name == "vertices") found = checksum_of(dish_vertices(row));
      EXPECT_EQ(found, expected.get<std::uint64_t>()) << row["id"] << " " << name;
      ++compared[name];
    }
  }
  EXPECT_EQ(compared["frame"], reference().rows.size());
  for (const std::string name : {"mask", "dark", "flat", "variance", "absorption", "vertices"}) {
    EXPECT_GT(compared[name], 20U) << name;
  }
}

class ConformanceTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (GetParam() == Backend::opencl && kernels::list_devices().empty()) {
      GTEST_SKIP() << "no OpenCL device on this machine";
    }
  }

  static void TearDownTestSuite() {
    const char* file = std::getenv("ANNULUS_CONFORMANCE_TABLE");
    if (file == nullptr || table_.empty()) return;
    std::ofstream out(file);
    out << "row\tbackend\tconvention\tbins\tintensity\tsem\tstd\tper_pixel\texception\tspec\n";
    for (const std::string& line : table_) out << line << '\n';
    EXPECT_TRUE(out.good()) << file << ": cannot be written";
  }

  /// Runs all rows and holds them to their bounds.
  static void expect_conformance(Convention convention) {
    std::size_t rows = 0;
    std::size_t bins = 0;
    std::size_t bounded_rows = 0;
    kernels::DeviceChoice choice;
    choice.threads = 2;
    const auto engine = kernels::make_engine(GetParam(), choice);
    // An OpenCL driver takes a second or two for each kind of row: without ANNULUS_CONFORMANCE_ALL it has a part.
    const bool all = GetParam() != Backend::opencl || std::getenv("ANNULUS_CONFORMANCE_ALL") != nullptr;
    const std::size_t stride = all ? 1 : convention == Convention::pyfai ? 4 : 16;
    for (std::size_t index = 0; index < reference().rows.size(); index += stride) {
      const Json& row = reference().rows[index];
      const std::string id = row["id"];
      const Exception* exception = exception_of(row, convention);
      const double bound = exception == nullptr ? default_bound : exception->bound;
      Differences differences;
      try {
        differences = differences_of(row, convention, integrate(row, convention, *engine));
      } catch (const std::exception& error) {
        ADD_FAILURE() << id << ": " << error.what();
        continue;
      }
      record(row, convention, differences, exception);
      ++rows;
      bins += differences.compared;
      if (bound == unbounded) continue;
      ++bounded_rows;
      EXPECT_TRUE(differences.same_axes) << id << ": other bins";
      EXPECT_LE(exception == nullptr ? differences.largest() : differences.per_pixel, bound)
          << id << ": " << differences.worst
          << (exception == nullptr ? std::string() : fmt::format("\n  bound of '{}'", exception->name));
    }
    // As many as the script makes and has pixels for: a loop over nothing must not pass.
    EXPECT_GE(rows, 300U / stride);
    EXPECT_GE(bins, 20000U / stride);
    EXPECT_GE(bounded_rows, (convention == Convention::pyfai ? 300U : 80U) / stride);
  }

 private:
  static void record(const Json& row, Convention convention, const Differences& differences,
                     const Exception* exception) {
    Json spec = row;
    for (const char* key : {"id", "seed", "checksums", "first_number", "arrays", "radial", "azimuthal"}) {
      spec.erase(key);
    }
    table_.push_back(fmt::format("{}\t{}\t{}\t{}\t{:.2e}\t{:.2e}\t{:.2e}\t{:.2e}\t{}\t{}", row["id"].get<std::string>(),
                                 kernels::name_of(GetParam()), kernels::name_of(convention), differences.compared,
                                 differences.intensity, differences.sem, differences.std, differences.per_pixel,
                                 exception == nullptr ? "" : exception->name, spec.dump()));
  }

  inline static std::vector<std::string> table_;
};

TEST_P(ConformanceTest, PyFaisConventionGivesPyFaisNumbers) { expect_conformance(Convention::pyfai); }

TEST_P(ConformanceTest, TheExactConventionDiffersOnlyWhereItSaysWhy) { expect_conformance(Convention::exact); }

INSTANTIATE_TEST_SUITE_P(Backends, ConformanceTest,
                         ::testing::Values(Backend::reference, Backend::openmp, Backend::opencl),
                         [](const auto& backend) { return std::string(kernels::name_of(backend.param)); });

}  // namespace
