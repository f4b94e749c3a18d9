#include "integrator/units.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "base/errors.hpp"

namespace annulus::integrator {

const std::vector<RadialUnit>& radial_units() {
  using enum kernels::RadialSpace;
  using enum UnitFrame;
  constexpr double degree = 180.0 / std::numbers::pi;
  // Names, scales and labels are pyFAI's (units.py): viewers look for them in the volume.
  static const std::vector<RadialUnit> units = {
      {"2th_deg", two_theta, degree, "2th", "deg", R"(Scattering angle $2\theta$ ($^{o}$))", false, false},
      {"2th_rad", two_theta, 1.0, "2th", "rad", R"(Scattering angle $2\theta$ ($rad$))", false, false},
      {"q_nm^-1", q, 1.0, "q", "nm^-1", R"(Scattering vector $q$ ($nm^{-1}$))", true, false},
      {"q_A^-1", q, 0.1, "q", "A^-1", R"(Scattering vector $q$ ($\AA^{-1}$))", true, false},
      {"r_mm", r, 1000.0, "r", "mm", R"(Radius $r$ ($mm$))", false, false},
      {"r_m", r, 1.0, "r", "m", R"(Radius $r$ ($m$))", false, false},
      {"d_m", d, 1.0, "d", "m", R"(d-spacing $d$ ($m$))", true, false},
      {"d_nm", d, 1e9, "d", "nm", R"(d-spacing $d$ ($nm$))", true, false},
      {"d_A", d, 1e10, "d", "A", R"(d-spacing $d$ ($\AA$))", true, false},
      {"d*2_A^-2", d_star_squared, 0.01, "d*2", "A^-2", R"(Recip. spacing sq. $d^{*2}$ ($\AA^{-2}$))", true, false},
      {"d*2_nm^-2", d_star_squared, 1.0, "d*2", "nm^-2", R"(Recip. spacing sq. $d^{*2}$ ($nm^{-2}$))", true, false},
      {"log10(q.m)_None", log10_q_m, 1.0, "log10(q.m)", "", R"(log10($q$.m))", true, true},
      {"log(q.nm)_None", log_q_nm, 1.0, "log(q.nm)", "", R"(log($q$.nm))", true, true},
      {"log(1+q.nm)_None", log1p_q_nm, 1.0, "log(1+q.nm)", "", R"(log(1+$q$.nm))", true, false},
      {"log(1+q.A)_None", log1p_q_a, 1.0, "log(1+q.A)", "", R"(log(1+$q$.$\AA$))", true, false},
      {"arcsinh(q.nm)_None", arcsinh_q_nm, 1.0, "arcsinh(q.nm)", "", R"(arcsinh($q$.nm))", true, false},
      {"arcsinh(q.A)_None", arcsinh_q_a, 1.0, "arcsinh(q.A)", "", R"(arcsinh($q$.$\AA$))", true, false},
      {"qx_nm^-1", qx, 1.0, "qx", "nm^-1", R"(Rectilinear scattering vector $q_x$ ($nm^{-1}$))", true, true},
      {"qy_nm^-1", qy, 1.0, "qy", "nm^-1", R"(Rectilinear scattering vector $q_y$ ($nm^{-1}$))", true, true},
      {"scattering_angle_vert_rad", angle_vertical, 1.0, "scattering_angle_vert", "rad",
       "Vertical scattering angle (rad)", false, true, turned_image},
      {"scattering_angle_horz_rad", angle_horizontal, 1.0, "scattering_angle_horz", "rad",
       "Horizontal scattering angle (rad)", false, true, turned_image},
      {"exit_angle_vert_rad", angle_vertical, 1.0, "exit_angle_vert", "rad", "Vertical exit angle (rad)", false, true,
       exit_direction},
      {"exit_angle_horz_rad", angle_horizontal, 1.0, "exit_angle_horz", "rad", "Horizontal exit angle (rad)", false,
       true, exit_direction},
      {"exit_angle_vert_deg", angle_vertical, degree, "exit_angle_vert", "deg", "Vertical exit angle (deg)", false,
       true, exit_direction},
      {"exit_angle_horz_deg", angle_horizontal, degree, "exit_angle_horz", "deg", "Horizontal exit angle (deg)", false,
       true, exit_direction},
      {"qxgi_nm^-1", q_sample_x, 1.0, "qxgi", "nm^-1", R"(Scattering vector $q_x$ ($nm^{-1}$))", true, true,
       scattering},
      {"qygi_nm^-1", q_sample_y, 1.0, "qygi", "nm^-1", R"(Scattering vector $q_y$ ($nm^{-1}$))", true, true,
       scattering},
      {"qzgi_nm^-1", q_sample_z, 1.0, "qzgi", "nm^-1", R"(Scattering vector $q_z$ ($nm^{-1}$))", true, true,
       scattering},
      {"qip_nm^-1", q_in_plane, 1.0, "qip", "nm^-1", R"(Scattering vector $q_{IP}$ ($nm^{-1}$))", true, true,
       scattering},
      {"qoop_nm^-1", q_sample_y, 1.0, "qoop", "nm^-1", R"(Scattering vector $q_{OOP}$ ($nm^{-1}$))", true, true,
       scattering},
      {"qtot_nm^-1", q_total, 1.0, "qtot", "nm^-1", R"(Scattering vector $q_{xyz}$ ($nm^{-1}$))", true, true,
       scattering},
      {"qxgi_A^-1", q_sample_x, 0.1, "qxgi", "A^-1", R"(Scattering vector $q_x$ ($A^{-1}$))", true, true, scattering},
      {"qygi_A^-1", q_sample_y, 0.1, "qygi", "A^-1", R"(Scattering vector $q_y$ ($A^{-1}$))", true, true, scattering},
      {"qzgi_A^-1", q_sample_z, 0.1, "qzgi", "A^-1", R"(Scattering vector $q_z$ ($A^{-1}$))", true, true, scattering},
      {"qip_A^-1", q_in_plane, 0.1, "qip", "A^-1", R"(Scattering vector $q_{IP}$ ($A^{-1}$))", true, true, scattering},
      {"qoop_A^-1", q_sample_y, 0.1, "qoop", "A^-1", R"(Scattering vector $q_{OOP}$ ($A^{-1}$))", true, true,
       scattering},
      {"qtot_A^-1", q_total, 0.1, "qtot", "A^-1", R"(Scattering vector $q_{xyz}$ ($A^{-1}$))", true, true, scattering},
      {"chi_rad", chi, 1.0, "chi", "rad", R"(Azimuthal angle $\chi$ ($rad$))", false, true},
      {"chi_deg", chi, degree, "chi", "deg", R"(Azimuthal angle $\chi$ ($^{o}$))", false, true},
      {"chigi_rad", chi_sample, 1.0, "chigi", "rad", R"(Polar angle $\chi$ ($rad$))", true, true, scattering},
      {"chigi_deg", chi_sample, degree, "chigi", "deg", R"(Polar angle $\chi$ ($^{o}$))", true, true, scattering},
  };
  return units;
}

const RadialUnit& radial_unit(std::string_view name) {
  const std::vector<RadialUnit>& units = radial_units();
  const auto found = std::ranges::find(units, name, &RadialUnit::name);
  if (found != units.end()) return *found;
  std::string message = "unknown unit '" + std::string(name) + "'; expected one of";
  for (const RadialUnit& unit : units) {
    message += unit.name == units.front().name ? " " : ", ";
    message += unit.name;
  }
  throw InputError(message);
}

kernels::SampleFrame sample_frame(UnitFrame frame, const SamplePose& pose) {
  if (frame == UnitFrame::laboratory) return kernels::unturned_sample;
  // Which x and y of the laboratory become those of the image (pyFAI's MAPS_SAMPLE_ORIENTATION), as rows of a matrix.
  constexpr std::array<std::array<double, 4>, 8> orientations = {{{1, 0, 0, 1},
                                                                  {-1, 0, 0, 1},
                                                                  {-1, 0, 0, -1},
                                                                  {1, 0, 0, -1},
                                                                  {0, -1, -1, 0},
                                                                  {0, -1, 1, 0},
                                                                  {0, 1, 1, 0},
                                                                  {0, 1, -1, 0}}};
  if (pose.orientation < 1 || pose.orientation > 8) {
    throw InputError("sample orientation: found " + std::to_string(pose.orientation) + ", expected 1 to 8");
  }
  const auto& [xx, xy, yx, yy] = orientations[static_cast<std::size_t>(pose.orientation) - 1];
  const double sense = frame == UnitFrame::turned_image ? 0.0 : frame == UnitFrame::exit_direction ? 1.0 : -1.0;
  const double cos_i = std::cos(sense * pose.incident_angle_rad);
  const double sin_i = std::sin(sense * pose.incident_angle_rad);
  const double cos_t = std::cos(sense * pose.tilt_angle_rad);
  const double sin_t = std::sin(sense * pose.tilt_angle_rad);
  // Rz(tilt) Rx(-incident).
  const kernels::SampleFrame turn = {cos_t, -sin_t * cos_i, -sin_t * sin_i,  //
                                     sin_t, cos_t * cos_i,  cos_t * sin_i,   //
                                     0.0,   -sin_i,         cos_i};
  kernels::SampleFrame turned = turn;
  for (std::size_t row = 0; row < 9; row += 3) {
    turned[row] = turn[row] * xx + turn[row + 1] * yx;
    turned[row + 1] = turn[row] * xy + turn[row + 1] * yy;
  }
  return turned;
}

}  // namespace annulus::integrator
