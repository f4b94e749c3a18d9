// HDF5 filter 32008, bitshuffle, with our own decoders and encoder: H5Dread and H5Dwrite work without any plugin.
//
// Parameters of the filter (K. Masui et al., Astronomy and Computing 12 (2015) 181, doi:10.1016/j.ascom.2015.07.002):
// version major, version minor, element size, elements per block (0 = 8 KiB), compression (0 none, 2 LZ4, 3 Zstandard).
// A caller gives the last two alone: {0, bitshuffle_lz4}.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <optional>
#include <span>

#include "kernels/encoded_batch.hpp"

namespace annulus::mapping::hdf5 {

inline constexpr H5Z_filter_t bitshuffle_filter = 32008;
inline constexpr unsigned bitshuffle_none = 0;
inline constexpr unsigned bitshuffle_lz4 = 2;
inline constexpr unsigned bitshuffle_zstd = 3;

/// The element size among the filter's parameters; 0 when there is none.
[[nodiscard]] std::size_t bitshuffle_element_size(std::span<const unsigned> parameters);

/// How the filter with these parameters encodes a chunk; nothing for a compression that is not known.
[[nodiscard]] std::optional<kernels::Encoding> bitshuffle_encoding(std::span<const unsigned> parameters);

/// Registers the filter with HDF5 for the process, in place of a plugin; more than once is harmless.
/// Decodes all three compressions; encodes LZ4 with blocks of the default size. Anything else is a failure of the
/// read or write, told on HDF5's error stack. Throws IoError.
void register_bitshuffle_filter();

/// While it lives, the filter refuses chunks that do not decode to `bytes`: HDF5 1.10.8 does not look at how much a
/// filter gives back, and would read behind the end of what a damaged chunk decodes to.
class ExpectChunkBytes {
 public:
  explicit ExpectChunkBytes(std::size_t bytes);
  ~ExpectChunkBytes();
  ExpectChunkBytes(const ExpectChunkBytes&) = delete;
  ExpectChunkBytes& operator=(const ExpectChunkBytes&) = delete;
};

}  // namespace annulus::mapping::hdf5
