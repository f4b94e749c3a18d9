// HDF5 filter 32008, bitshuffle, with our own decoder and encoder: H5Dread and H5Dwrite work without any plugin.
//
// Parameters of the filter (K. Masui et al., Astronomy and Computing 12 (2015) 181, doi:10.1016/j.ascom.2015.07.002):
// version major, version minor, element size, elements per block (0 = 8 KiB), compression (0 none, 2 LZ4, 3 Zstandard).
// A caller gives the last two alone: {0, bitshuffle_lz4}.
#pragma once

#include <hdf5.h>

#include <cstddef>

namespace annulus::mapping::hdf5 {

inline constexpr H5Z_filter_t bitshuffle_filter = 32008;
inline constexpr unsigned bitshuffle_none = 0;
inline constexpr unsigned bitshuffle_lz4 = 2;

/// Registers the filter with HDF5 for the process, in place of a plugin; more than once is harmless.
/// Decodes LZ4 and plain bitshuffle; encodes LZ4 with blocks of the default size. Anything else is a failure of the
/// read or write, told on HDF5's error stack. Throws IoError.
void register_bslz4_filter();

/// Makes H5Dread work for this compression of filter 32008: registers ours for LZ4 and none. Zstandard is left to a
/// plugin (HDF5_PLUGIN_PATH), which HDF5 can take only while ours is not registered. False when there is no way.
[[nodiscard]] bool bitshuffle_readable(unsigned compression);

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
