// Integration matrices in files, one each, so that a second job with the same geometry starts at once.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "integrator/matrix_store.hpp"

namespace annulus::mapping {

/// A folder of matrices. A file holds the key, the bins and the rows of its matrix, and checksums of all of it; it
/// appears complete or not at all, so that any number of processes may share the folder. What is damaged, of another
/// version or of another origin counts as absent and is replaced. Files may be deleted at any time.
class MatrixCache final : public integrator::MatrixStore {
 public:
  enum class Access : std::uint8_t { read, read_and_save };

  /// Looks at nothing yet; a folder that does not exist is made when the first matrix is saved.
  /// @param threads  that read and check a file, >= 1
  MatrixCache(std::filesystem::path folder, Access access, int threads);

  /// Costs one reading of the file: 70 MB (4 megapixels, boxes) in less than 0.1 s once it is in the page cache.
  [[nodiscard]] std::optional<integrator::StoredMatrix> load(const std::string& key) override;
  [[nodiscard]] bool saves() const override { return access_ == Access::read_and_save; }
  void save(const std::string& key, const integrator::StoredMatrix& stored) override;

  /// Where the matrix of a key is kept.
  [[nodiscard]] std::filesystem::path file_of(const std::string& key) const;

  /// What was wrong with files and folder until now, for the user.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  std::filesystem::path folder_;
  Access access_;
  int threads_;
  std::vector<std::string> warnings_;
};

}  // namespace annulus::mapping
