#include "kernels/engine.hpp"

#include "kernels/opencl/opencl_engine.hpp"
#include "kernels/openmp/openmp_engine.hpp"
#include "kernels/reference/reference_engine.hpp"

namespace annulus::kernels {

std::string_view name_of(Backend backend) {
  switch (backend) {
    case Backend::reference: return "reference";
    case Backend::openmp: return "openmp";
    case Backend::opencl: return "opencl";
  }
  return "?";
}

std::string_view name_of(ErrorModel model) {
  switch (model) {
    case ErrorModel::no: return "no";
    case ErrorModel::variance: return "variance";
    case ErrorModel::poisson: return "poisson";
    case ErrorModel::azimuthal: return "azimuthal";
    case ErrorModel::hybrid: return "hybrid";
  }
  return "?";
}

std::string_view name_of(Splitting splitting) {
  switch (splitting) {
    case Splitting::no: return "no";
    case Splitting::bbox: return "bbox";
    case Splitting::pseudo: return "pseudo";
    case Splitting::full: return "full";
  }
  return "?";
}

std::string_view name_of(Convention convention) {
  switch (convention) {
    case Convention::exact: return "exact";
    case Convention::pyfai: return "pyfai";
  }
  return "?";
}

std::unique_ptr<Engine> make_engine(Backend backend, const DeviceChoice& choice) {
  switch (backend) {
    case Backend::reference: return reference::make_engine(choice);
    case Backend::openmp: return openmp::make_engine(choice);
    case Backend::opencl: return opencl::make_engine(choice);
  }
  throw InternalError("backend out of range");
}

}  // namespace annulus::kernels
