// Looking into HDF5 files that others wrote: opening, links, attributes, element types, and saying what is wrong.
//
// All calls: one thread at a time in a process.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/pixel_type.hpp"
#include "mapping/hdf5.hpp"

namespace annulus::mapping::hdf5 {

/// Calls `get(text, size)`, one of HDF5's functions that give a text's length, first without a place for the text.
template <typename Get>
[[nodiscard]] std::string text_of(Get&& get) {
  const ssize_t length = get(nullptr, 0);
  if (length < 0) throw IoError("cannot ask HDF5 for a name: " + last_error());
  std::string text(static_cast<std::size_t>(length) + 1, '\0');
  get(text.data(), text.size());
  text.pop_back();
  return text;
}

/// Runs `look`, which looks into `file` for the first time: what fails there is the input's fault, so an IoError (of
/// damaged metadata) becomes an InputError naming the file.
template <typename Look>
decltype(auto) as_input(const std::filesystem::path& file, Look&& look) {
  try {
    return look();
  } catch (const IoError& error) {
    throw InputError(file.string() + ": is damaged: " + error.what());
  }
}

/// Opens for reading, in SWMR mode when a writer has the file open so. `access` is a file access property list.
/// Throws InputError naming the file: absent, no HDF5 file, truncated, locked by a writer (with the way out).
[[nodiscard]] File open_for_reading(const std::filesystem::path& file, hid_t access = H5P_DEFAULT);

/// "file::path", as messages show a dataset.
[[nodiscard]] std::string shown(const std::filesystem::path& file, const std::string& path);

/// The file that an external link or a virtual dataset in `holder` means by `name`: the first that exists of HDF5's own
/// places (folders of the environment variable `prefix_variable`, the holder's folder, the working folder), else the
/// one beside the holder.
[[nodiscard]] std::filesystem::path linked_file(const std::filesystem::path& holder, const std::string& name,
                                                const char* prefix_variable);

/// The object's file, as HDF5 opened it, and a path there that leads to the object without any link to another file.
[[nodiscard]] std::string file_of(hid_t object);
[[nodiscard]] std::string path_of(hid_t object);

/// A key that is the same for one object, whatever the path by which it was reached; "" when HDF5 cannot tell.
[[nodiscard]] std::string identity(hid_t object);

enum class Target : std::uint8_t { absent, broken, group, dataset, other };

/// What a path leads to; `broken` when a link on the way leads nowhere.
[[nodiscard]] Target look(hid_t file, const std::string& path);

/// One sentence on why `path` cannot be opened: which link is broken and what it names, or what is there instead.
[[nodiscard]] std::string why_unreachable(hid_t file, const std::filesystem::path& name, const std::string& path);

/// Throws InputError with why_unreachable(), or when it is no dataset.
[[nodiscard]] Dataset open_dataset(hid_t file, const std::filesystem::path& name, const std::string& path);

/// Names of all links in a group, in the order of their names; empty when it is no group.
[[nodiscard]] std::vector<std::string> children(hid_t file, const std::string& group);

/// True for a link to another file.
[[nodiscard]] bool is_external_link(hid_t file, const std::string& path);

/// The text of an attribute (the first, of several); "" when there is none or it is no text.
[[nodiscard]] std::string text_attribute(hid_t object, const char* name);

/// numpy's name of a type: "int64", "float32", "string", "compound".
[[nodiscard]] std::string type_name(hid_t type);

/// The pixel type in which elements of `type` are read. Throws InputError naming `where` for types that have none.
[[nodiscard]] kernels::PixelType pixel_type(hid_t type, const std::string& where);

/// HDF5's type in memory for a pixel type; owned by the library.
[[nodiscard]] hid_t native_type(kernels::PixelType type);

/// Extent of a dataset.
[[nodiscard]] std::vector<hsize_t> extent(hid_t dataset);

}  // namespace annulus::mapping::hdf5
