// The filters that a dataset's chunks went through, and whether we can undo them without HDF5.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/encoded_batch.hpp"

namespace annulus::mapping::hdf5 {

/// One filter of a pipeline.
struct ChunkFilter {
  H5Z_filter_t id = 0;
  std::vector<unsigned> parameters;
  std::string name;  ///< as its writer called it; "" = not at all
};

/// The filters of a dataset creation property list, in the order in which writing applies them.
[[nodiscard]] std::vector<ChunkFilter> filters_of(hid_t creation);

/// What the filters of a chunk of elements of `element_size` bytes amount to; nothing when only HDF5 can undo them.
/// Decoded past HDF5: bitshuffle (32008), deflate, LZ4 (32004) and Zstandard (32015), all but the first with or without
/// HDF5's shuffle before them.
/// @param left_out  the chunk's filter mask: bit n set = filter n was not applied to it
[[nodiscard]] std::optional<kernels::Encoding> encoding_of(std::span<const ChunkFilter> filters,
                                                           std::size_t element_size, std::uint32_t left_out = 0);

/// The first filter that H5Dread needs and HDF5 has not, for messages: "32013 (zfp)"; "" when all are there. Registers
/// filter 32008 where it is needed.
[[nodiscard]] std::string missing_filter(std::span<const ChunkFilter> filters);

}  // namespace annulus::mapping::hdf5
