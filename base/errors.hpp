// The exceptions of annulus: one small tree, thrown by libraries and turned into an exit status by main alone.
//
// Which to use: InputError when the user can mend it (option, file, shape), IoError when a file or a link to storage
// failed in mid-work, DeviceError for OpenCL, InternalError for a broken promise between our own parts. A bad frame is
// none of these: it is a FrameStatus. Absence that is normal is std::optional.
#pragma once

#include <stdexcept>
#include <string>

namespace annulus {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What the user gave cannot work. The message names the file or option, what was found and what was expected.
class InputError : public Error {
 public:
  using Error::Error;
};

/// Reading or writing failed after the input had been accepted.
class IoError : public Error {
 public:
  using Error::Error;
};

/// An OpenCL call failed; the message names the call, the device and the error's symbolic name.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// A contract between two parts of annulus was broken: a defect of ours, never of the input.
class InternalError : public Error {
 public:
  using Error::Error;
};

namespace detail {
[[noreturn]] inline void contract_broken(const char* condition, const char* file, int line) {
  throw InternalError(std::string("internal error: expected ") + condition + " at " + file + ":" +
                      std::to_string(line));
}
}  // namespace detail
}  // namespace annulus

/// Checks a contract between our own parts, in every build type. Cheap conditions only: never per pixel.
#define ANNULUS_EXPECT(condition) \
  ((condition) ? static_cast<void>(0) : ::annulus::detail::contract_broken(#condition, __FILE__, __LINE__))
