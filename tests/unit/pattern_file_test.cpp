// Pattern files: text that reads back to the same numbers, HDF5 in the layout of NXazint1d and NXazint2d, and nothing
// half written. What Python readers make of them is for tests/end_to_end/test_integrate.py.
#include "mapping/pattern_file.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/errors.hpp"
#include "frame_files.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/nexus.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

PatternDescription describe(std::size_t azimuthal, std::size_t bins) {
  PatternDescription description;
  description.unit = "2th_deg";
  description.radial_name = "2th";
  description.radial_unit = "deg";
  for (std::size_t bin = 0; bin < bins; ++bin) description.radial.push_back((static_cast<double>(bin) + 0.5) / 7.0);
  for (std::size_t bin = 0; bin < azimuthal; ++bin) description.azimuthal.push_back(90.0 * static_cast<double>(bin));
  description.poni_text = "# written by hand\nponi_version: 2\nDetector: Detector\nDistance: 0.1\n";
  description.poni_json = R"({"dist": 0.1})";
  description.wavelength_m = 1e-10;
  description.energy_kev = 12.4;
  description.mask = "mask.tif";
  description.dark = {"dark1.tif", "dark2.tif"};
  description.polarisation_factor = 0.95;
  description.splitting = "bbox";
  description.error_model = "poisson";
  description.engine = "reference";
  description.command_line = "annulus integrate image.tif";
  description.version = "1.2.3";
  return description;
}

/// Thirds and their multiples: numbers that no decimal fraction hits.
Pattern pattern_of(const PatternDescription& description, float first) {
  Pattern pattern;
  pattern.source = "image.tif";
  const std::size_t rows = description.radial.size() * std::max<std::size_t>(description.azimuthal.size(), 1);
  for (std::size_t row = 0; row < rows; ++row) {
    pattern.intensity.push_back((first + static_cast<float>(row)) / 3.0f * (row % 2 == 0 ? 1.0f : 1e20f));
    pattern.sem.push_back(static_cast<float>(row + 1) / 7.0f);
    pattern.std.push_back(static_cast<float>(row + 1) / 11.0f);
  }
  return pattern;
}

std::string text_of(const fs::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

template <typename Number>
std::pair<std::vector<hsize_t>, std::vector<Number>> read(const fs::path& file, const std::string& path) {
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  const hdf5::Dataset dataset(H5Dopen2(handle.get(), path.c_str(), H5P_DEFAULT));
  const hdf5::Dataspace space(H5Dget_space(dataset.get()));
  std::vector<hsize_t> shape(static_cast<std::size_t>(std::max(H5Sget_simple_extent_ndims(space.get()), 0)));
  H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr);
  std::vector<Number> values(
      static_cast<std::size_t>(std::max<hssize_t>(H5Sget_simple_extent_npoints(space.get()), 0)));
  if (H5Dread(dataset.get(), nexus::NumberType<Number>::in_memory(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) <
      0) {
    values.clear();
  }
  return {shape, values};
}

std::string text_in(const fs::path& file, const std::string& path) {
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  return nexus::read_text(handle.get(), path);
}

bool is_there(const fs::path& file, const std::string& path) {
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  return H5Lexists(handle.get(), path.c_str(), H5P_DEFAULT) > 0;
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class XyFile : public test::FolderTest {};
class NxazintFile : public test::FolderTest {};

TEST_F(XyFile, ReadsBackToTheSameNumbersBitByBit) {
  const PatternDescription description = describe(0, 50);
  const Pattern pattern = pattern_of(description, 1.0f);
  write_xy(folder / "out.xy", description, pattern, false);
  std::istringstream lines(text_of(folder / "out.xy"));
  std::size_t bin = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    ASSERT_LT(bin, 50u);
    std::istringstream numbers(line);
    double radial = 0.0, rest = 0.0;
    float intensity = 0.0f, sem = 0.0f, deviation = 0.0f;
    ASSERT_TRUE(numbers >> radial >> intensity >> sem >> deviation) << line;
    EXPECT_FALSE(numbers >> rest) << line;
    // Nine digits: half a unit of the last one is 5e-9 of a number that begins with 1.
    EXPECT_NEAR(radial, description.radial[bin], 5e-9 * description.radial[bin]);
    EXPECT_EQ(intensity, pattern.intensity[bin]);
    EXPECT_EQ(sem, pattern.sem[bin]);
    EXPECT_EQ(deviation, pattern.std[bin]);
    ++bin;
  }
  EXPECT_EQ(bin, 50u);
}

TEST_F(XyFile, HasAColumnForWhatThereIs) {
  const PatternDescription description = describe(0, 2);
  Pattern pattern = pattern_of(description, 1.0f);
  pattern.std.clear();
  write_xy(folder / "out.xy", description, pattern, false);
  EXPECT_NE(text_of(folder / "out.xy").find("2th_deg                I            sigma\n"), std::string::npos)
      << text_of(folder / "out.xy");
  pattern.sem.clear();
  write_xy(folder / "out.xy", description, pattern, true);
  EXPECT_NE(text_of(folder / "out.xy").find("2th_deg                I\n"), std::string::npos);
  EXPECT_TRUE(text_of(folder / "out.xy").ends_with("\n")) << "the last line must end";
}

TEST_F(XyFile, HeaderTellsGeometryAndSettingsAndIsAllComment) {
  const PatternDescription description = describe(0, 3);
  Pattern pattern = pattern_of(description, 1.0f);
  pattern.source = "a\nb.tif";  // a file may be called so
  pattern.normalisation_factor = 2.5;
  write_xy(folder / "out.xy", description, pattern, false);
  const std::string text = text_of(folder / "out.xy");
  for (const char* expected :
       {"# Distance: 0.1\n", "# Mask applied: mask.tif\n", "# Dark current applied: dark1.tif, dark2.tif\n",
        "# Flat field applied: False\n", "# Polarization factor: 0.95\n", "# Normalization factor: 2.5\n",
        "# Solid angle correction: True\n", "# Error model: poisson\n", "# Image: a\n# b.tif\n"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "is not in\n" << text;
  }
  EXPECT_EQ(text.find("written by hand"), std::string::npos);
  std::istringstream lines(text);
  std::size_t data = 0;
  for (std::string line; std::getline(lines, line);) data += !line.starts_with('#');
  EXPECT_EQ(data, 3u);
}

TEST_F(XyFile, IsNotOverwrittenUnlessAskedAndLeavesNothingElse) {
  const PatternDescription description = describe(0, 3);
  const Pattern pattern = pattern_of(description, 1.0f);
  std::ofstream(folder / "out.xy") << "a night of data";
  EXPECT_THROW(write_xy(folder / "out.xy", description, pattern, false), InputError);
  EXPECT_EQ(text_of(folder / "out.xy"), "a night of data");
  EXPECT_THROW(write_xy(folder / "absent/out.xy", description, pattern, false), InputError);
  write_xy(folder / "out.xy", description, pattern, true);
  EXPECT_NE(text_of(folder / "out.xy"), "a night of data");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST_F(XyFile, OfACakeIsRefused) {
  const PatternDescription description = describe(2, 3);
  EXPECT_THROW(write_xy(folder / "out.xy", description, pattern_of(description, 1.0f), false), InternalError);
}

TEST_F(NxazintFile, HoldsPatternsOfSeveralImages) {
  const fs::path file = folder / "out.h5";
  const PatternDescription description = describe(0, 5);
  const std::vector<Pattern> patterns = {pattern_of(description, 1.0f), pattern_of(description, 100.0f)};
  write_nxazint(file, description, patterns, false);
  EXPECT_EQ(text_in(file, "/entry/definition"), "NXazint1d");
  const std::pair<const char*, std::vector<float> Pattern::*> arrays[] = {
      {"I", &Pattern::intensity}, {"I_errors", &Pattern::sem}, {"I_std", &Pattern::std}};
  for (const auto& [name, array] : arrays) {
    const auto [shape, values] = read<float>(file, std::string("/entry/data/") + name);
    EXPECT_EQ(shape, (std::vector<hsize_t>{2, 5})) << name;
    std::vector<float> expected = patterns[0].*array;
    expected.insert(expected.end(), (patterns[1].*array).begin(), (patterns[1].*array).end());
    EXPECT_EQ(values, expected) << name;
  }
  EXPECT_EQ(read<double>(file, "/entry/data/radial_axis").second, description.radial);
  EXPECT_EQ(read<double>(file, "/entry/instrument/monochromator/wavelength").second, std::vector<double>{1.0});
  EXPECT_EQ(read<double>(file, "/entry/instrument/monochromator/energy").second, std::vector<double>{12.4});
  EXPECT_EQ(text_in(file, "/entry/annulus/input/unit"), "2th");
  EXPECT_EQ(text_in(file, "/entry/annulus/input/images"), "image.tif\nimage.tif");
  EXPECT_FALSE(is_there(file, "/entry/monitor"));
  EXPECT_FALSE(is_there(file, "/entry/data/azimuthal_axis"));
}

TEST_F(NxazintFile, OfCakesHasAnAzimuthalAxis) {
  const fs::path file = folder / "out.h5";
  PatternDescription description = describe(3, 4);
  description.wavelength_m.reset();
  std::vector<Pattern> patterns = {pattern_of(description, 1.0f)};
  patterns[0].sem.clear();
  patterns[0].std.clear();
  patterns[0].normalisation_factor = 2.0;
  write_nxazint(file, description, patterns, false);
  EXPECT_EQ(text_in(file, "/entry/definition"), "NXazint2d");
  const auto [shape, values] = read<float>(file, "/entry/data/I");
  EXPECT_EQ(shape, (std::vector<hsize_t>{1, 3, 4}));
  EXPECT_EQ(values, patterns[0].intensity);
  EXPECT_EQ(read<double>(file, "/entry/data/azimuthal_axis").second, (std::vector<double>{0.0, 90.0, 180.0}));
  EXPECT_EQ(read<double>(file, "/entry/monitor/data").second, std::vector<double>{2.0});
  EXPECT_FALSE(is_there(file, "/entry/data/I_errors"));
  EXPECT_FALSE(is_there(file, "/entry/data/I_std"));
  EXPECT_FALSE(is_there(file, "/entry/instrument/monochromator")) << "there is no wavelength to tell";
}

TEST_F(NxazintFile, IsNotOverwrittenUnlessAskedAndLeavesNothingElse) {
  const fs::path file = folder / "out.h5";
  const PatternDescription description = describe(0, 3);
  const std::vector<Pattern> patterns = {pattern_of(description, 1.0f)};
  std::ofstream(file) << "a night of data";
  EXPECT_THROW(write_nxazint(file, description, patterns, false), InputError);
  EXPECT_EQ(text_of(file), "a night of data");
  EXPECT_THROW(write_nxazint(folder / "absent/out.h5", description, patterns, false), InputError);
  EXPECT_THROW(write_nxazint(folder, description, patterns, true), InputError);
  write_nxazint(file, description, patterns, true);
  EXPECT_EQ(text_in(file, "/entry/definition"), "NXazint1d");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST_F(NxazintFile, LeavesNothingWhenTheDiskIsFull) {
  const PatternDescription description = describe(0, 100'000);
  const std::vector<Pattern> patterns(4, pattern_of(description, 1.0f));
  // A limit on the size of files stands for a full disk. Needed: 4 * 3 * 0.4 MB.
  rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit limit = old;
  limit.rlim_cur = 1 << 20;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_THROW(write_nxazint(folder / "out.h5", description, patterns, false), IoError);
  EXPECT_THROW(write_xy(folder / "out.xy", description, patterns[0], false), IoError);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(files_in(folder), 0u);
}

TEST_F(NxazintFile, OfPatternsThatDifferIsRefused) {
  const PatternDescription description = describe(0, 3);
  std::vector<Pattern> patterns(2, pattern_of(description, 1.0f));
  patterns[1].sem.clear();
  EXPECT_THROW(write_nxazint(folder / "out.h5", description, patterns, false), InternalError);
  patterns[1] = pattern_of(describe(0, 4), 1.0f);
  EXPECT_THROW(write_nxazint(folder / "out.h5", description, patterns, false), InternalError);
  EXPECT_EQ(files_in(folder), 0u);
}

}  // namespace
}  // namespace annulus::mapping
