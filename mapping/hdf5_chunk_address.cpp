#include "mapping/hdf5_chunk_address.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#if __has_include(<H5FDdevelop.h>)  // HDF5 1.13 and later keep the drivers' declarations there.
#include <H5FDdevelop.h>
#endif

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "mapping/input_file.hpp"

namespace annulus::mapping::hdf5 {

namespace {

/// What is noted while an address is asked for; HDF5 is called by one thread at a time.
struct Recorder {
  bool on = false;
  int reads = 0;
  haddr_t address = 0;
  std::size_t bytes = 0;
};
thread_local Recorder recorder;

/// A file of our driver. HDF5 sees the first member alone.
struct LocatingFile {
  H5FD_t base{};
  FileDescriptor descriptor;
  haddr_t end_of_addresses = 0;
  dev_t device = 0;
  ino_t inode = 0;

  static LocatingFile* of(H5FD_t* file) { return reinterpret_cast<LocatingFile*>(file); }
  static const LocatingFile* of(const H5FD_t* file) { return reinterpret_cast<const LocatingFile*>(file); }

  [[nodiscard]] haddr_t size() const {
    struct stat status {};
    return ::fstat(descriptor.get(), &status) == 0 ? static_cast<haddr_t>(status.st_size) : 0;
  }
};

H5FD_t* open_file(const char* name, unsigned flags, hid_t, haddr_t) noexcept {
  if ((flags & (H5F_ACC_RDWR | H5F_ACC_CREAT | H5F_ACC_TRUNC)) != 0) return nullptr;
  std::unique_ptr<LocatingFile> file(new (std::nothrow) LocatingFile);
  if (!file) return nullptr;
  file->descriptor.reset(::open(name, O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file->descriptor || ::fstat(file->descriptor.get(), &status) != 0) return nullptr;
  file->device = status.st_dev;
  file->inode = status.st_ino;
  return &file.release()->base;
}

herr_t close_file(H5FD_t* file) noexcept {
  delete LocatingFile::of(file);
  return 0;
}

int compare_files(const H5FD_t* left, const H5FD_t* right) noexcept {
  const LocatingFile* l = LocatingFile::of(left);
  const LocatingFile* r = LocatingFile::of(right);
  if (l->device != r->device) return l->device < r->device ? -1 : 1;
  if (l->inode != r->inode) return l->inode < r->inode ? -1 : 1;
  return 0;
}

herr_t query_features(const H5FD_t*, unsigned long* flags) noexcept {
  // Metadata in larger pieces, and files that a writer holds open in SWMR mode.
  if (flags != nullptr) *flags = H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_SUPPORTS_SWMR_IO;
  return 0;
}

haddr_t end_of_addresses(const H5FD_t* file, H5FD_mem_t) noexcept { return LocatingFile::of(file)->end_of_addresses; }

herr_t set_end_of_addresses(H5FD_t* file, H5FD_mem_t, haddr_t address) noexcept {
  LocatingFile::of(file)->end_of_addresses = address;
  return 0;
}

haddr_t end_of_file(const H5FD_t* file, H5FD_mem_t) noexcept { return LocatingFile::of(file)->size(); }

herr_t read_file(H5FD_t* file, H5FD_mem_t type, hid_t, haddr_t address, std::size_t bytes, void* buffer) noexcept {
  if (recorder.on && type == H5FD_MEM_DRAW) {
    ++recorder.reads;
    recorder.address = address;
    recorder.bytes = bytes;
    return 0;
  }
  const LocatingFile* self = LocatingFile::of(file);
  const std::span<std::byte> out(static_cast<std::byte*>(buffer), bytes);
  if (read_exactly(self->descriptor.get(), address, out)) return 0;
  // As the default driver does: what lies behind the end of the file reads as zeros (a file being written).
  const haddr_t size = self->size();
  const std::size_t inside = address < size ? static_cast<std::size_t>(std::min<haddr_t>(bytes, size - address)) : 0;
  if (inside == bytes || !read_exactly(self->descriptor.get(), address, out.first(inside))) return -1;
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(inside), out.end(), std::byte{0});
  return 0;
}

herr_t refuse_write(H5FD_t*, H5FD_mem_t, hid_t, haddr_t, std::size_t, const void*) noexcept { return -1; }

[[nodiscard]] H5FD_class_t driver_class() {
  H5FD_class_t driver{};
#ifdef H5FD_CLASS_VERSION
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(0x616e);  // Any number above 511, the end of HDF5's own.
#endif
  driver.name = "annulus_locating";
  driver.maxaddr = static_cast<haddr_t>(1) << 62;
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.open = open_file;
  driver.close = close_file;
  driver.cmp = compare_files;
  driver.query = query_features;
  driver.get_eoa = end_of_addresses;
  driver.set_eoa = set_end_of_addresses;
  driver.get_eof = end_of_file;
  driver.read = read_file;
  driver.write = refuse_write;
  std::fill(std::begin(driver.fl_map), std::end(driver.fl_map), H5FD_MEM_DEFAULT);
  return driver;
}

[[nodiscard]] ChunkAddress inside(ChunkAddress place, std::uint64_t file_bytes) {
  if (place.bytes > file_bytes || place.offset > file_bytes - place.bytes) {
    throw IoError("cannot look a chunk up: its place is outside the file");
  }
  return place;
}

[[nodiscard]] std::optional<ChunkAddress> locate_slowly(hid_t dataset, const hsize_t* corner,
                                                        std::uint64_t file_bytes) {
  unsigned mask = 0;
  haddr_t address = HADDR_UNDEF;
  hsize_t bytes = 0;
  check(H5Dget_chunk_info_by_coord(dataset, corner, &mask, &address, &bytes), "look a chunk up");
  if (address == HADDR_UNDEF) return std::nullopt;
  return inside({address, bytes, mask}, file_bytes);
}

}  // namespace

PropertyList locating_access() {
  static const H5FD_class_t driver = driver_class();
  static const hid_t driver_id = H5FDregister(&driver);
  if (driver_id < 0) throw IoError("cannot register a file driver with HDF5");
  auto access = own<PropertyList>(H5Pcreate(H5P_FILE_ACCESS), "make a file access property list");
  check(H5Pset_driver(access.get(), driver_id, nullptr), "set the file driver");
  return access;
}

std::optional<ChunkAddress> locate_chunk(hid_t dataset, const hsize_t* corner, std::uint64_t file_bytes) {
  hsize_t bytes = 0;
  if (H5Dget_chunk_storage_size(dataset, corner, &bytes) < 0) {
    // To HDF5 1.10 a chunk that was never written is an error, told apart from a damaged index by its words alone;
    // other words are looked into the slow way.
    if (last_error() == "chunk storage is not allocated") return std::nullopt;
    return locate_slowly(dataset, corner, file_bytes);
  }
  if (bytes == 0) return std::nullopt;
  if (bytes > file_bytes) throw IoError("cannot look a chunk up: larger than its file");

  // Never touched by our driver, so never paid for; large enough should HDF5 take the chunk from a cache of its own.
  const std::unique_ptr<std::byte[]> unused(new std::byte[bytes]);
  std::uint32_t filter_mask = 0;
  recorder = Recorder{.on = true};
#if H5_VERSION_GE(2, 0, 0)
  std::size_t capacity = static_cast<std::size_t>(bytes);
  const herr_t status = H5Dread_chunk2(dataset, H5P_DEFAULT, corner, &filter_mask, unused.get(), &capacity);
#else
  const herr_t status = H5Dread_chunk(dataset, H5P_DEFAULT, corner, &filter_mask, unused.get());
#endif
  recorder.on = false;
  check(status, "look a chunk up");
  // Taken from a cache: the slow way knows the place.
  if (recorder.reads != 1 || recorder.bytes != bytes) return locate_slowly(dataset, corner, file_bytes);
  return inside({recorder.address, recorder.bytes, filter_mask}, file_bytes);
}

}  // namespace annulus::mapping::hdf5
