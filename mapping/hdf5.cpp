#include "mapping/hdf5.hpp"

namespace annulus::mapping::hdf5 {

std::string last_error() {
  std::string innermost;
  const auto take = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    auto& text = *static_cast<std::string*>(out);
    if (error->desc != nullptr && *error->desc != '\0') text = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, take, &innermost);
  H5Eclear2(H5E_DEFAULT);
  return innermost;
}

}  // namespace annulus::mapping::hdf5
