#include "kernels/opencl/device_tiles.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <tuple>

#include "base/errors.hpp"

namespace annulus::kernels::opencl {
namespace {

/// Entries of a segment, on average, from which tiles are worth it: its sums
/// then cost no more than its counts.
constexpr std::uint64_t least_segment_entries = 8;

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

struct Entry {
  std::uint32_t row = 0;
  float weight = 0.0F;
  std::uint16_t place = 0;
};

/// Where each run of the detector went: its tile and its place there; runs
/// without an entry went nowhere.
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
      sorted.entries[next[place / tile_runs]++] = {row, matrix.weights[entry],
                                                   static_cast<std::uint16_t>(place_in_tile(slot))};
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

  /// @param runs          [tile_runs]
  /// @param segment_rows  the row of every segment so far, appended to
  void cut(std::span<const Entry> entries, std::span<const std::uint32_t> runs,
           std::vector<std::uint32_t>& segment_rows) {
    segments_.clear();
    for (std::size_t first = 0; first < entries.size();) {
      std::size_t end = first + 1;
      while (end < entries.size() && entries[end].row == entries[first].row) ++end;
      segments_.push_back(entries.subspan(first, end - first));
      segment_rows.push_back(entries[first].row);
      first = end;
    }
    choose_length();
    std::size_t first = 0;
    while (first < segments_.size()) {
      std::size_t pieces = 0;
      std::size_t end = first;
      while (end < segments_.size() && pieces + pieces_of(segments_[end]) <= slice_pieces) {
        pieces += pieces_of(segments_[end++]);
      }
      tiled_.slice_runs.insert(tiled_.slice_runs.end(), runs.begin(), runs.end());
      append_slice(std::span(segments_).subspan(first, end - first));
      first = end;
    }
    ++tiled_.tiles;
  }

 private:
  using Entries = std::span<const Entry>;

  [[nodiscard]] std::size_t pieces_of(Entries segment) const { return (segment.size() + length_ - 1) / length_; }

  /// The shortest pieces, in whole steps, with which all segments fit in one slice; where they are too many for that,
  /// those of a slice well filled.
  void choose_length() {
    std::size_t entries = 0;
    std::size_t longest = 1;
    for (const Entries segment : segments_) {
      entries += segment.size();
      longest = std::max(longest, segment.size());
    }
    constexpr std::size_t row_of_steps = std::size_t{slice_pieces} * step_entries;
    length_ = (std::max(longest, entries) + row_of_steps - 1) / row_of_steps * step_entries;
    if (segments_.size() > slice_pieces / 2) return;
    const auto pieces = [&] {
      std::size_t sum = 0;
      for (const Entries segment : segments_) sum += pieces_of(segment);
      return sum;
    };
    while (pieces() > slice_pieces) length_ += step_entries;
  }

  void append_slice(std::span<const Entries> segments) {
    const std::uint64_t first_step = tiled_.weights.size() / (std::size_t{slice_pieces} * step_entries);
    tiled_.slices.push_back({tiled_.tiles, static_cast<std::uint32_t>(tiled_.segments.size()),
                             static_cast<std::uint32_t>(segments.size()),
                             static_cast<std::uint32_t>(length_ / step_entries)});
    tiled_.slice_steps.push_back(first_step);
    tiled_.weights.resize(tiled_.weights.size() + length_ * slice_pieces, 0.0F);
    tiled_.places.resize(tiled_.weights.size(), 0);
    std::size_t piece = 0;
    for (const Entries segment : segments) {
      const std::size_t pieces = pieces_of(segment);
      tiled_.segments.push_back({static_cast<std::uint32_t>(piece | pieces << 16), 0});
      deal_out(segment, first_step, piece, piece + pieces);
      piece += pieces;
    }
  }

  /// Gives a segment's entries to its pieces, one to each in turn. Neighbouring pieces are summed by work-items that
  /// run in step: they get pixels from different banks as long as there are any.
  void deal_out(Entries segment, std::uint64_t first_step, std::size_t first_piece, std::size_t end_piece) {
    for (std::vector<Entry>& bank : banks_) bank.clear();
    for (const Entry& entry : segment) banks_[entry.place % banks_.size()].push_back(entry);
    std::array<std::size_t, std::tuple_size_v<decltype(banks_)>> dealt{};
    std::size_t left = segment.size();
    for (std::size_t number = 0; number < length_; ++number) {
      for (std::size_t piece = first_piece; piece < end_piece; ++piece) {
        std::size_t bank = (piece + number) % banks_.size();
        const std::size_t step = (first_step + number / step_entries) * slice_pieces + piece;
        const std::size_t target = step * step_entries + number % step_entries;
        if (left == 0) {
          // Padding: a pixel that has an entry, so that it is looked after when it is bad.
          tiled_.places[target] = banks_[bank].empty() ? segment.back().place : banks_[bank].back().place;
          continue;
        }
        const auto rest = [&](std::size_t of) { return banks_[of].size() - dealt[of]; };
        if (rest(bank) == 0) {
          for (std::size_t other = 0; other < banks_.size(); ++other) {
            if (rest(other) > rest(bank)) bank = other;
          }
        }
        const Entry& taken = banks_[bank][dealt[bank]++];
        tiled_.weights[target] = taken.weight;
        tiled_.places[target] = taken.place;
        --left;
      }
    }
  }

  TiledRows& tiled_;
  std::vector<Entries> segments_;  ///< of the tile
  std::size_t length_ = 1;         ///< entries of a piece
  /// A segment's entries by the banks of local memory in which their pixels lie: one of 16 frames of 16-bit counts
  /// takes a quarter of them.
  std::array<std::vector<Entry>, 4> banks_;
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
  // Kernels see frames padded to whole lines of memory.
  tiled.run_places.resize((places.place.size() + frame_runs_multiple - 1) / frame_runs_multiple * frame_runs_multiple);
  for (const std::uint32_t run : places.order) tiled.run_places[run].tile = places.place[run] / tile_runs;
  for (const std::uint32_t pixel : matrix.pixels) tiled.run_places[pixel / run_pixels].used |= 1U << pixel % run_pixels;

  std::vector<std::uint32_t> segment_rows;
  TileCutter cutter(tiled);
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    std::array<std::uint32_t, tile_runs> runs{};
    for (std::size_t run = 0; run < tile_runs; ++run) {
      // A tile that is not full reads its first run again.
      const std::size_t place = tile * tile_runs + run;
      runs[run] = places.order[place < places.order.size() ? place : tile * tile_runs];
    }
    const auto first = static_cast<std::size_t>(sorted.offsets[tile]);
    cutter.cut(std::span(sorted.entries).subspan(first, sorted.offsets[tile + 1] - first), runs, segment_rows);
  }
  // A work-item reads two steps ahead.
  tiled.weights.resize(tiled.weights.size() + std::size_t{2} * slice_pieces * step_entries, 0.0F);
  tiled.places.resize(tiled.weights.size(), 0);

  // By row: within a row in the order of tiles.
  tiled.row_segments.assign(std::size_t{matrix.rows} + 1, 0);
  for (const std::uint32_t row : segment_rows) ++tiled.row_segments[row + 1];
  std::partial_sum(tiled.row_segments.begin(), tiled.row_segments.end(), tiled.row_segments.begin());
  std::vector<std::uint32_t> next(tiled.row_segments.begin(), tiled.row_segments.end() - 1);
  for (std::size_t segment = 0; segment < segment_rows.size(); ++segment) {
    tiled.segments[segment].place = next[segment_rows[segment]]++;
  }
  return tiled;
}

}  // namespace annulus::kernels::opencl
