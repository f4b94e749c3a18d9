#include "mapping/image_metadata.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/errors.hpp"
#include "frame_files.hpp"
#include "integrator/units.hpp"
#include "simulation/files.hpp"

namespace annulus::mapping {
namespace {

class ImageMetadataTest : public test::FolderTest {
 protected:
  /// A file that begins as a TIFF and has a text in its head: the header is looked for, the image is not.
  std::string tiff_with(const std::string& text) {
    const std::string file = (folder / "image.tif").string();
    std::ofstream stream(file, std::ios::binary);
    stream << std::string("II*\0", 4) << std::string(60, '\0') << text << std::string(8192, '\0');
    return file;
  }
};

TEST_F(ImageMetadataTest, HeaderOfDectrisIsRead) {
  const ImageMetadata metadata =
      read_image_metadata(tiff_with("# Pixel_size 172e-6 m x 172e-6 m\r\n# Detector_distance 0.21143 m\r\n"
                                    "# Beam_xy (498.18, 515.77) pixels\r\n# Wavelength 0.4066 A\r\n"));
  EXPECT_DOUBLE_EQ(*metadata.distance_m, 0.21143);
  EXPECT_DOUBLE_EQ(*metadata.beam_column, 498.18);
  EXPECT_DOUBLE_EQ(*metadata.beam_row, 515.77);
  EXPECT_DOUBLE_EQ(*metadata.wavelength_m, 0.4066e-10);
}

TEST_F(ImageMetadataTest, WhatNobodySetIsAbsent) {
  const ImageMetadata metadata =
      read_image_metadata(tiff_with("# Detector_distance 0.0 m\n# Beam_xy (0.00, 0.00) pixels\n# Wavelength nan A\n"));
  EXPECT_FALSE(metadata.distance_m.has_value());
  EXPECT_FALSE(metadata.beam_row.has_value());
  EXPECT_FALSE(metadata.wavelength_m.has_value());
  EXPECT_FALSE(read_image_metadata(tiff_with("")).distance_m.has_value());
  EXPECT_THROW((void)read_image_metadata((folder / "absent.tif").string()), InputError);
}

TEST_F(ImageMetadataTest, GroupsOfNexusAreReadInTheirUnits) {
  const auto file = folder / "master.h5";
  {
    hdf5::File opened = simulation::create_file(file);
    const hdf5::Group entry = simulation::create_group(opened.get(), "entry", "NXentry");
    const hdf5::Group instrument = simulation::create_group(entry.get(), "instrument", "NXinstrument");
    const hdf5::Group detector = simulation::create_group(instrument.get(), "detector", "NXdetector");
    simulation::write_scalar(detector.get(), "distance", 250.0, "mm");
    simulation::write_scalar(detector.get(), "beam_center_x", 1.5, "pixel");
    simulation::write_scalar(detector.get(), "beam_center_y", -2.5, "pixel");
    const hdf5::Group beam = simulation::create_group(instrument.get(), "beam", "NXbeam");
    simulation::write_scalar(beam.get(), "incident_energy", 60000.0, "eV");
    simulation::close_file(std::move(opened), file);
  }
  const ImageMetadata metadata = read_image_metadata(file.string() + "::/entry/data");
  EXPECT_DOUBLE_EQ(*metadata.distance_m, 0.25);
  EXPECT_DOUBLE_EQ(*metadata.beam_column, 1.5);
  EXPECT_DOUBLE_EQ(*metadata.beam_row, -2.5);
  EXPECT_DOUBLE_EQ(*metadata.wavelength_m, integrator::wavelength_m_of_energy_kev(60.0));
}

TEST_F(ImageMetadataTest, UnitsThatNobodyKnowsAreNotGuessed) {
  const auto file = folder / "odd.h5";
  {
    hdf5::File opened = simulation::create_file(file);
    const hdf5::Group detector = simulation::create_group(opened.get(), "detector", "NXdetector");
    simulation::write_scalar(detector.get(), "distance", 250.0, "furlong");
    simulation::close_file(std::move(opened), file);
  }
  EXPECT_FALSE(read_image_metadata(file.string()).distance_m.has_value());
}

}  // namespace
}  // namespace annulus::mapping
