// Matrices that outlive a run: who keeps them, and the key that says what a matrix was made of.
#pragma once

#include <optional>
#include <string>

#include "kernels/engine.hpp"

namespace annulus::integrator {

/// A matrix with the bins that it was built for.
struct StoredMatrix {
  kernels::BinAxes axes;
  kernels::CsrMatrix matrix;
};

/// Keeps matrices under their keys. A store that fails costs time, never a run: it does not throw Error, and tells what
/// went wrong in a way of its own.
class MatrixStore {
 public:
  virtual ~MatrixStore() = default;

  /// What was saved under `key`, whole and unchanged; else nothing.
  [[nodiscard]] virtual std::optional<StoredMatrix> load(const std::string& key) = 0;

  /// Whether save() keeps anything; where it does not, nobody needs to copy a matrix for it.
  [[nodiscard]] virtual bool saves() const = 0;

  /// Keeps `stored` in place of whatever was there under `key`.
  virtual void save(const std::string& key, const StoredMatrix& stored) = 0;
};

/// Everything that the bits of a matrix follow from, a line each: the version of the builders, which device builds, all
/// of `spec`, arrays as digests of 128 bits. Numbers read back to the same double. Equal keys, equal matrices; the same
/// for any number of threads.
[[nodiscard]] std::string matrix_key(const kernels::MatrixSpec& spec, const kernels::Engine& engine);

}  // namespace annulus::integrator
