#include "kernels/openmp/pair_matrix.hpp"

#include <algorithm>

namespace annulus::kernels::openmp {
namespace {

struct Entry {
  std::uint32_t bin;
  std::uint16_t pixel;
  float weight;
};

/// Slots of one tile while it is built.
struct TileSlots {
  std::vector<std::uint32_t> bins;
  std::vector<std::uint16_t> pixels;
  std::vector<float> first;
  std::vector<float> second;
  std::vector<PixelWeights> weights;
  std::vector<FurtherWeights> further;

  void add(std::uint16_t pixel, float first_weight, float second_weight) {
    pixels.push_back(pixel);
    first.push_back(first_weight);
    second.push_back(second_weight);
  }
  /// Completes the last group.
  void fill_group() {
    while (pixels.size() % slots_per_group != 0) add(pixels.back(), 0.0F, 0.0F);
  }
};

struct Slot {
  std::uint32_t bin;
  std::uint16_t pixel;
  float first;
  float second;
};

/// The tile's entries, by pixel and then by bin.
std::vector<Entry> entries_by_pixel(const TiledMatrix& matrix, std::size_t index) {
  constexpr std::size_t parts = pair_tile_pixels / tile_pixels;
  const std::size_t end = std::min(matrix.tiles(), (index + 1) * parts);
  std::vector<std::uint32_t> places(pair_tile_pixels + 1);
  const auto for_each_entry = [&](auto&& visit) {
    for (std::size_t part = index * parts; part < end; ++part) {
      const TiledMatrix::Tile tile = matrix.tile(part);
      const std::size_t first_pixel = (part - index * parts) * tile_pixels;
      std::uint32_t entry = 0;
      for (const TileRow& row : tile.rows) {
        for (; entry < row.end; ++entry) visit(row.bin, first_pixel + tile.pixels[entry], tile.weights[entry]);
      }
    }
  };
  for_each_entry([&](std::uint32_t, std::size_t pixel, float) { ++places[pixel + 1]; });
  for (std::size_t pixel = 0; pixel < pair_tile_pixels; ++pixel) places[pixel + 1] += places[pixel];
  std::vector<Entry> entries(places.back());
  for_each_entry([&](std::uint32_t bin, std::size_t pixel, float weight) {
    entries[places[pixel]++] = {bin, static_cast<std::uint16_t>(pixel), weight};
  });
  return entries;
}

TileSlots build_tile(const TiledMatrix& matrix, std::size_t index) {
  const std::vector<Entry> entries = entries_by_pixel(matrix, index);
  std::vector<Slot> slots;
  slots.reserve(entries.size());
  for (std::size_t entry = 0; entry < entries.size(); ++entry) {
    const Entry& one = entries[entry];
    const bool paired =
        entry + 1 < entries.size() && entries[entry + 1].pixel == one.pixel && entries[entry + 1].bin == one.bin + 1;
    slots.push_back({one.bin, one.pixel, one.weight, paired ? entries[entry + 1].weight : 0.0F});
    if (paired) ++entry;
  }

  TileSlots tile;
  tile.weights.resize(pair_tile_pixels);
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {  // still by pixel
    const PixelWeights both{slots[slot].bin, 0, slots[slot].first, slots[slot].second};
    PixelWeights& first = tile.weights[slots[slot].pixel];
    if (slot > 0 && slots[slot - 1].pixel == slots[slot].pixel) {
      if (first.more == 0) first.more = static_cast<std::uint32_t>(tile.further.size()) + 1;
      tile.further.push_back({slots[slot].pixel, both});
    } else {
      first = both;
    }
  }
  std::ranges::stable_sort(slots, {}, &Slot::bin);  // within a bin they stay in the order of their pixels
  tile.pixels.reserve(slots.size() * 5 / 4);
  tile.first.reserve(slots.size() * 5 / 4);
  tile.second.reserve(slots.size() * 5 / 4);
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {
    if (slot == 0 || slots[slot].bin != slots[slot - 1].bin) tile.fill_group();
    if (tile.pixels.size() % slots_per_group == 0) tile.bins.push_back(slots[slot].bin);
    tile.add(slots[slot].pixel, slots[slot].first, slots[slot].second);
  }
  tile.fill_group();
  return tile;
}

}  // namespace

PairMatrix::PairMatrix(const TiledMatrix& matrix, int threads) : offsets_{0}, further_offsets_{0} {
  constexpr std::size_t parts = pair_tile_pixels / tile_pixels;
  std::vector<TileSlots> tiles((matrix.tiles() + parts - 1) / parts);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
  for (std::size_t index = 0; index < tiles.size(); ++index) tiles[index] = build_tile(matrix, index);

  for (const TileSlots& tile : tiles) {
    offsets_.push_back(offsets_.back() + tile.bins.size());
    further_offsets_.push_back(further_offsets_.back() + tile.further.size());
  }
  bins_.resize(offsets_.back());
  pixels_.resize(offsets_.back() * slots_per_group);
  first_.resize(pixels_.size());
  second_.resize(pixels_.size());
  first_squares_.resize(bins_.size());
  second_squares_.resize(bins_.size());
  weights_.resize(tiles.size() * pair_tile_pixels);
  further_.resize(further_offsets_.back());
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::size_t index = 0; index < tiles.size(); ++index) {
    const TileSlots& tile = tiles[index];
    const auto group = static_cast<std::ptrdiff_t>(offsets_[index]);
    const auto slot = group * static_cast<std::ptrdiff_t>(slots_per_group);
    std::ranges::copy(tile.bins, bins_.begin() + group);
    std::ranges::copy(tile.pixels, pixels_.begin() + slot);
    std::ranges::copy(tile.first, first_.begin() + slot);
    std::ranges::copy(tile.second, second_.begin() + slot);
    std::ranges::copy(tile.weights, weights_.begin() + static_cast<std::ptrdiff_t>(index * pair_tile_pixels));
    std::ranges::copy(tile.further, further_.begin() + static_cast<std::ptrdiff_t>(further_offsets_[index]));
    for (std::size_t number = 0; number < tile.bins.size(); ++number) {
      float first = 0.0F;
      float second = 0.0F;
      for (std::size_t place = number * slots_per_group; place < (number + 1) * slots_per_group; ++place) {
        first += tile.first[place] * tile.first[place];
        second += tile.second[place] * tile.second[place];
      }
      first_squares_[offsets_[index] + number] = first;
      second_squares_[offsets_[index] + number] = second;
    }
  }
}

std::uint64_t PairMatrix::bytes() const {
  const auto size_of = [](const auto& values) { return values.size() * sizeof(values[0]); };
  return size_of(offsets_) + size_of(bins_) + size_of(pixels_) + size_of(first_) + size_of(second_) +
         size_of(first_squares_) + size_of(second_squares_) + size_of(weights_) + size_of(further_offsets_) +
         size_of(further_);
}

}  // namespace annulus::kernels::openmp
