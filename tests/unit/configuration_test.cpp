// pyFAI's JSON as options: every version that pyFAI writes is read as pyFAI reads it, and no key is passed over.
#include "mpi_driver/configuration.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"
#include "mpi_driver/map_options.hpp"
#include "pyfai_configurations.hpp"

namespace annulus::driver {
namespace {
using Json = nlohmann::json;
using pyfai_configurations::Configuration;

MapOptions read(const std::string& text) {
  MapOptions options;
  apply_configuration_text(text, "settings.json", options);
  return options;
}

MapOptions read(const Json& json) { return read(json.dump()); }

/// The message of the InputError that reading `json` throws; "" when it throws none.
std::string refusal(const Json& json) {
  try {
    static_cast<void>(read(json));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

bool warns(const MapOptions& options, const std::string& part) {
  for (const std::string& warning : options.warnings) {
    if (holds(warning, part)) return true;
  }
  return false;
}

/// A number that pyFAI may not have set.
void expect_same(const std::optional<double>& ours, double theirs, const char* what) {
  EXPECT_EQ(ours.has_value(), !std::isnan(theirs)) << what;
  EXPECT_DOUBLE_EQ(ours.value_or(0.0), std::isnan(theirs) ? 0.0 : theirs) << what;
}

void expect_same(const std::optional<std::pair<double, double>>& ours, const std::array<double, 2>& theirs,
                 const char* what) {
  expect_same(ours ? std::optional(ours->first) : std::nullopt, theirs[0], what);
  expect_same(ours ? std::optional(ours->second) : std::nullopt, theirs[1], what);
}

Json version_5() {
  return {
      {"application", "worker"},
      {"version", 5},
      {"poni",
       {{"poni_version", 2.1}, {"dist", 0.1}, {"detector", "Pilatus1M"}, {"detector_config", {{"orientation", 3}}}}},
      {"nbpt_rad", 100}};
}

Json with(const char* key, const Json& value) {
  Json json = version_5();
  json[key] = value;
  return json;
}

TEST(Configuration, EveryVersionIsReadAsPyfaiReadsIt) {
  std::size_t compared = 0;
  for (const Configuration& expected : pyfai_configurations::configurations) {
    SCOPED_TRACE(expected.name);
    const MapOptions options = read(std::string(expected.json));
    const IntegrationOptions& integration = options.integration;
    const integrator::IntegrationSettings& settings = integration.settings;
    EXPECT_EQ(settings.bins, expected.radial_bins);
    EXPECT_EQ(settings.azimuthal_bins, expected.azimuthal_bins);
    EXPECT_EQ(settings.unit, expected.unit);
    EXPECT_EQ(name_of(settings.splitting), expected.splitting);
    EXPECT_EQ(name_of(settings.error_model), expected.error_model);
    expect_same(settings.radial_range, expected.radial_range, "radial range");
    expect_same(settings.azimuth_range, expected.azimuth_range_deg, "azimuth range");
    EXPECT_EQ(settings.azimuth_cut == kernels::AzimuthCut::at_zero, expected.cut_at_zero);
    EXPECT_EQ(settings.corrections.solid_angle, expected.solid_angle);
    expect_same(settings.corrections.polarisation_factor, expected.polarisation_factor, "polarisation");
    EXPECT_EQ(settings.normalisation_factor, expected.normalisation_factor);
    expect_same(settings.dummy, expected.dummy, "dummy");
    EXPECT_EQ(settings.delta_dummy, settings.dummy ? expected.delta_dummy : 0.0);
    EXPECT_EQ(integration.dark, expected.dark);
    EXPECT_EQ(integration.flat, expected.flat);
    EXPECT_EQ(integration.masks, expected.masks);

    EXPECT_TRUE(integration.poni.empty());
    const integrator::Geometry geometry = integrator::parse_poni(integration.geometry_json, "geometry");
    EXPECT_EQ(geometry.detector.name, expected.detector);
    EXPECT_DOUBLE_EQ(geometry.detector.pixel1_m, expected.pixel1_m);
    EXPECT_DOUBLE_EQ(geometry.detector.pixel2_m, expected.pixel2_m);
    EXPECT_DOUBLE_EQ(geometry.distance_m, expected.place[0]);
    EXPECT_DOUBLE_EQ(geometry.poni1_m, expected.place[1]);
    EXPECT_DOUBLE_EQ(geometry.poni2_m, expected.place[2]);
    EXPECT_DOUBLE_EQ(geometry.rot1_rad, expected.place[3]);
    EXPECT_DOUBLE_EQ(geometry.rot2_rad, expected.place[4]);
    EXPECT_DOUBLE_EQ(geometry.rot3_rad, expected.place[5]);
    expect_same(geometry.wavelength_m, expected.place[6], "wavelength");

    EXPECT_EQ(options.slow, expected.slow);
    EXPECT_EQ(options.fast, expected.fast);
    EXPECT_EQ(options.offset, expected.offset);
    EXPECT_EQ(options.zigzag, expected.zigzag);
    EXPECT_EQ(options.output, expected.output);
    EXPECT_EQ(options.slow_range.name, expected.slow_name);
    EXPECT_EQ(options.fast_range.name, expected.fast_name);
    expect_same(options.slow_range.range, expected.slow_range, "slow range");
    expect_same(options.fast_range.range, expected.fast_range, "fast range");
    ASSERT_EQ(options.frames.size(), expected.frames.size());
    for (std::size_t frame = 0; frame < expected.frames.size(); ++frame) {
      EXPECT_EQ(options.frames[frame], expected.frames[frame]);
    }
    ++compared;
  }
  EXPECT_GE(compared, 13U);
}

TEST(Configuration, EveryKeyIsHonouredOrNamed) {
  // Each key of each configuration under another name: no such key may go unnoticed.
  std::size_t renamed = 0;
  for (const Configuration& configuration : pyfai_configurations::configurations) {
    const Json json = Json::parse(configuration.json);
    for (const auto& [key, value] : json.items()) {
      Json changed = json;
      changed.erase(key);
      changed["x_" + key] = value;
      EXPECT_TRUE(holds(refusal(changed), "unknown keys: x_" + key)) << configuration.name << ": " << key;
      ++renamed;
    }
    if (!json.contains("ai")) continue;
    Json changed = json;
    changed["ai"]["sensitivity"] = 1;
    EXPECT_TRUE(holds(refusal(changed), "settings.json: ai: unknown keys: sensitivity")) << configuration.name;
  }
  EXPECT_GT(renamed, 250U);
}

TEST(Configuration, AllProblemsAreToldTogether) {
  Json json = version_5();
  json["nbpt_rad"] = 0;
  json["unit"] = "furlong";
  json["radial_range"] = {5.0, 2.0};
  json["foo"] = 1;
  const std::string message = refusal(json);
  for (const char* part : {"nbpt_rad: found 0", "furlong", "radial_range: found 5 to 2", "unknown keys: foo"}) {
    EXPECT_TRUE(holds(message, part)) << part << " in\n" << message;
  }
}

TEST(Configuration, WrongTypesAndValuesAreRefused) {
  const std::vector<std::pair<const char*, Json>> wrong = {
      {"version", 6},
      {"version", "five"},
      {"nbpt_rad", "many"},
      {"nbpt_azim", -3},
      {"chi_discontinuity_at_0", "yes"},
      {"polarization_description", "horizontal"},
      {"normalization_factor", Json::array()},
      {"val_dummy", "zero"},
      {"dark_current", 7},
      {"error_model", "gauss"},
      {"error_model", 5},
      {"method", {"half", "csr", "cython"}},
      {"method", {"full", "csr"}},
      {"azimuth_range", {30.0, 30.0}},
      {"azimuth_range", {-200.0, 200.0}},
      {"radial_range", {1.0, 2.0, 3.0}},
      {"integrator_class", "GoniometerIntegrator"},
      {"sample_orientation", 9},
      {"integrator_method", "medfilt1d_legacy"},
      {"extra_options", {{"metadata", "x"}}},
      {"shape", {1, 2, 3}},
      {"mask_file", "silx:mask.h5?path=/mask&slice=3"},
      {"unit", {"q_nm^-1", "qoop"}},
      {"unit", {{"name", "qip_nm^-1"}, {"pitch", 0.1}}},
  };
  for (const auto& [key, value] : wrong) EXPECT_NE(refusal(with(key, value)), "") << key << ": " << value.dump();
  EXPECT_EQ(refusal(version_5()), "");
  EXPECT_TRUE(holds(refusal(Json::array({1})), "found no object"));
  EXPECT_THROW(read(std::string("{\"version\": ")), InputError);
}

TEST(Configuration, WhatCannotChangeResultsIsAWarning) {
  EXPECT_TRUE(read(version_5()).warnings.empty());
  EXPECT_TRUE(warns(read(with("opencl_device", {0, 1})), "opencl_device"));
  EXPECT_TRUE(warns(read(with("application", "my-script")), "application"));
  EXPECT_FALSE(warns(read(with("do_2D", true)), ""));
  EXPECT_TRUE(warns(read(with("extra_options", {{"thres", 3.0}})), "thres has no part"));
  EXPECT_TRUE(warns(read(with("delta_dummy", 1.0)), "delta_dummy has no part"));
  EXPECT_TRUE(warns(read(with("radial_range", {1.0, nullptr})), "one end alone"));
}

TEST(Configuration, SigmaClippingTakesThresholdAndCycles) {
  Json json = with("integrator_method", "sigma_clip_ng");
  const auto plain = std::get<kernels::SigmaClip>(read(json).integration.settings.filter);
  EXPECT_EQ(plain.threshold, 5.0);  // pyFAI's defaults
  EXPECT_EQ(plain.cycles, 5U);
  json["extra_options"] = {{"thres", 3.5}, {"max_iter", 7}, {"error_model", "azimuthal"}};
  const integrator::IntegrationSettings settings = read(json).integration.settings;
  const auto clip = std::get<kernels::SigmaClip>(settings.filter);
  EXPECT_EQ(clip.threshold, 3.5);
  EXPECT_EQ(clip.cycles, 7U);
  EXPECT_EQ(settings.error_model, kernels::ErrorModel::azimuthal);
}

TEST(Configuration, ErrorModelOfTheWorkerOutweighsThatOfItsExtraOptions) {
  Json json = with("extra_options", {{"error_model", "azimuthal"}});
  json["error_model"] = "poisson";
  EXPECT_EQ(read(json).integration.settings.error_model, kernels::ErrorModel::poisson);
}

TEST(Configuration, PercentilesBecomeQuantiles) {
  Json json = with("integrator_method", "medfilt1d_ng");
  const auto median = std::get<kernels::QuantileRange>(read(json).integration.settings.filter);
  EXPECT_EQ(median.lower, 0.5);
  EXPECT_EQ(median.upper, 0.5);
  json["extra_options"] = {{"percentile", {75, 25}}};
  const auto range = std::get<kernels::QuantileRange>(read(json).integration.settings.filter);
  EXPECT_EQ(range.lower, 0.25);
  EXPECT_EQ(range.upper, 0.75);
  json["extra_options"] = {{"percentile", {20, 120}}};
  EXPECT_TRUE(holds(refusal(json), "expected two numbers from 0 to 1"));
}

TEST(Configuration, PolarisationOffsetIsInRadians) {
  const MapOptions options = read(with("polarization_description", {0.9, 0.25}));
  EXPECT_EQ(options.integration.settings.corrections.polarisation_factor, 0.9);
  EXPECT_EQ(options.integration.settings.corrections.polarisation_offset_rad, 0.25);
  EXPECT_TRUE(warns(options, "pyFAI's worker leaves it out"));
}

TEST(Configuration, AxesOfTheFiberIntegratorAreTaken) {
  const auto unit = [](const char* name) {
    return Json{{"name", name}, {"incident_angle", 0.01}, {"tilt_angle", -0.2}, {"sample_orientation", 6}};
  };
  Json json = {{"application", "worker"},
               {"version", 5},
               {"integrator_class", "FiberIntegrator"},
               {"poni", "geometry.poni"},
               {"npt_ip", 300},
               {"npt_oop", 200},
               {"unit_ip", unit("qip_A^-1")},
               {"unit_oop", unit("qoop_nm^-1")},
               {"ip_range", {-2.0, 2.5}},
               {"oop_range", {0.0, 3.0}},
               {"method", {"no", "csr", "cython"}}};
  const integrator::SamplePose pose{0.01, -0.2, 6};
  const integrator::IntegrationSettings map = read(json).integration.settings;
  EXPECT_EQ(map.unit, "qip_A^-1");
  EXPECT_EQ(map.bins, 300U);
  EXPECT_EQ(map.radial_range, std::pair(-2.0, 2.5));
  EXPECT_EQ(map.azimuthal_unit, "qoop_nm^-1");
  EXPECT_EQ(map.azimuthal_bins, 200U);
  EXPECT_EQ(map.azimuth_range, std::pair(0.0, 3.0));
  EXPECT_EQ(map.sample, pose);

  json["integration_1d"] = true;
  const integrator::IntegrationSettings vertical = read(json).integration.settings;
  EXPECT_EQ(vertical.unit, "qoop_nm^-1");
  EXPECT_EQ(vertical.bins, 200U);
  EXPECT_EQ(vertical.azimuthal_bins, 0U);
  EXPECT_EQ(vertical.azimuthal_unit, "qip_A^-1");
  EXPECT_EQ(vertical.azimuth_range, std::pair(-2.0, 2.5));
  json["vertical_integration"] = false;
  EXPECT_EQ(read(json).integration.settings.unit, "qip_A^-1");
  EXPECT_EQ(read(json).integration.settings.azimuthal_unit, "qoop_nm^-1");
  // Of the azimuthal integrator they have no meaning.
  json["integrator_class"] = "AzimuthalIntegrator";
  EXPECT_TRUE(holds(refusal(json), "unknown keys: "));
}

TEST(Configuration, TwoUnitsAreThoseOfBothAxes) {
  Json json = with("unit", {"q_A^-1", "chigi_deg"});
  json["nbpt_azim"] = 36;
  json["azimuth_range"] = {-30.0, 40.0};
  json["incident_angle"] = 0.25;
  const integrator::IntegrationSettings settings = read(json).integration.settings;
  EXPECT_EQ(settings.unit, "q_A^-1");
  EXPECT_EQ(settings.azimuthal_unit, "chigi_deg");
  EXPECT_EQ(settings.azimuth_range, std::pair(-30.0, 40.0));
  EXPECT_EQ(settings.sample, (integrator::SamplePose{0.25, 0.0, 1}));
}

TEST(Configuration, MethodStringsMeanWhatTheyMeanToTodaysPyfai) {
  const std::vector<std::pair<const char*, const char*>> meanings = {
      {"csr", "no"},         {"csr_ocl_1,1", "no"}, {"lut", "bbox"},      {"splitbbox", "bbox"},
      {"bbox", "bbox"},      {"full_csr", "full"},  {"splitpixel", "no"}, {"nosplit_csr", "no"},
      {"nosplit_lut", "no"}, {"cython", "no"},      {"numpy", "no"},      {"full_lut_ocl", "full"}};
  for (const auto& [method, splitting] : meanings) {
    Json json = version_5();
    json["version"] = 2;
    json["method"] = method;
    EXPECT_EQ(name_of(read(json).integration.settings.splitting), splitting) << method;
  }
  EXPECT_TRUE(warns(read(with("method", {nullptr, "csr", "cython"})), "names no pixel splitting: no is used"));
  EXPECT_TRUE(warns(read(with("method", "csr")), "names no pixel splitting: no is used"));
}

TEST(Configuration, PseudoSplittingInOneDimensionIsBboxAsInPyfai) {
  Json json = with("method", {"pseudo", "csr", "cython"});
  EXPECT_EQ(read(json).integration.settings.splitting, kernels::Splitting::bbox);
  json["nbpt_azim"] = 36;
  EXPECT_EQ(read(json).integration.settings.splitting, kernels::Splitting::pseudo);
}

TEST(Configuration, SwitchOfSolidAngleCountsThoughNewerPyfaiForgotIt) {
  Json json = version_5();
  json["version"] = 4;
  json["do_solid_angle"] = false;
  const MapOptions options = read(json);
  EXPECT_FALSE(options.integration.settings.corrections.solid_angle);
  EXPECT_TRUE(warns(options, "do_solid_angle"));
}

TEST(Configuration, GeometryFileWithValuesOfItsOwnKeepsBoth) {
  const MapOptions options = read(Json{{"poni", "geometry.poni"}, {"wavelength", 5e-11}, {"nbpt_rad", 10}});
  EXPECT_EQ(options.integration.poni, "geometry.poni");
  EXPECT_EQ(Json::parse(options.integration.geometry_json), (Json{{"wavelength", 5e-11}}));
}

TEST(Configuration, PythonsInfinitiesAreRead) {
  const MapOptions open = read(std::string(
      R"({"version": 5, "radial_range": [-Infinity, Infinity], "azimuth_range": [NaN, 3], "poni": "Infinity.poni"})"));
  EXPECT_FALSE(open.integration.settings.radial_range);
  EXPECT_FALSE(open.integration.settings.azimuth_range);
  EXPECT_EQ(open.integration.poni, "Infinity.poni");
}

TEST(Configuration, MotorsOfTheOlderFormAreNotMixedUp) {
  // pyFAI gives the fast motor the slow one's range here.
  const MapOptions options = read(Json{{"npt_slow", 3}, {"npt_fast", 7}, {"slow_motor_range", {1.0, 2.0}}});
  EXPECT_EQ(options.slow, 3U);
  EXPECT_EQ(options.fast, 7U);
  ASSERT_TRUE(options.slow_range.range);
  EXPECT_EQ(options.slow_range.range->second, 2.0);
  EXPECT_FALSE(options.fast_range.range);
}

TEST(Configuration, InputsMayNameADataset) {
  const auto inputs = [](const char* second) {
    return std::string(R"({"input_data": [["a.h5::/entry/d", null, 3], ["b.h5", ")") + second + R"(", 4]]})";
  };
  const MapOptions options = read(inputs("/entry/d"));
  EXPECT_EQ(options.data, "/entry/d");
  EXPECT_EQ(options.frames, (std::vector<std::filesystem::path>{"a.h5", "b.h5"}));
  EXPECT_EQ(options.expected.frames, 7U);
  EXPECT_TRUE(holds(refusal(Json::parse(inputs("/other"))), "different ones"));
}

TEST(ImageUrl, FormsOfSilxAndFabioNameFileAndDataset) {
  EXPECT_EQ(image_url("mask.edf"), "mask.edf");
  EXPECT_EQ(image_url("m.h5::/entry/mask"), "m.h5::/entry/mask");
  EXPECT_EQ(image_url("silx:m.h5?path=/entry/mask"), "m.h5::/entry/mask");
  EXPECT_EQ(image_url("silx:///data/m.h5::/entry/mask"), "/data/m.h5::/entry/mask");
  EXPECT_EQ(image_url("/data/m.h5?/entry/mask"), "/data/m.h5::/entry/mask");
  EXPECT_EQ(image_url("fabio:/data/m.edf?slice=0"), "/data/m.edf");
  EXPECT_EQ(image_url("file:///data/m.tif"), "/data/m.tif");
  EXPECT_THROW(static_cast<void>(image_url("silx:m.h5?path=/entry/mask&slice=1")), InputError);
  EXPECT_THROW(static_cast<void>(image_url("https://host/m.h5")), InputError);
  EXPECT_THROW(static_cast<void>(image_url("silx:?path=/entry/mask")), InputError);
}

TEST(MapOptions, CommandLineWinsOverTheConfiguration) {
  const std::string file = testing::TempDir() + "annulus_configuration_test.json";
  {
    Json json = with("integrator_method", "sigma_clip_ng");
    json["mask_file"] = "mask.npy";
    json["unit"] = "r_mm";
    json["azimuth_range"] = {10.0, 20.0};
    std::FILE* stream = std::fopen(file.c_str(), "w");
    ASSERT_NE(stream, nullptr);
    std::fputs(Json{{"ai", json},
                    {"nbpt_slow", 2},
                    {"nbpt_fast", 3},
                    {"output_file", "a.h5"},
                    {"input_data", {{"a.tif", nullptr, nullptr}}}}
                   .dump()
                   .c_str(),
               stream);
    std::fclose(stream);
  }
  std::optional<std::string> help;
  Problems problems;
  const MapOptions options =
      parse_map_options(mapping::ScanKind::map,
                        {"--config", file, "--unit", "q_nm^-1", "-t", "5", "-m", "other.npy", "--median", "-p",
                         "own.poni", "--azimuth-range", "170", "-170", "b.tif", "c.tif"},
                        help, problems);
  EXPECT_TRUE(problems.messages().empty()) << (problems.any() ? problems.messages().front() : "");
  EXPECT_EQ(options.integration.settings.unit, "q_nm^-1");
  EXPECT_EQ(options.integration.settings.bins, 100U);
  EXPECT_EQ(options.slow, 2U);
  EXPECT_EQ(options.fast, 5U);
  EXPECT_EQ(options.output, "a.h5");
  EXPECT_EQ(options.integration.masks, std::vector<std::string>{"other.npy"});
  EXPECT_TRUE(std::holds_alternative<kernels::QuantileRange>(options.integration.settings.filter));
  EXPECT_EQ(options.integration.poni, "own.poni");
  EXPECT_TRUE(options.integration.geometry_json.empty());
  EXPECT_EQ(options.integration.settings.azimuth_range, std::pair(170.0, -170.0));
  EXPECT_EQ(options.frames, (std::vector<std::filesystem::path>{"b.tif", "c.tif"}));
  std::remove(file.c_str());
}

/// The problems that these options have, beside complete ones.
std::string problems_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"-p", "g.poni", "-r", "1", "-t", "1", "-o", "o.h5", "f.tif"});
  std::optional<std::string> help;
  Problems problems;
  problems.collect([&] { static_cast<void>(parse_map_options(mapping::ScanKind::map, arguments, help, problems)); });
  std::string all;
  for (const std::string& message : problems.messages()) all += message + "\n";
  return all;
}

TEST(MapOptions, BadCombinationsAreTold) {
  EXPECT_EQ(problems_of({}), "");
  const std::vector<std::vector<std::string>> bad = {
      {"--error-model", "variance"},
      {"--variance", "v.npy", "--error-model", "poisson"},
      {"--sigma-clip", "--median"},
      {"--sigma-clip", "-1"},
      {"--sigma-clip-cycles", "3"},
      {"--sigma-clip", "--error-model", "no"},
      {"--quantiles", "0.7", "0.2"},
      {"--quantiles", "0", "1.5"},
      {"--azimuth-range", "10", "10"},
      {"--azimuth-range", "-300", "300"},
      {"--radial-range", "3", "1"},
      {"--npt-azim", "0"},
      {"--split", "half"},
      {"--convention", "other"},
      {"--polarization", "1.5"},
      {"--polarization-offset", "10"},
      {"--absorption", "--transmission", "0.5"},
      {"--transmission", "1.5"},
      {"--normalization", "0"},
      {"--std"},
      {"--dark-filter", "median"},
      {"-f", "a.npy", "--flat-filter", "mode"},
      {"-m", "m.npy", "--no-detector-mask"},
      {"--delta-dummy", "1"},
      {"--dummy", "0", "--delta-dummy", "-1"},
      {"--unit", "furlong"},
      {"--npt", "10000000", "--npt-azim", "1000000"},
  };
  for (const std::vector<std::string>& arguments : bad) {
    std::string line;
    for (const std::string& argument : arguments) line += argument + " ";
    EXPECT_NE(problems_of(arguments), "") << line;
  }
}

TEST(MapOptions, GoodCombinationsAreTaken) {
  const std::vector<std::vector<std::string>> good = {
      {"--sigma-clip"},
      {"--sigma-clip", "3.5", "--sigma-clip-cycles", "2"},
      {"--quantiles", "0.2", "0.8"},
      {"--median", "--npt-azim", "36"},
      {"--variance", "v.npy"},
      {"--error-model", "hybrid", "--std"},
      {"--chi-disc-at-zero", "--allow-negative", "--split", "full"},
      {"-d", "a.npy,b.npy", "--dark-filter", "clipped"},
      {"-m", "a.npy", "-m", "b.npy", "--pixel-mask"},
  };
  for (const std::vector<std::string>& arguments : good) {
    EXPECT_EQ(problems_of(arguments), "") << arguments.front();
  }
}

TEST(MapOptions, ThresholdIsOptionalAndFramesBehindItStayFrames) {
  std::optional<std::string> help;
  Problems problems;
  const MapOptions options =
      parse_map_options(mapping::ScanKind::map,
                        {"-p", "g.poni", "-r", "1", "-t", "1", "-o", "o.h5", "--sigma-clip", "f.tif"}, help, problems);
  EXPECT_FALSE(problems.any());
  EXPECT_EQ(options.frames, std::vector<std::filesystem::path>{"f.tif"});
  EXPECT_EQ(std::get<kernels::SigmaClip>(options.integration.settings.filter).threshold, 5.0);
  // pyFAI's fall-back where clipping is asked without an error model.
  EXPECT_EQ(options.integration.settings.error_model, kernels::ErrorModel::poisson);
}

}  // namespace
}  // namespace annulus::driver
