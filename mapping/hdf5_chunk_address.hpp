// Where the chunks of a dataset lie in their file, fast for any number of chunks.
//
// H5Dget_chunk_info_by_coord walks the whole chunk index at each call (HDF5 1.10.8: 17 us for 1,000 chunks, 32 ms for
// 100,000; 1.7 ms and 37 ms in the "latest" file format), so asking for every chunk costs the square of their number.
// H5Dread_chunk looks one chunk up in about 2 us, whatever their number. Files are therefore opened with a small file
// driver of ours which, while an address is asked for, notes where HDF5 goes to read the chunk instead of reading it.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "mapping/hdf5.hpp"

namespace annulus::mapping::hdf5 {

struct ChunkAddress {
  std::uint64_t offset = 0;  ///< From the start of the file, user block included.
  std::uint64_t bytes = 0;
  std::uint32_t filter_mask = 0;  ///< Bit n set: filter n of the pipeline was left out for this chunk.
};

/// A file access property list for files whose chunks shall be located. Reads like the default driver, never writes,
/// takes no file lock. Throws IoError.
[[nodiscard]] PropertyList locating_access();

/// The place of the chunk whose first element is at `corner`, nothing when it was never written. `dataset` belongs to
/// a file opened with locating_access() that is `file_bytes` long. Throws IoError when the index cannot be read or
/// gives a place outside the file.
[[nodiscard]] std::optional<ChunkAddress> locate_chunk(hid_t dataset, const hsize_t* corner, std::uint64_t file_bytes);

}  // namespace annulus::mapping::hdf5
