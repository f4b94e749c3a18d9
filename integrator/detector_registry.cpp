#include "integrator/detector_registry.hpp"

#include <algorithm>
#include <array>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

constexpr std::array<KnownSensor, 1> si_450 = {{{"Si", 450e-6}}};
constexpr std::array<KnownSensor, 1> si_500 = {{{"Si", 500e-6}}};
constexpr std::array<KnownSensor, 2> si_320_450 = {{{"Si", 320e-6}, {"Si", 450e-6}}};
constexpr std::array<KnownSensor, 3> si_320_450_1000 = {{{"Si", 320e-6}, {"Si", 450e-6}, {"Si", 1000e-6}}};
constexpr std::array<KnownSensor, 1> cdte_750 = {{{"CdTe", 750e-6}}};
constexpr std::array<KnownSensor, 1> cdte_1000 = {{{"CdTe", 1000e-6}}};
constexpr std::array<KnownSensor, 4> lambda_sensors = {
    {{"Si", 300e-6}, {"Si", 500e-6}, {"GaAs", 500e-6}, {"CdTe", 1000e-6}}};
constexpr std::array<KnownSensor, 1> gadox_40 = {{{"Gd2O2S", 40e-6}}};
constexpr std::array<KnownSensor, 1> image_plate_124 = {{{"BaFBr0.85I0.15", 124e-6}}};
constexpr std::array<KnownSensor, 1> selenium_300 = {{{"Se", 300e-6}}};

constexpr std::array<BinnedPixel, 4> rayonix_32 = {{{1, 32e-6}, {2, 64e-6}, {4, 128e-6}, {8, 256e-6}}};
// Threefold binning of the SX165 leaves 1364 x 1364 pixels, not 1365.
constexpr std::array<BinnedPixel, 5> rayonix_39_5 = {
    {{1, 39.5e-6}, {2, 79e-6}, {3, 118.616e-6}, {4, 158e-6}, {8, 316e-6}}};
constexpr std::array<BinnedPixel, 5> rayonix_48 = {{{1, 48e-6}, {2, 96e-6}, {3, 144e-6}, {4, 192e-6}, {8, 384e-6}}};
constexpr std::array<BinnedPixel, 8> rayonix_44 = {{{1, 44.2708e-6},
                                                    {2, 88.5417e-6},
                                                    {3, 132.8125e-6},
                                                    {4, 177.0833e-6},
                                                    {5, 221.3542e-6},
                                                    {6, 265.625e-6},
                                                    {8, 354.1667e-6},
                                                    {10, 442.7083e-6}}};
constexpr std::array<BinnedPixel, 5> rayonix_36 = {
    {{1, 36.621e-6}, {2, 73.242e-6}, {3, 109.971e-6}, {4, 146.484e-6}, {8, 292.969e-6}}};
constexpr std::array<BinnedPixel, 8> rayonix_39 = {{{1, 39.0625e-6},
                                                    {2, 78.125e-6},
                                                    {3, 117.1875e-6},
                                                    {4, 156.25e-6},
                                                    {5, 195.3125e-6},
                                                    {6, 234.375e-6},
                                                    {8, 312.5e-6},
                                                    {10, 390.625e-6}}};
constexpr std::array<BinnedPixel, 8> rayonix_15 = {{{1, 15.625e-6},
                                                    {2, 31.25e-6},
                                                    {3, 46.875e-6},
                                                    {4, 62.5e-6},
                                                    {5, 78.125e-6},
                                                    {6, 93.75e-6},
                                                    {8, 125e-6},
                                                    {10, 156.25e-6}}};
constexpr std::array<BinnedPixel, 5> rayonix_39_7 = {
    {{1, 39.673e-6}, {2, 79.346e-6}, {3, 119.135e-6}, {4, 158.691e-6}, {8, 317.383e-6}}};

/// Photon counters of Dectris: values of bad pixels are negative, -1 or -2.
constexpr Family dectris(std::string_view name, double pixel_m, std::uint32_t module_rows, std::uint32_t module_columns,
                         std::uint32_t gap_rows, std::uint32_t gap_columns, std::span<const KnownSensor> sensors,
                         std::uint32_t seam_before = 0, std::uint32_t seam_after = 0) {
  return {.name = name,
          .pixel1_m = pixel_m,
          .pixel2_m = pixel_m,
          .module_rows = module_rows,
          .module_columns = module_columns,
          .gap_rows = gap_rows,
          .gap_columns = gap_columns,
          .seam_before = seam_before,
          .seam_after = seam_after,
          .mask = MaskShape::gaps,
          .photon_counting = true,
          .dummy = -2.0,
          .delta_dummy = 1.5,
          .sensors = sensors};
}

/// One sensor, or chips so close that nothing is between them.
constexpr Family plain(std::string_view name, double pixel1_m, double pixel2_m,
                       std::span<const KnownSensor> sensors = {}) {
  return {.name = name, .pixel1_m = pixel1_m, .pixel2_m = pixel2_m, .sensors = sensors};
}

constexpr Family rayonix(std::string_view name, std::span<const BinnedPixel> pixels, MaskShape mask = MaskShape::none) {
  return {.name = name,
          .pixel1_m = pixels[0].pixel_m,
          .pixel2_m = pixels[0].pixel_m,
          .mask = mask,
          .readout = Readout::listed,
          .binned_pixels = pixels,
          .sensors = gadox_40};
}

constexpr Family imxpad(std::string_view name, std::uint32_t module_rows, std::uint32_t module_columns, Layout layout) {
  return {.name = name,
          .pixel1_m = 130e-6,
          .pixel2_m = 130e-6,
          .module_rows = module_rows,
          .module_columns = module_columns,
          .mask = MaskShape::borders,
          .layout = layout,
          .edge_width = 2.5};
}

constexpr Family jungfrau(std::string_view name, std::uint32_t module_rows, std::uint32_t module_columns,
                          MaskShape mask, Layout layout) {
  return {.name = name,
          .pixel1_m = 75e-6,
          .pixel2_m = 75e-6,
          .module_rows = module_rows,
          .module_columns = module_columns,
          .mask = mask,
          .layout = layout,
          .edge_width = 2.0,
          .sensors = si_320_450};
}

constexpr auto families = std::to_array<Family>({
    dectris("Eiger", 75e-6, 514, 1030, 37, 10, si_450),
    dectris("Eiger2", 75e-6, 512, 1028, 38, 12, si_450),
    dectris("Eiger2CdTe", 75e-6, 512, 1028, 38, 12, cdte_750, 1, 1),
    dectris("Pilatus", 172e-6, 195, 487, 17, 7, si_320_450_1000),
    dectris("PilatusCdTe", 172e-6, 195, 487, 17, 7, cdte_1000, 1, 2),
    dectris("Pilatus4", 150e-6, 255, 513, 20, 7, si_450),
    dectris("Pilatus4_CdTe", 150e-6, 255, 513, 20, 7, cdte_1000, 0, 1),
    plain("Mythen", 8e-3, 50e-6, si_320_450_1000),
    plain("ADSC", 51e-6, 51e-6),
    plain("ADSC HF", 150e-6, 150e-6),
    {.name = "FReLoN", .pixel1_m = 50e-6, .pixel2_m = 50e-6, .layout = Layout::spline, .readout = Readout::fixed},
    {.name = "Maxipix",
     .pixel1_m = 55e-6,
     .pixel2_m = 55e-6,
     .module_rows = 256,
     .module_columns = 256,
     .gap_rows = 4,
     .gap_columns = 4,
     .mask = MaskShape::gaps,
     .sensors = si_500},
    {.name = "Lambda",
     .pixel1_m = 55e-6,
     .pixel2_m = 55e-6,
     .module_rows = 256,
     .module_columns = 256,
     .gap_rows = 4,
     .gap_columns = 4,
     .mask = MaskShape::gaps,
     .dummy = 0.0,
     .sensors = lambda_sensors},
    // Its modules stand at other places in every instrument: no mask fits all.
    {.name = "Lambda9M",
     .pixel1_m = 55e-6,
     .pixel2_m = 55e-6,
     .module_rows = 256,
     .module_columns = 256,
     .dummy = 0.0,
     .sensors = lambda_sensors},
    imxpad("ImXPad", 120, 80, Layout::wide_edges),
    imxpad("ImXPadV", 80, 120, Layout::wide_edges),
    imxpad("Xpad_flat", 120, 80, Layout::xpad_flat),
    imxpad("Cirpad", 80, 120, Layout::cirpad),
    {.name = "Aarhus",
     .pixel1_m = 24.893e-6,
     .pixel2_m = 24.893e-6,
     .layout = Layout::cylinder,
     .readout = Readout::cylinder,
     .radius_m = 0.29989},
    {.name = "Rapid",
     .pixel1_m = 0.1e-3,
     .pixel2_m = 0.1e-3,
     .layout = Layout::cylinder,
     .readout = Readout::cylinder,
     .radius_m = 0.12726},
    plain("Fairchild", 15e-6, 15e-6),
    plain("Titan", 60e-6, 60e-6),
    plain("Dexela", 75e-6, 75e-6),
    plain("Basler", 3.75e-6, 3.75e-6),
    plain("Perkin", 100e-6, 100e-6),
    plain("Pixium", 154e-6, 154e-6),
    plain("Apex2", 120e-6, 120e-6),
    plain("RaspberryPi5M", 1.4e-6, 1.4e-6),
    plain("RaspberryPi8M", 1.12e-6, 1.12e-6),
    plain("RaspberryPi12M", 1.55e-6, 1.55e-6),
    jungfrau("Jungfrau", 256, 256, MaskShape::none, Layout::wide_edges),
    {.name = "Jungfrau assembled",
     .pixel1_m = 75e-6,
     .pixel2_m = 75e-6,
     .module_rows = 514,
     .module_columns = 1030,
     .gap_rows = 36,
     .gap_columns = 8,
     .mask = MaskShape::gaps,
     .dummy = -2.0,
     .delta_dummy = 1.5,
     .sensors = si_320_450},
    // An assembled image as well: the wide pixels are in the places that its chips leave between them.
    jungfrau("Jungfrau8M", 256, 256, MaskShape::outside_chips, Layout::grid),
    jungfrau("Jungfrau_16M_cor", 514, 1030, MaskShape::chip_seams, Layout::wide_edges),
    rayonix("Rayonix133", rayonix_32, MaskShape::circle),
    rayonix("RayonixSx165", rayonix_39_5, MaskShape::circle),
    rayonix("RayonixSx200", rayonix_48),
    rayonix("Rayonix 170", rayonix_44),
    rayonix("RayonixMx225", rayonix_36),
    rayonix("RayonixMx225hs", rayonix_39),
    rayonix("RayonixSx30hs", rayonix_15),
    rayonix("RayonixMx325", rayonix_39_7),
    {.name = "Mar345",
     .pixel1_m = 100e-6,
     .pixel2_m = 100e-6,
     .mask = MaskShape::circle,
     .readout = Readout::mar345,
     .sensors = image_plate_124},
    plain("Mar555", 139e-6, 139e-6, selenium_300),
});

constexpr auto model_table = std::to_array<Model>({
    {"Eiger", "Eiger", 0, 0},
    {"Eiger500k", "Eiger", 514, 1030},
    {"Eiger1M", "Eiger", 1065, 1030},
    {"Eiger4M", "Eiger", 2167, 2070},
    {"Eiger9M", "Eiger", 3269, 3110},
    {"Eiger16M", "Eiger", 4371, 4150},
    {"Eiger2", "Eiger2", 0, 0},
    {"Eiger2_250k", "Eiger2", 512, 512},
    {"Eiger2_500k", "Eiger2", 512, 1028},
    {"Eiger2_1M", "Eiger2", 1062, 1028},
    {"Eiger2_1MW", "Eiger2", 512, 2068},
    {"Eiger2_2MW", "Eiger2", 512, 4148},
    {"Eiger2_4M", "Eiger2", 2162, 2068},
    {"Eiger2_9M", "Eiger2", 3262, 3108},
    {"Eiger2_16M", "Eiger2", 4362, 4148},
    {"Eiger2CdTe", "Eiger2CdTe", 0, 0},
    {"Eiger2CdTe_500k", "Eiger2CdTe", 512, 1028},
    {"Eiger2CdTe_1M", "Eiger2CdTe", 1062, 1028},
    {"Eiger2CdTe_1MW", "Eiger2CdTe", 512, 2068},
    {"Eiger2CdTe_2MW", "Eiger2CdTe", 512, 4148},
    {"Eiger2CdTe_4M", "Eiger2CdTe", 2162, 2068},
    {"Eiger2CdTe_9M", "Eiger2CdTe", 3262, 3108},
    {"Eiger2CdTe_16M", "Eiger2CdTe", 4362, 4148},
    {"Pilatus", "Pilatus", 0, 0},
    {"Pilatus100k", "Pilatus", 195, 487},
    {"Pilatus200k", "Pilatus", 407, 487},
    {"Pilatus300k", "Pilatus", 619, 487},
    {"Pilatus300kw", "Pilatus", 195, 1475},
    {"Pilatus900k", "Pilatus", 619, 1475},
    {"Pilatus1M", "Pilatus", 1043, 981},
    {"Pilatus2M", "Pilatus", 1679, 1475},
    {"Pilatus6M", "Pilatus", 2527, 2463},
    {"PilatusCdTe", "PilatusCdTe", 0, 0},
    {"PilatusCdTe300k", "PilatusCdTe", 619, 487},
    {"PilatusCdTe300kw", "PilatusCdTe", 195, 1475},
    {"PilatusCdTe900kw", "PilatusCdTe", 195, 4439},
    {"PilatusCdTe1M", "PilatusCdTe", 1043, 981},
    {"PilatusCdTe2M", "PilatusCdTe", 1679, 1475},
    {"Pilatus4", "Pilatus4", 0, 0},
    {"Pilatus4_260k", "Pilatus4", 530, 513},
    {"Pilatus4_260kw", "Pilatus4", 255, 1033},
    {"Pilatus4_1M", "Pilatus4", 1080, 1033},
    {"Pilatus4_2M", "Pilatus4", 1630, 1553},
    {"Pilatus4_4M", "Pilatus4", 2180, 2073},
    {"Pilatus4_CdTe", "Pilatus4_CdTe", 0, 0},
    {"Pilatus4_CdTe_260k", "Pilatus4_CdTe", 530, 513},
    {"Pilatus4_CdTe_260kw", "Pilatus4_CdTe", 255, 1033},
    {"Pilatus4_CdTe_1M", "Pilatus4_CdTe", 1080, 1033},
    {"Pilatus4_CdTe_2M", "Pilatus4_CdTe", 1630, 1553},
    {"Pilatus4_CdTe_4M", "Pilatus4_CdTe", 2180, 2073},
    {"Mythen", "Mythen", 1, 1280, "Mythen 1280"},
    {"ADSC_Q4", "ADSC", 2304, 2304, "Quantum 4"},
    {"ADSC_Q210", "ADSC", 4096, 4096, "Quantum 210"},
    {"ADSC_Q270", "ADSC", 4168, 4168, "Quantum 270"},
    {"ADSC_Q315", "ADSC", 6144, 6144, "Quantum 315"},
    {"HF_130K", "ADSC HF", 256, 512},
    {"HF_262k", "ADSC HF", 512, 512},
    {"HF_1M", "ADSC HF", 1024, 1024},
    {"HF_2M", "ADSC HF", 1536, 1536, "HF-2.4M"},
    {"HF_4M", "ADSC HF", 2048, 2048},
    {"HF_9M", "ADSC HF", 3072, 3072, "HF-9.4M"},
    {"FReLoN", "FReLoN", 2048, 2048},
    {"Maxipix", "Maxipix", 256, 256, "Maxipix 1x1"},
    {"Maxipix2x2", "Maxipix", 516, 516},
    {"Maxipix5x1", "Maxipix", 256, 1296},
    {"Lambda60k", "Lambda", 256, 256},
    {"Lambda250k", "Lambda", 516, 516},
    {"Lambda750k", "Lambda", 516, 1556},
    {"Lambda2M", "Lambda", 1556, 1556},
    {"Lambda7M5", "Lambda", 2596, 2596, "Lambda 7.5M"},
    {"Lambda9M", "Lambda9M", 3868, 3227},
    {"Lambda10M", "Lambda", 2596, 4676},
    {"ImXPadS10", "ImXPad", 120, 80},
    {"ImXPadS70", "ImXPad", 120, 560},
    {"ImXPadS70V", "ImXPadV", 560, 120},
    {"ImXPadS140", "ImXPad", 240, 560},
    {"Xpad_flat", "Xpad_flat", 960, 560, "Xpad S540 flat|d5"},
    {"Cirpad", "Cirpad", 11200, 120, "XCirpad"},
    {"Aarhus", "Aarhus", 1000, 16000},
    {"Rapid", "Rapid", 2560, 4700, "RapidII"},
    {"Fairchild", "Fairchild", 4096, 4096, "Condor|Fairchild Condor 486:90"},
    {"Titan", "Titan", 2048, 2048, "Titan 2k x 2k|OXD Titan|Agilent Titan"},
    {"Dexela2923", "Dexela", 3888, 3072},
    {"Basler", "Basler", 966, 1296, "aca1300"},
    {"Perkin", "Perkin", 4096, 4096, "Perkin detector|Perkin Elmer", 2},
    {"Pixium", "Pixium", 1910, 2480, "Pixium 4700|Pixium 4700 detector|Thales Electronics", 2},
    {"Apex2", "Apex2", 1024, 1024, "ApexII|Bruker"},
    {"RaspberryPi5M", "RaspberryPi5M", 1944, 2592, "Picam v1"},
    {"RaspberryPi8M", "RaspberryPi8M", 2464, 3280, "Picam v2"},
    {"RaspberryPi12M", "RaspberryPi12M", 3040, 4056, "Picam HQ"},
    {"Jungfrau", "Jungfrau", 512, 1024, "Jungfrau 500k"},
    {"Jungfrau1M", "Jungfrau assembled", 1064, 1030},
    {"Jungfrau4M", "Jungfrau assembled", 2164, 2068},
    {"Jungfrau8M", "Jungfrau8M", 3333, 3212},
    {"Jungfrau_16M_cor", "Jungfrau_16M_cor", 16448, 1030},
    {"Rayonix133", "Rayonix133", 4096, 4096, "MAR 133", 2},
    {"RayonixSx165", "RayonixSx165", 4096, 4096, "MAR 165"},
    {"RayonixSx200", "RayonixSx200", 4096, 4096},
    {"RayonixLx170", "Rayonix 170", 1920, 3840, "Rayonix LX170-HS"},
    {"RayonixMx170", "Rayonix 170", 3840, 3840, "Rayonix MX170-HS"},
    {"RayonixLx255", "Rayonix 170", 1920, 5760, "Rayonix LX255-HS|RayonixLX225HS"},
    {"RayonixMx225", "RayonixMx225", 6144, 6144, "MAR 225", 2},
    {"RayonixMx225hs", "RayonixMx225hs", 5760, 5760, "", 2},
    {"RayonixMx300", "RayonixMx225", 8192, 8192, "MAR 300", 2},
    {"RayonixMx300hs", "RayonixMx225hs", 7680, 7680, "", 2},
    {"RayonixMx325", "RayonixMx325", 8192, 8192, "", 2},
    {"RayonixMx340hs", "Rayonix 170", 7680, 7680, "", 2},
    {"RayonixMx425hs", "Rayonix 170", 9600, 9600},
    {"RayonixSx30hs", "RayonixSx30hs", 1920, 1920},
    {"RayonixSx85hs", "Rayonix 170", 1920, 1920},
    {"Mar345", "Mar345", 3450, 3450, "Mar3450"},
    {"Mar555", "Mar555", 3072, 2560},
});

constexpr auto chips = std::to_array<ChipPlace>(
    {{1, 607},     {1, 866},     {1, 1124},    {1, 1382},    {69, 1646},   {69, 1905},   {69, 2163},   {69, 2421},
     {259, 607},   {259, 866},   {259, 1124},  {259, 1382},  {328, 1646},  {328, 1905},  {328, 2163},  {328, 2421},
     {550, 607},   {550, 866},   {550, 1124},  {550, 1382},  {619, 1646},  {619, 1905},  {619, 2163},  {619, 2421},
     {667, 2698},  {667, 2957},  {809, 607},   {809, 866},   {809, 1124},  {809, 1382},  {597, 69},    {597, 328},
     {856, 69},    {856, 328},   {878, 1646},  {878, 1905},  {878, 2163},  {878, 2421},  {926, 2698},  {926, 2957},
     {1185, 2698}, {1185, 2957}, {1100, 607},  {1100, 866},  {1100, 1124}, {1100, 1382}, {1114, 69},   {1114, 328},
     {1169, 1646}, {1169, 1905}, {1169, 2163}, {1169, 2421}, {1359, 607},  {1359, 866},  {1359, 1124}, {1359, 1382},
     {1372, 69},   {1372, 328},  {1428, 1646}, {1428, 1905}, {1428, 2163}, {1428, 2421}, {1442, 2698}, {1442, 2957},
     {1636, 1},    {1636, 259},  {1650, 538},  {1650, 797},  {1650, 1055}, {1650, 1313}, {1706, 2629}, {1706, 2888},
     {1719, 1577}, {1719, 1836}, {1719, 2094}, {1719, 2352}, {1895, 1},    {1895, 259},  {1909, 538},  {1909, 797},
     {1909, 1055}, {1909, 1313}, {1965, 2629}, {1965, 2888}, {1978, 1577}, {1978, 1836}, {1978, 2094}, {1978, 2352},
     {2153, 1},    {2153, 259},  {2200, 538},  {2200, 797},  {2200, 1055}, {2200, 1313}, {2223, 2629}, {2223, 2888},
     {2269, 1577}, {2269, 1836}, {2269, 2094}, {2269, 2352}, {2411, 1},    {2411, 259},  {2459, 538},  {2459, 797},
     {2459, 1055}, {2459, 1313}, {2481, 2629}, {2481, 2888}, {2528, 1577}, {2528, 1836}, {2528, 2094}, {2528, 2352},
     {2750, 538},  {2750, 797},  {2750, 1055}, {2750, 1313}, {2819, 1577}, {2819, 1836}, {2819, 2094}, {2819, 2352},
     {3009, 538},  {3009, 797},  {3009, 1055}, {3009, 1313}, {3078, 1577}, {3078, 1836}, {3078, 2094}, {3078, 2352}});

constexpr auto mar345_table = std::to_array<Mar345Size>({{3450, 100e-6},
                                                         {3000, 100e-6},
                                                         {2400, 100e-6},
                                                         {2300, 150e-6},
                                                         {2000, 150e-6},
                                                         {1800, 100e-6},
                                                         {1600, 150e-6},
                                                         {1200, 150e-6}});

/// Calls `use` for each part of a text separated by '|', until it returns true; tells whether it did.
template <typename Use>
bool any_part(std::string_view text, Use&& use) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('|'), text.size());
    if (use(text.substr(0, end))) return true;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return false;
}

/// Levenshtein's distance: single-letter insertions, deletions and replacements between two words.
std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> costs(to.size() + 1);
  for (std::size_t place = 0; place < costs.size(); ++place) costs[place] = place;
  for (std::size_t row = 1; row <= from.size(); ++row) {
    std::size_t diagonal = std::exchange(costs[0], row);
    for (std::size_t column = 1; column <= to.size(); ++column) {
      const std::size_t replaced = diagonal + (from[row - 1] == to[column - 1] ? 0 : 1);
      diagonal = costs[column];
      costs[column] = std::min({replaced, costs[column] + 1, costs[column - 1] + 1});
    }
  }
  return costs.back();
}

}  // namespace

std::span<const Model> models() { return model_table; }

std::span<const ChipPlace> jungfrau_8m_chips() { return chips; }

std::span<const Mar345Size> mar345_sizes() { return mar345_table; }

const Family& family_of(const Model& model) {
  const auto found = std::ranges::find(families, model.family, &Family::name);
  ANNULUS_EXPECT(found != families.end());
  return *found;
}

const Model* model_named(std::string_view name) {
  const auto found = std::ranges::find(model_table, name, &Model::name);
  return found == model_table.end() ? nullptr : &*found;
}

std::string search_key(std::string_view name) {
  std::string key;
  for (const char letter : name) {
    if (letter == ' ' || letter == '-' || letter == '_') continue;
    key += letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  }
  constexpr std::string_view cdte = "cdte";
  if (const std::size_t place = key.find(cdte); place != std::string::npos) {
    key.erase(place, cdte.size());
    key += cdte;
  }
  return key;
}

const Model* find_model(std::string_view written) {
  const std::string key = search_key(written);
  const auto is_key = [&](std::string_view name) { return search_key(name) == key; };
  const auto found = std::ranges::find_if(
      model_table, [&](const Model& model) { return is_key(model.name) || any_part(model.aliases, is_key); });
  return found == model_table.end() ? nullptr : &*found;
}

bool is_hexagonal(std::string_view written) { return search_key(written).starts_with("pixirad"); }

std::vector<std::string> near_names(std::string_view name) {
  const std::string key = search_key(name);
  // A third of the letters wrong is no longer a slip of the keyboard.
  const std::size_t farthest = std::max<std::size_t>(2, key.size() / 3);
  std::vector<std::pair<std::size_t, std::string>> near;
  const auto look_at = [&](std::string_view known, std::string_view meant) {
    const std::size_t distance = edit_distance(key, search_key(known));
    if (distance <= farthest) near.emplace_back(distance, meant);
    return false;
  };
  look_at("Detector", "Detector");
  for (const Model& model : model_table) {
    look_at(model.name, model.name);
    any_part(model.aliases, [&](std::string_view alias) { return look_at(alias, model.name); });
  }
  std::ranges::sort(near);
  constexpr std::size_t shown_at_most = 5;
  std::vector<std::string> names;
  for (const auto& [distance, known] : near) {
    if (names.size() < shown_at_most && std::ranges::find(names, known) == names.end()) names.push_back(known);
  }
  return names;
}

}  // namespace annulus::integrator
