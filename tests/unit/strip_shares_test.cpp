// Shares that vector code finds strip by strip, against those found pixel by pixel: equal to the bit.
#include "kernels/openmp/strip_shares.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <utility>
#include <vector>

#include "kernels/engine.hpp"
#include "kernels/openmp/matrix_builder.hpp"

namespace annulus::kernels::openmp {
namespace {

using Shares = std::vector<std::pair<std::uint32_t, float>>;

/// Corners of pixels of all kinds: usual ones, on the edges of bins, across the cut, beyond the range, without area,
/// not finite.
struct Pixels {
  std::array<std::vector<float>, 4> radius;
  std::array<std::vector<float>, 4> azimuth;
  std::vector<double> centre_radius;
  std::vector<double> centre_azimuth;
};

/// @param turning  the radial coordinate goes around as well
Pixels random_pixels(std::mt19937_64& random, std::size_t count, double size, bool turning = false) {
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  Pixels pixels;
  for (std::size_t pixel = 0; pixel < count; ++pixel) {
    const std::uint64_t kind = random() % 16;
    const double radius = turning ? uniform(-3.3, 3.3) : uniform(-0.1, 1.1);
    const double azimuth = kind == 0 ? std::numbers::pi : uniform(-3.3, 3.3);
    const double turn = uniform(0.0, 6.3);
    for (std::size_t corner = 0; corner < 4; ++corner) {
      const double angle = turn + 0.5 * std::numbers::pi * static_cast<double>(corner);
      double x = radius + size * std::cos(angle) * uniform(0.8, 1.2);
      double y = azimuth + size * std::sin(angle) * uniform(0.8, 1.2);
      if (turning) x = std::remainder(x, 2.0 * std::numbers::pi);
      if (kind == 0) y = std::remainder(y, 2.0 * std::numbers::pi);
      if (kind == 1) x = std::round(x * 8.0) / 8.0;  // on edges, without area, within one bin
      if (kind == 2) y = azimuth;
      if (kind == 3 && corner == pixel % 4) x = std::numeric_limits<double>::quiet_NaN();
      if (kind == 4 && corner == pixel % 4) y = std::numeric_limits<double>::infinity();
      pixels.radius[corner].push_back(static_cast<float>(x));
      pixels.azimuth[corner].push_back(static_cast<float>(y));
    }
    pixels.centre_radius.push_back(kind == 5 ? std::numeric_limits<double>::quiet_NaN() : radius);
    pixels.centre_azimuth.push_back(azimuth);
  }
  return pixels;
}

StripCorners corners_of(const std::array<std::vector<float>, 4>& values) {
  return {values[0].data(), values[1].data(), values[2].data(), values[3].data()};
}

/// Compares a strip with what find_footprint() says of each pixel; returns how many the strip had done.
std::size_t expect_same(const shared::SharedBins& bins, const Pixels& pixels, bool boxes, bool with_azimuth,
                        const StripShares& shares) {
  std::size_t done = 0;
  for (std::size_t pixel = 0; pixel < pixels.centre_radius.size(); ++pixel) {
    if (shares.count[pixel] == unusual) continue;
    ++done;
    std::array<float, 4> radius;
    std::array<float, 4> azimuth;
    for (std::size_t corner = 0; corner < 4; ++corner) {
      radius[corner] = pixels.radius[corner][pixel];
      azimuth[corner] = pixels.azimuth[corner][pixel];
    }
    const double centre_radius = pixels.centre_radius[pixel];
    const double centre_azimuth = with_azimuth ? pixels.centre_azimuth[pixel] : 0.0;
    shared::Footprint footprint;
    Shares expected;
    if (find_footprint(bins, centre_radius, boxes ? half_width(centre_radius, radius, 0.0) : 0.0, centre_azimuth,
                       boxes && with_azimuth ? half_width(centre_azimuth, azimuth, 2.0 * std::numbers::pi) : 0.0,
                       radius.data(), azimuth.data(), footprint)) {
      for_each_share(footprint, bins.radial.bins,
                     [&](std::uint32_t row, double share) { expected.emplace_back(row, static_cast<float>(share)); });
    }
    Shares found;
    for (std::size_t slot = 0; slot < static_cast<std::size_t>(shares.count[pixel]); ++slot) {
      found.emplace_back(static_cast<std::uint32_t>(shares.row[pixel]) + slot, shares.weight[slot][pixel]);
    }
    EXPECT_EQ(found, expected) << "pixel " << pixel;
  }
  return done;
}

TEST(StripShares, AreThoseOfEachPixelToTheBit) {
  std::mt19937_64 random(11);
  std::size_t pixels_done = 0;
  std::size_t pixels_seen = 0;
  std::array<std::size_t, strip_slots + 1> counts{};
  for (int strip = 0; strip < 4000; ++strip) {
    const std::size_t count = 1 + random() % strip_pixels;
    const bool turning = random() % 8 == 0;
    const Pixels pixels = random_pixels(random, count, strip % 2 == 0 ? 0.01 : 0.05, turning);
    MatrixSpec spec;
    spec.splitting = std::array{Splitting::no, Splitting::bbox, Splitting::full, Splitting::pseudo}[random() % 4];
    spec.bins = std::array{8U, 20U, 50U}[random() % 3];
    spec.azimuthal_bins = std::array{0U, 0U, 1U, 36U}[random() % 4];
    spec.cut = random() % 2 == 0 ? AzimuthCut::at_pi : AzimuthCut::at_zero;
    spec.convention = random() % 4 == 0 ? Convention::pyfai : Convention::exact;
    if (random() % 2 == 0) spec.azimuthal_range = {-1.0, 2.0};
    spec.range = {0.0, 1.0};
    if (turning) {
      spec.space = RadialSpace::chi;
      spec.bins = 3;  // so that even pixels across the cut reach few bins
      spec.range = {-3.14, 3.14};
    }
    const BinAxes axes = make_bin_axes(spec, {0.0, 1.0}, {-3.0, 3.0});
    const shared::SharedBins bins = shared_bins(spec, axes);
    if (!has_strip_shares(bins, axes.rows())) continue;
    StripShares shares;
    const bool boxes = spec.splitting == Splitting::bbox;
    if (splits_by_area(spec.splitting)) {
      area_shares(bins, corners_of(pixels.radius), corners_of(pixels.azimuth), count, shares);
    } else {
      StripEnds radial{pixels.centre_radius.data(), pixels.centre_radius.data()};
      StripEnds azimuthal{pixels.centre_azimuth.data(), pixels.centre_azimuth.data()};
      std::array<std::array<double, strip_pixels>, 4> ends;
      if (boxes) {
        box_ends(radial.low, corners_of(pixels.radius), 0.0, count, ends[0].data(), ends[1].data());
        box_ends(azimuthal.low, corners_of(pixels.azimuth), 2.0 * std::numbers::pi, count, ends[2].data(),
                 ends[3].data());
        radial = {ends[0].data(), ends[1].data()};
        azimuthal = {ends[2].data(), ends[3].data()};
      }
      box_shares(bins, radial, needs_azimuth(spec) ? azimuthal : StripEnds{}, count, shares);
    }
    pixels_done += expect_same(bins, pixels, boxes, needs_azimuth(spec), shares);
    pixels_seen += count;
    for (std::size_t pixel = 0; pixel < count; ++pixel) {
      if (shares.count[pixel] != unusual) ++counts[static_cast<std::size_t>(shares.count[pixel])];
    }
    if (HasFailure()) FAIL() << "strip " << strip;
  }
  // A third or so of these pixels is made to be left to the general code.
  EXPECT_GT(pixels_done, pixels_seen / 3);
  EXPECT_EQ(counts[0], 0U);
  for (std::size_t slots = 1; slots <= strip_slots; ++slots) EXPECT_GT(counts[slots], 100U) << slots;
}

TEST(StripShares, ExtentsAreThoseOfThePixelsThatAreThere) {
  std::mt19937_64 random(12);
  for (int strip = 0; strip < 300; ++strip) {
    const std::size_t count = 1 + random() % strip_pixels;
    const Pixels pixels = random_pixels(random, count, 0.05);
    std::vector<std::uint8_t> mask(count);
    for (std::uint8_t& use : mask) use = static_cast<std::uint8_t>(random() % 3);
    const bool masked = random() % 2 == 0;
    std::array<double, strip_pixels> low;
    std::array<double, strip_pixels> high;
    corner_ends(corners_of(pixels.radius), count, low.data(), high.data());
    std::vector<double> least(count, std::numeric_limits<double>::max());
    std::vector<double> greatest(count, std::numeric_limits<double>::lowest());
    widen_extents({low.data(), high.data()}, masked ? mask.data() : nullptr, count, least.data(), greatest.data());
    for (std::size_t pixel = 0; pixel < count; ++pixel) {
      const auto& r = pixels.radius;
      const bool there = !masked || mask[pixel] != static_cast<std::uint8_t>(PixelUse::masked);
      const float sum = r[0][pixel] + r[1][pixel] + r[2][pixel] + r[3][pixel];
      // (A corner that is no number may or may not show; the pixel has no share in any case.)
      if (there && !std::isfinite(sum)) continue;
      const auto [lowest, highest] = std::minmax({r[0][pixel], r[1][pixel], r[2][pixel], r[3][pixel]});
      EXPECT_EQ(least[pixel], there ? lowest : std::numeric_limits<double>::max());
      EXPECT_EQ(greatest[pixel], there ? highest : std::numeric_limits<double>::lowest());
    }
  }
}

/// All splittings of a tilted detector with corners of its own, beam on it, some pixels masked: the rows that are found
/// pixel by pixel, whatever the number of threads.
TEST(MatrixBuilder, RowsAreThoseFoundPixelByPixel) {
  MatrixSpec spec;
  PixelGeometry& geometry = spec.geometry;
  geometry.rows = 71;
  geometry.columns = 301;
  geometry.distance_m = 0.02;
  geometry.rotation = {1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8};
  std::mt19937_64 random(13);
  std::vector<float> vertices;
  for (std::size_t pixel = 0; pixel < geometry.pixels(); ++pixel) {
    const std::size_t row = pixel / geometry.columns;
    const std::size_t column = pixel % geometry.columns;
    constexpr std::array<std::pair<int, int>, 4> steps = {{{0, 0}, {1, 0}, {1, 1}, {0, 1}}};
    for (const auto& [down, right] : steps) {
      vertices.push_back(static_cast<float>(random() % 100) * 1e-7F);
      vertices.push_back((static_cast<float>(row) - 30.0F + static_cast<float>(down)) * 1e-4F);
      vertices.push_back((static_cast<float>(column) - 100.0F + static_cast<float>(right)) * 1e-4F);
    }
  }
  geometry.vertices = vertices;
  std::vector<std::uint8_t> mask(geometry.pixels());
  for (std::uint8_t& use : mask) use = random() % 10 == 0 ? static_cast<std::uint8_t>(random() % 3) : 0;
  spec.mask = mask;
  for (const Splitting splitting : {Splitting::no, Splitting::bbox, Splitting::pseudo, Splitting::full}) {
    for (const auto& [bins, azimuthal_bins] : {std::pair{1U, 0U}, {100U, 0U}, {5000U, 0U}, {60U, 90U}}) {
      spec.splitting = splitting;
      spec.bins = bins;
      spec.azimuthal_bins = azimuthal_bins;
      BinAxes axes;
      const CsrMatrix matrix = build_matrix(spec, 2, axes).csr();
      const shared::SharedBins shared = shared_bins(spec, axes);
      std::vector<Shares> rows(axes.rows());
      for (std::size_t pixel = 0; pixel < geometry.pixels(); ++pixel) {
        if (!spec.is_used(pixel)) continue;
        std::array<float, 4> radius;
        std::array<float, 4> azimuth;
        for (std::size_t corner = 0; corner < 4; ++corner) {
          const Position position = vertex_position(geometry, pixel, corner);
          radius[corner] = static_cast<float>(radial_coordinate(spec, position));
          azimuth[corner] = static_cast<float>(azimuthal_coordinate(spec, position));
        }
        const Position centre = centre_position(geometry, static_cast<std::uint32_t>(pixel / geometry.columns),
                                                static_cast<std::uint32_t>(pixel % geometry.columns));
        const double centre_radius = radial_coordinate(spec, centre);
        const double centre_azimuth = needs_azimuth(spec) ? azimuthal_coordinate(spec, centre) : 0.0;
        const bool boxes = splitting == Splitting::bbox;
        shared::Footprint footprint;
        if (!find_footprint(
                shared, centre_radius, boxes ? half_width(centre_radius, radius, 0.0) : 0.0, centre_azimuth,
                boxes && needs_azimuth(spec) ? half_width(centre_azimuth, azimuth, 2.0 * std::numbers::pi) : 0.0,
                radius.data(), azimuth.data(), footprint)) {
          continue;
        }
        for_each_share(footprint, bins, [&](std::uint32_t row, double share) {
          rows[row].emplace_back(static_cast<std::uint32_t>(pixel), static_cast<float>(share));
        });
      }
      std::uint64_t entries = 0;
      for (std::uint32_t row = 0; row < axes.rows(); ++row) {
        Shares found;
        for (std::uint64_t entry = matrix.offsets[row]; entry < matrix.offsets[row + 1]; ++entry) {
          found.emplace_back(matrix.pixels[entry], matrix.weights[entry]);
        }
        ASSERT_EQ(found, rows[row]) << name_of(splitting) << ", row " << row << " of " << bins << " x "
                                    << azimuthal_bins;
        entries += found.size();
      }
      EXPECT_GT(entries, geometry.pixels() * 8 / 10);
      for (const int threads : {1, 3}) {
        BinAxes other;
        const CsrMatrix again = build_matrix(spec, threads, other).csr();
        EXPECT_EQ(other, axes);
        EXPECT_EQ(again.offsets, matrix.offsets);
        EXPECT_EQ(again.pixels, matrix.pixels);
        EXPECT_EQ(again.weights, matrix.weights);
      }
    }
  }
}

}  // namespace
}  // namespace annulus::kernels::openmp
