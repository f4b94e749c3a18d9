// Owners for HDF5 handles and checked calls: the ground on which reading and writing stand. No policy lives here.
//
// Serial HDF5 calls of a process go through one thread at a time; Debian's parallel HDF5 is not thread-safe.
#pragma once

#include <hdf5.h>

#include <string>

#include "base/errors.hpp"
#include "base/unique_handle.hpp"

namespace annulus::mapping::hdf5 {

/// Releases a hid_t by the given close function; errors while closing are silent (a destructor cannot tell).
template <herr_t (*Close)(hid_t)>
struct HandleTraits {
  using Type = hid_t;
  static Type invalid() noexcept { return H5I_INVALID_HID; }
  static void release(Type id) noexcept { Close(id); }
};

using File = UniqueHandle<HandleTraits<H5Fclose>>;
using Group = UniqueHandle<HandleTraits<H5Gclose>>;
using Object = UniqueHandle<HandleTraits<H5Oclose>>;
using Dataset = UniqueHandle<HandleTraits<H5Dclose>>;
using Dataspace = UniqueHandle<HandleTraits<H5Sclose>>;
using Datatype = UniqueHandle<HandleTraits<H5Tclose>>;
using Attribute = UniqueHandle<HandleTraits<H5Aclose>>;
using PropertyList = UniqueHandle<HandleTraits<H5Pclose>>;

/// Turns off HDF5's printing to standard error, for the process; our own messages say what failed. Call once, early.
inline void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

/// The innermost message of HDF5's error stack and clears the stack: "unable to open file"; "" when there is none.
[[nodiscard]] std::string last_error();

/// Checks a returned id and owns it: throws IoError "cannot <what>: <HDF5's reason>".
template <typename Handle>
[[nodiscard]] Handle own(hid_t id, const std::string& what) {
  if (id < 0) throw IoError("cannot " + what + ": " + last_error());
  return Handle(id);
}

/// Checks a status: throws IoError "cannot <what>: <HDF5's reason>".
inline void check(herr_t status, const std::string& what) {
  if (status < 0) throw IoError("cannot " + what + ": " + last_error());
}

}  // namespace annulus::mapping::hdf5
