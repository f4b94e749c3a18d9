// The table of detectors: families (module, gap, pixel, how values and readouts behave) and models (name, shape).
//
// Names and numbers as in pyFAI 2026.9.0, detectors/*.py; tests/unit/pyfai_reference.py compares every one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annulus::integrator {

/// Which pixels are none.
enum class MaskShape : std::uint8_t {
  none,
  gaps,           ///< between modules, and the seams of wide pixels within CdTe ones
  borders,        ///< first and last line of each module
  circle,         ///< what lies outside the circle inscribed in the rows
  chip_seams,     ///< Jungfrau_16M_cor: four lines at each junction of two chips
  outside_chips,  ///< Jungfrau8M: all that is not in one of its chips
};

/// Where the pixels stand.
enum class Layout : std::uint8_t {
  grid,        ///< regular and flat
  wide_edges,  ///< flat; a module's first and last lines are wider, but for the detector's own edges
  xpad_flat,   ///< flat; rows of modules with gaps between them, wide columns
  cirpad,      ///< twenty plates on an arc
  cylinder,    ///< bent about axis 1
  spline,      ///< flat; regular unless a distortion file is given
};

/// Which image shapes a detector gives beside its full one.
enum class Readout : std::uint8_t {
  any_binning,  ///< pixels some times larger: as many times less of them
  listed,       ///< binned, with the pixel sizes that the maker lists (Rayonix)
  mar345,       ///< a scanned plate: the listed widths, always square
  cylinder,     ///< a scanned plate: pixels of any size, the shape does not follow
  fixed,
};

struct KnownSensor {
  std::string_view material;
  double thickness_m;
};

/// The size of pixels that stand for `binning` x `binning` physical ones.
struct BinnedPixel {
  std::uint32_t binning;
  double pixel_m;
};

/// What the detectors of a family have in common. Lengths in pixels unless the name says otherwise.
struct Family {
  std::string_view name;
  double pixel1_m = 0.0;  ///< of a pixel that is not binned
  double pixel2_m = 0.0;
  std::uint32_t module_rows = 0;
  std::uint32_t module_columns = 0;
  std::uint32_t gap_rows = 0;
  std::uint32_t gap_columns = 0;
  /// A CdTe module has a seam of wider pixels along its middle column (module_columns / 2), which are not used:
  /// `seam_before` columns left of it, and `seam_after` from it on to the right.
  std::uint32_t seam_before = 0;
  std::uint32_t seam_after = 0;
  MaskShape mask = MaskShape::none;
  Layout layout = Layout::grid;
  Readout readout = Readout::any_binning;
  double edge_width = 1.0;  ///< of wide pixels, in normal ones
  double radius_m = 0.0;
  bool photon_counting = false;
  std::optional<double> dummy{};
  double delta_dummy = 0.0;
  std::span<const BinnedPixel> binned_pixels{};  ///< of Readout::listed
  std::span<const KnownSensor> sensors{};

  [[nodiscard]] bool has_modules() const { return module_rows != 0; }
};

struct Model {
  std::string_view name;
  std::string_view family;
  std::uint32_t rows = 0;  ///< not binned; 0 = a detector of any shape, which its Detector_config gives
  std::uint32_t columns = 0;
  std::string_view aliases = "";      ///< names that search_key() does not bring to `name`, separated by '|'
  std::uint32_t default_binning = 1;  ///< unless the configuration has a pixel size
};

[[nodiscard]] std::span<const Model> models();
[[nodiscard]] const Family& family_of(const Model& model);

/// The model with exactly this class name; nullptr for the plain detector and for names that we do not know.
[[nodiscard]] const Model* model_named(std::string_view name);

/// The model that is meant by a name or an alias; nullptr when there is none.
[[nodiscard]] const Model* find_model(std::string_view written);

/// What is compared of a name: lower case, no blanks, '-' or '_', and "cdte" last, since both "Pilatus CdTe 2M" and
/// "Pilatus 2M CdTe" are in use.
[[nodiscard]] std::string search_key(std::string_view name);

/// True for the names of Pixirad detectors, whose pixels are hexagons.
[[nodiscard]] bool is_hexagonal(std::string_view written);

/// Known names that look like `name`, nearest first, at most five.
[[nodiscard]] std::vector<std::string> near_names(std::string_view name);

/// Upper left corners (row, column) of the 128 chips of a Jungfrau8M.
struct ChipPlace {
  std::uint16_t row;
  std::uint16_t column;
};
[[nodiscard]] std::span<const ChipPlace> jungfrau_8m_chips();

/// Widths of a Mar345's images and their pixels, largest first.
struct Mar345Size {
  std::uint32_t width;
  double pixel_m;
};
[[nodiscard]] std::span<const Mar345Size> mar345_sizes();

}  // namespace annulus::integrator
