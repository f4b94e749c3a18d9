#include "kernels/opencl/device_tiles.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>

#include "base/errors.hpp"

namespace annulus::kernels::opencl {
namespace {

/// Entries of a segment, on average, from which tiles are worth it: its sums then cost no more than its counts.
constexpr std::uint64_t least_segment_entries = 8;

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

struct Entry {
  std::uint32_t row = 0;
  float weight = 0.0F;
  std::uint16_t slot = 0;
};

/// Where each run of the detector went: its tile and its place there; runs without an entry went nowhere.
struct RunPlaces {
  std::vector<std::uint32_t> order;  ///< [used runs] the runs by tile
  std::vector<std::uint32_t> place;  ///< [all runs] in `order`; none = unused
};

RunPlaces sort_runs(const CsrMatrix& matrix) {
  const std::size_t runs = (std::size_t{matrix.columns} + run_pixels - 1) / run_pixels;
  std::vector<std::uint32_t> first_row(runs, none);
  for (std::uint32_t row = 0; row < matrix.rows; ++row) {
    for (std::uint64_t entry = matrix.offsets[row]; entry < matrix.offsets[row + 1]; ++entry) {
      std::uint32_t& first = first_row[matrix.pixels[entry] / run_pixels];
      first = std::min(first, row);
    }
  }
  RunPlaces places;
  for (std::uint32_t run = 0; run < runs; ++run) {
    if (first_row[run] != none) places.order.push_back(run);
  }
  std::ranges::stable_sort(places.order, {}, [&](std::uint32_t run) { return first_row[run]; });
  places.place.assign(runs, none);
  for (std::uint32_t place = 0; place < places.order.size(); ++place) places.place[places.order[place]] = place;
  return places;
}

/// The entries of every tile, by row, then by pixel.
struct TileEntries {
  std::vector<std::uint64_t> offsets;  ///< [tiles + 1]
  std::vector<Entry> entries;
};

TileEntries sort_entries(const CsrMatrix& matrix, const RunPlaces& places, std::size_t tiles) {
  TileEntries sorted;
  sorted.offsets.assign(tiles + 1, 0);
  for (const std::uint32_t pixel : matrix.pixels) ++sorted.offsets[places.place[pixel / run_pixels] / tile_runs + 1];
  std::partial_sum(sorted.offsets.begin(), sorted.offsets.end(), sorted.offsets.begin());
  std::vector<std::uint64_t> next(sorted.offsets.begin(), sorted.offsets.end() - 1);
  sorted.entries.resize(matrix.entries());
  for (std::uint32_t row = 0; row < matrix.rows; ++row) {
    for (std::uint64_t entry = matrix.offsets[row]; entry < matrix.offsets[row + 1]; ++entry) {
      const std::uint32_t pixel = matrix.pixels[entry];
      const std::uint32_t place = places.place[pixel / run_pixels];
      const std::uint32_t slot = place % tile_runs * run_pixels + pixel % run_pixels;
      sorted.entries[next[place / tile_runs]++] = {row, matrix.weights[entry], static_cast<std::uint16_t>(slot)};
    }
  }
  return sorted;
}

std::uint64_t count_segments(const TileEntries& sorted) {
  std::uint64_t segments = 0;
  for (std::size_t tile = 0; tile + 1 < sorted.offsets.size(); ++tile) {
    std::uint32_t last_row = none;
    for (std::uint64_t entry = sorted.offsets[tile]; entry < sorted.offsets[tile + 1]; ++entry) {
      segments += sorted.entries[entry].row != last_row;
      last_row = sorted.entries[entry].row;
    }
  }
  return segments;
}

/// Appends one tile's slices.
class TileCutter {
 public:
  explicit TileCutter(TiledRows& tiled) : tiled_(tiled) {}

  /// @param segment_rows  the row of every segment so far, appended to
  void cut(std::uint32_t tile, std::span<const Entry> entries, std::vector<std::uint32_t>& segment_rows) {
    segments_.clear();
    for (std::size_t first = 0; first < entries.size();) {
      std::size_t end = first + 1;
      while (end < entries.size() && entries[end].row == entries[first].row) ++end;
      segments_.push_back(entries.subspan(first, end - first));
      segment_rows.push_back(entries[first].row);
      first = end;
    }
    length_ = piece_length();
    tile_ = tile;
    std::size_t first = 0;
    while (first < segments_.size()) {
      std::size_t pieces = 0;
      std::size_t end = first;
      while (end < segments_.size() && pieces + pieces_of(segments_[end]) <= slice_pieces) {
        pieces += pieces_of(segments_[end++]);
      }
      append_slice(std::span(segments_).subspan(first, end - first));
      first = end;
    }
  }

 private:
  using Segment = std::span<const Entry>;

  [[nodiscard]] std::size_t pieces_of(Segment segment) const { return (segment.size() + length_ - 1) / length_; }

  /// The shortest length with which all segments fit in one slice; where they are too many for that, that of a slice
  /// well filled.
  [[nodiscard]] std::size_t piece_length() {
    std::size_t entries = 0;
    std::size_t longest = 1;
    for (const Segment segment : segments_) {
      entries += segment.size();
      longest = std::max(longest, segment.size());
    }
    const std::size_t shortest = std::max<std::size_t>((longest + slice_pieces - 1) / slice_pieces, 1);
    length_ = std::max(shortest, (entries + slice_pieces - 1) / slice_pieces);
    if (segments_.size() > slice_pieces / 2) return length_;
    const auto pieces = [&] {
      std::size_t sum = 0;
      for (const Segment segment : segments_) sum += pieces_of(segment);
      return sum;
    };
    while (pieces() > slice_pieces) ++length_;
    return length_;
  }

  void append_slice(std::span<const Segment> segments) {
    const std::uint64_t first_row = tiled_.weights.size() / slice_pieces;
    tiled_.slices.push_back({tile_, static_cast<std::uint32_t>(tiled_.segment_pieces.size()),
                             static_cast<std::uint32_t>(segments.size()), static_cast<std::uint32_t>(length_)});
    tiled_.slice_entries.push_back(first_row);
    tiled_.weights.resize((first_row + length_) * slice_pieces, 0.0F);
    tiled_.slots.resize((first_row + length_) * slice_pieces, 0);
    std::size_t piece = 0;
    for (const Segment segment : segments) {
      tiled_.segment_pieces.push_back(static_cast<std::uint32_t>(piece | pieces_of(segment) << 16));
      for (std::size_t first = 0; first < segment.size(); first += length_, ++piece) {
        const Segment part = segment.subspan(first, std::min(length_, segment.size() - first));
        for (std::size_t place = 0; place < length_; ++place) {
          const std::size_t target = (first_row + place) * slice_pieces + piece;
          const bool padding = place >= part.size();
          tiled_.weights[target] = padding ? 0.0F : part[place].weight;
          tiled_.slots[target] = padding ? part.back().slot : part[place].slot;
        }
      }
    }
  }

  TiledRows& tiled_;
  std::vector<Segment> segments_;
  std::size_t length_ = 1;
  std::uint32_t tile_ = 0;
};

}  // namespace

TiledRows cut_into_tiles(const CsrMatrix& matrix) {
  static_assert(tile_runs * run_pixels <= std::numeric_limits<std::uint16_t>::max());
  if (matrix.rows * least_segment_entries > matrix.entries()) return {};
  const RunPlaces places = sort_runs(matrix);
  const std::size_t tiles = (places.order.size() + tile_runs - 1) / tile_runs;
  const TileEntries sorted = sort_entries(matrix, places, tiles);

  if (count_segments(sorted) * least_segment_entries > matrix.entries()) return {};

  TiledRows tiled;
  tiled.runs.resize(tiles * tile_runs);
  for (std::size_t place = 0; place < tiled.runs.size(); ++place) {
    // A tile that is not full reads its first run again.
    const std::size_t from = place < places.order.size() ? place : place / tile_runs * tile_runs;
    tiled.runs[place] = places.order[from] * run_pixels;
  }
  std::vector<std::uint32_t> segment_rows;
  TileCutter cutter(tiled);
  for (std::uint32_t tile = 0; tile < tiles; ++tile) {
    const auto first = static_cast<std::size_t>(sorted.offsets[tile]);
    cutter.cut(tile, std::span(sorted.entries).subspan(first, sorted.offsets[tile + 1] - first), segment_rows);
  }

  // By row: within a row in the order of tiles.
  tiled.row_segments.assign(std::size_t{matrix.rows} + 1, 0);
  for (const std::uint32_t row : segment_rows) ++tiled.row_segments[row + 1];
  std::partial_sum(tiled.row_segments.begin(), tiled.row_segments.end(), tiled.row_segments.begin());
  std::vector<std::uint32_t> next(tiled.row_segments.begin(), tiled.row_segments.end() - 1);
  for (const std::uint32_t row : segment_rows) tiled.segment_places.push_back(next[row]++);
  return tiled;
}

}  // namespace annulus::kernels::opencl
