#include "mapping/hdf5_frames.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/errors.hpp"
#include "mapping/hdf5_input.hpp"

namespace annulus::mapping::hdf5 {

namespace {

namespace fs = std::filesystem;

// Virtual datasets of virtual datasets: three deep are seen in practice.
constexpr int max_virtual_depth = 8;
// Beyond, H5Dread finds its way: the list, broadcast to every rank, would be larger than a frame.
constexpr std::size_t max_virtual_pieces = 200'000;
constexpr int max_group_depth = 16;

// ---------------------------------------------------------------------------------------------------- storage

[[nodiscard]] bool reads_as_it_lies(hid_t type, kernels::PixelType pixel) {
  return H5Tequal(type, native_type(pixel)) > 0;
}

[[nodiscard]] bool chunk_is_one_frame(hid_t creation, const DatasetDescription& description) {
  std::array<hsize_t, 3> chunk{};
  const int rank = H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
  if (description.single) return rank == 2 && chunk[0] == description.rows && chunk[1] == description.columns;
  return rank == 3 && chunk[0] == 1 && chunk[1] == description.rows && chunk[2] == description.columns;
}

// ---------------------------------------------------------------------------------------------------- virtual

/// A selection as runs of whole frames, (first, count) each; `whole` is false for any other selection.
struct FrameBlocks {
  bool whole = false;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> blocks;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
};

/// @param all  frames of a selection of everything; such a selection comes out of a file without its extent
[[nodiscard]] FrameBlocks frame_blocks(hid_t space, const DatasetDescription& description, std::uint64_t all) {
  FrameBlocks result;
  if (H5Sget_select_type(space) == H5S_SEL_ALL) {
    return {true, {{0, all}}, description.rows, description.columns};
  }
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank != 2 && rank != 3) return result;
  const std::size_t frame_axis = static_cast<std::size_t>(rank) - 2;  // Axis of the rows.
  std::array<hsize_t, 3> start{};
  std::array<hsize_t, 3> stride{1, 1, 1};
  std::array<hsize_t, 3> count{1, 1, 1};
  std::array<hsize_t, 3> block{1, 1, 1};
  if (H5Sget_select_type(space) != H5S_SEL_HYPERSLABS || H5Sis_regular_hyperslab(space) <= 0) return result;
  if (H5Sget_regular_hyperslab(space, start.data(), stride.data(), count.data(), block.data()) < 0) return result;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(rank); ++axis) {
    if (count[axis] == H5S_UNLIMITED || block[axis] == H5S_UNLIMITED) return result;
    if (stride[axis] == block[axis]) {  // Blocks that touch are one.
      block[axis] *= count[axis];
      count[axis] = 1;
    }
  }
  for (std::size_t axis = frame_axis; axis < static_cast<std::size_t>(rank); ++axis) {
    if (start[axis] != 0 || count[axis] != 1) return result;
  }
  result.rows = block[frame_axis];
  result.columns = block[frame_axis + 1];
  if (rank == 2) {
    result.blocks.emplace_back(0, 1);
  } else {
    if (count[0] > max_virtual_pieces) return result;
    for (hsize_t index = 0; index < count[0]; ++index) {
      result.blocks.emplace_back(start[0] + index * stride[0], block[0]);
    }
  }
  result.whole = true;
  return result;
}

/// Pairs the blocks of target and source, cutting where either ends. False when they hold different numbers of frames.
[[nodiscard]] bool append_pieces(std::vector<VirtualPiece>& pieces, const FrameBlocks& target,
                                 const FrameBlocks& source, const VirtualPiece& origin) {
  std::size_t t = 0;
  std::size_t s = 0;
  std::uint64_t target_done = 0;
  std::uint64_t source_done = 0;
  while (t < target.blocks.size() && s < source.blocks.size()) {
    const auto [target_first, target_count] = target.blocks[t];
    const auto [source_first, source_count] = source.blocks[s];
    VirtualPiece piece = origin;
    piece.first = target_first + target_done;
    piece.source_first = source_first + source_done;
    piece.frames = std::min(target_count - target_done, source_count - source_done);
    target_done += piece.frames;
    source_done += piece.frames;
    if (target_done == target_count) ++t, target_done = 0;
    if (source_done == source_count) ++s, source_done = 0;
    if (piece.frames > 0) pieces.push_back(std::move(piece));
  }
  return t == target.blocks.size() && s == source.blocks.size();
}

/// One mapping of a virtual dataset.
struct Mapping {
  fs::path file;
  std::string dataset;
  bool pattern = false;   ///< Unlimited, with "%b" in a name for the number of the block: a row of sources.
  std::uint64_t low = 0;  ///< Bounds along the first axis of the virtual dataset.
  std::uint64_t high = std::numeric_limits<std::uint64_t>::max();
  Dataspace target;
  Dataspace source;
};

[[nodiscard]] std::vector<Mapping> mappings_of(hid_t dataset) {
  const auto creation = own<PropertyList>(H5Dget_create_plist(dataset), "get a dataset's properties");
  const fs::path holder = file_of(dataset);
  std::size_t count = 0;
  check(H5Pget_virtual_count(creation.get(), &count), "count a virtual dataset's mappings");
  std::vector<Mapping> mappings(count);
  for (std::size_t index = 0; index < count; ++index) {
    Mapping& mapping = mappings[index];
    const std::string file = text_of(
        [&](char* name, std::size_t size) { return H5Pget_virtual_filename(creation.get(), index, name, size); });
    mapping.dataset = text_of(
        [&](char* name, std::size_t size) { return H5Pget_virtual_dsetname(creation.get(), index, name, size); });
    mapping.file = linked_file(holder, file, "HDF5_VDS_PREFIX");
    mapping.target = own<Dataspace>(H5Pget_virtual_vspace(creation.get(), index), "read a virtual dataset's mapping");
    mapping.source = own<Dataspace>(H5Pget_virtual_srcspace(creation.get(), index), "read a virtual dataset's mapping");
    if (H5Sget_select_type(mapping.target.get()) == H5S_SEL_ALL) continue;
    std::array<hsize_t, H5S_MAX_RANK> low{};
    std::array<hsize_t, H5S_MAX_RANK> high{};
    const bool known = H5Sget_select_bounds(mapping.target.get(), low.data(), high.data()) >= 0;
    H5Eclear2(H5E_DEFAULT);
    if (known) mapping.low = low[0];
    if (known && high[0] != H5S_UNLIMITED) {
      mapping.high = high[0];
    } else {
      mapping.pattern = (file + mapping.dataset).find("%b") != std::string::npos;
    }
  }
  return mappings;
}

/// The number of a dataset's mappings; 0 when it is not virtual.
[[nodiscard]] std::size_t virtual_mappings(hid_t dataset) {
  const auto creation = own<PropertyList>(H5Dget_create_plist(dataset), "get a dataset's properties");
  std::size_t count = 0;
  if (H5Pget_layout(creation.get()) != H5D_VIRTUAL) return count;
  check(H5Pget_virtual_count(creation.get(), &count), "count a virtual dataset's mappings");
  return count;
}

// ---------------------------------------------------------------------------------------------------- discovery

/// "data_000001" and the like: the number, nothing for other names.
[[nodiscard]] std::optional<std::uint64_t> data_number(std::string_view name) {
  static constexpr std::string_view stem = "data_";
  if (!name.starts_with(stem) || name.size() == stem.size() || name.size() > stem.size() + 18) return std::nullopt;
  std::uint64_t number = 0;
  for (const char c : name.substr(stem.size())) {
    if (c < '0' || c > '9') return std::nullopt;
    number = 10 * number + static_cast<std::uint64_t>(c - '0');
  }
  return number;
}

[[nodiscard]] std::string join(const std::string& group, const std::string& name) {
  return group.empty() || group.back() == '/' ? group + name : group + '/' + name;
}

/// The rank of a dataset whose elements could be pixels or mask values (any number, enumerations too), else 0.
[[nodiscard]] int image_rank(hid_t file, const std::string& path) {
  const Dataset dataset(H5Dopen2(file, path.c_str(), H5P_DEFAULT));
  if (!dataset) {
    H5Eclear2(H5E_DEFAULT);
    return 0;
  }
  const Datatype type(H5Dget_type(dataset.get()));
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind != H5T_INTEGER && kind != H5T_FLOAT && kind != H5T_ENUM) return 0;
  const auto rank = extent(dataset.get()).size();
  return rank == 2 || rank == 3 ? static_cast<int>(rank) : 0;
}

class Discovery {
 public:
  Discovery(hid_t file, const fs::path& name) : file_(file), name_(name) {}

  [[nodiscard]] FrameDatasets given(const std::string& path) const {
    switch (look(file_, path)) {
      case Target::dataset: return {path, {path}};
      case Target::group: return in_group(path);
      case Target::other: throw InputError(shown(name_, path) + ": is no dataset and no group");
      case Target::absent:
      case Target::broken: break;
    }
    throw InputError(why_unreachable(file_, name_, path));
  }

  [[nodiscard]] FrameDatasets search() const {
    if (auto found = nexus_default()) return *found;
    if (auto found = at("/entry/data/data")) return *found;
    if (auto found = numbered("/entry/data")) return *found;
    if (auto found = at("/entry_0000/measurement/data")) return *found;
    if (auto found = instrument()) return *found;
    return only_one();
  }

 private:
  /// The dataset at a place where frames are looked for, if it can be one; a broken link there is an error.
  [[nodiscard]] std::optional<FrameDatasets> at(const std::string& path) const {
    const Target target = look(file_, path);
    if (target == Target::broken) throw InputError(why_unreachable(file_, name_, path));
    if (target != Target::dataset || image_rank(file_, path) == 0) return std::nullopt;
    return FrameDatasets{path, {path}};
  }

  /// data_000001, data_000002, ... of a group, by number.
  [[nodiscard]] std::optional<FrameDatasets> numbered(const std::string& group) const {
    if (look(file_, group) != Target::group) return std::nullopt;
    std::map<std::uint64_t, std::string> by_number;
    for (const std::string& child : children(file_, group)) {
      const auto number = data_number(child);
      if (!number) continue;
      if (const auto [other, fresh] = by_number.emplace(*number, child); !fresh) {
        throw InputError(fmt::format("{}: holds both {} and {}, two datasets of one number", shown(name_, group),
                                     other->second, child));
      }
    }
    if (by_number.empty()) return std::nullopt;
    const std::uint64_t first = by_number.begin()->first;
    const std::uint64_t last = by_number.rbegin()->first;
    if (last - first + 1 != by_number.size()) {
      std::uint64_t gap = first;
      while (by_number.contains(gap)) ++gap;
      throw InputError(fmt::format("{}: holds {} datasets from {} to {}, but none of number {}", shown(name_, group),
                                   by_number.size(), by_number.begin()->second, by_number.rbegin()->second, gap));
    }
    FrameDatasets found{group, {}};
    for (const auto& [number, child] : by_number) found.paths.push_back(join(group, child));
    return found;
  }

  /// The dataset that an NXdata group names as its signal.
  [[nodiscard]] std::optional<FrameDatasets> signal(const std::string& group) const {
    const Object opened(H5Oopen(file_, group.c_str(), H5P_DEFAULT));
    const std::string name = opened ? text_attribute(opened.get(), "signal") : "";
    if (name.empty()) return std::nullopt;
    // Dectris names the first of its numbered links as the signal; all of them are meant.
    if (data_number(name)) return numbered(group);
    return at(join(group, name));
  }

  /// A group that the user named.
  [[nodiscard]] FrameDatasets in_group(const std::string& group) const {
    if (auto found = numbered(group)) return *found;
    if (auto found = signal(group)) return *found;
    std::vector<std::string> candidates;
    for (const std::string& child : children(file_, group)) {
      const std::string path = join(group, child);
      const Target target = look(file_, path);
      if (target == Target::broken || (target == Target::dataset && image_rank(file_, path) != 0)) {
        candidates.push_back(path);
      }
    }
    return one_of(candidates, fmt::format("group {}", shown(name_, group)));
  }

  [[nodiscard]] FrameDatasets one_of(const std::vector<std::string>& candidates, const std::string& where) const {
    if (candidates.empty()) {
      throw InputError(
          fmt::format("{}: no frames found, expected a dataset [frames, rows, columns] of numbers", where));
    }
    if (candidates.size() > 1) {
      throw InputError(fmt::format("{}: several datasets could hold the frames: {}; choose one by its path", where,
                                   fmt::join(candidates, ", ")));
    }
    if (look(file_, candidates.front()) == Target::broken) {
      throw InputError(why_unreachable(file_, name_, candidates.front()));
    }
    return {candidates.front(), candidates};
  }

  /// The only child group of a NeXus class; "" when there is none or several.
  [[nodiscard]] std::string only_child(const std::string& group, std::string_view nexus_class) const {
    std::string found;
    for (const std::string& child : children(file_, group)) {
      const std::string path = join(group, child);
      if (look(file_, path) != Target::group) continue;
      const Object opened(H5Oopen(file_, path.c_str(), H5P_DEFAULT));
      if (!opened || text_attribute(opened.get(), "NX_class") != nexus_class) continue;
      if (!found.empty()) return "";
      found = path;
    }
    return found;
  }

  /// NeXus: the attributes `default` lead from the root to a group, whose `signal` is the data. Where one is absent, an
  /// only entry or an only data group is meant.
  [[nodiscard]] std::optional<FrameDatasets> nexus_default() const {
    std::string group = "/";
    for (int depth = 0; depth < max_group_depth; ++depth) {
      const Object opened(H5Oopen(file_, group.c_str(), H5P_DEFAULT));
      std::string next = opened ? text_attribute(opened.get(), "default") : "";
      if (!next.empty()) {
        next = next.front() == '/' ? next : join(group, next);
      } else if (text_attribute(opened.get(), "signal").empty()) {
        next = only_child(group, depth == 0 ? "NXentry" : "NXdata");
      }
      if (next.empty()) break;
      const Target target = look(file_, next);
      if (target == Target::dataset) return at(next);
      if (target != Target::group) return std::nullopt;
      group = next;
    }
    return signal(group);
  }

  /// /entry/instrument/<detector>/data.
  [[nodiscard]] std::optional<FrameDatasets> instrument() const {
    std::vector<std::string> candidates;
    if (look(file_, "/entry/instrument") != Target::group) return std::nullopt;
    for (const std::string& child : children(file_, "/entry/instrument")) {
      const std::string path = "/entry/instrument/" + child + "/data";
      const Target target = look(file_, path);
      if (target == Target::broken || (target == Target::dataset && image_rank(file_, path) == 3)) {
        candidates.push_back(path);
      }
    }
    if (candidates.empty()) return std::nullopt;
    return one_of(candidates, name_.string());
  }

  struct Walk {
    std::set<std::string> seen;
    std::vector<std::string> stacks;  ///< 3-D
    std::vector<std::string> images;  ///< 2-D
    std::vector<std::string> broken;  ///< External links that lead nowhere: any of them could be the frames.
  };

  void walk(const std::string& group, int depth, Walk& found) const {
    for (const std::string& child : children(file_, group)) {
      const std::string path = join(group, child);
      const Object object(H5Oopen(file_, path.c_str(), H5P_DEFAULT));
      if (!object) {
        H5Eclear2(H5E_DEFAULT);
        if (is_external_link(file_, path)) found.broken.push_back(path);
        continue;
      }
      if (!found.seen.insert(identity(object.get())).second) continue;
      const H5I_type_t kind = H5Iget_type(object.get());
      if (kind == H5I_GROUP && depth < max_group_depth) walk(path, depth + 1, found);
      if (kind != H5I_DATASET) continue;
      const int rank = image_rank(file_, path);
      if (rank == 3) found.stacks.push_back(path);
      if (rank == 2) found.images.push_back(path);
    }
  }

  [[nodiscard]] FrameDatasets only_one() const {
    Walk found;
    walk("/", 0, found);
    std::vector<std::string> candidates = found.stacks.empty() ? found.images : found.stacks;
    candidates.insert(candidates.end(), found.broken.begin(), found.broken.end());
    return one_of(candidates, name_.string());
  }

  hid_t file_;
  const fs::path& name_;
};

[[nodiscard]] bool is_complete(const fs::path& file, const std::string& path, int depth) {
  if (depth > max_virtual_depth) return false;
  try {
    const File opened = open_for_reading(file);
    const Dataset dataset = open_dataset(opened.get(), file, path);
    const auto creation = own<PropertyList>(H5Dget_create_plist(dataset.get()), "get a dataset's properties");
    if (H5Pget_layout(creation.get()) != H5D_VIRTUAL) return true;
    const std::vector<Mapping> mappings = mappings_of(dataset.get());
    return std::all_of(mappings.begin(), mappings.end(), [&](const Mapping& mapping) {
      return mapping.pattern || is_complete(mapping.file, mapping.dataset, depth + 1);
    });
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

DatasetDescription describe_dataset(hid_t dataset, const std::string& where) {
  const std::vector<hsize_t> size = extent(dataset);
  if (size.size() != 2 && size.size() != 3) {
    throw InputError(
        fmt::format("{}: has {} dimensions, expected 3 (frames, rows, columns) or 2 (one frame)", where, size.size()));
  }
  DatasetDescription description;
  description.single = size.size() == 2;
  const hsize_t rows = size[size.size() - 2];
  const hsize_t columns = size[size.size() - 1];
  constexpr hsize_t max_pixels = std::numeric_limits<std::uint32_t>::max();
  if (rows == 0 || columns == 0 || rows > max_pixels || columns > max_pixels / rows) {
    throw InputError(fmt::format("{}: frames of {} x {} pixels are not possible", where, rows, columns));
  }
  description.rows = static_cast<std::uint32_t>(rows);
  description.columns = static_cast<std::uint32_t>(columns);
  description.frames = description.single ? 1 : size[0];
  const auto type = own<Datatype>(H5Dget_type(dataset), "get the type of " + where);
  description.type = pixel_type(type.get(), where);

  const auto creation = own<PropertyList>(H5Dget_create_plist(dataset), "get the properties of " + where);
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  description.is_virtual = layout == H5D_VIRTUAL;
  const bool as_it_lies = reads_as_it_lies(type.get(), description.type);
  if (layout == H5D_CONTIGUOUS && as_it_lies && H5Pget_external_count(creation.get()) == 0) {
    description.storage = Storage::contiguous;
  }
  if (layout == H5D_CHUNKED) {
    description.filters = filters_of(creation.get());
    const auto encoding = encoding_of(description.filters, kernels::size_of(description.type));
    if (encoding && as_it_lies && chunk_is_one_frame(creation.get(), description)) {
      description.storage = Storage::chunk;
      description.encoding = *encoding;
    } else if (const std::string missing = missing_filter(description.filters); !missing.empty()) {
      throw InputError(
          fmt::format("{}: is compressed with filter {}, which HDF5 does not find here; put its plugin on "
                      "HDF5_PLUGIN_PATH",
                      where, missing));
    }
  }
  return description;
}

VirtualMap virtual_map(hid_t dataset, const DatasetDescription& description) {
  VirtualMap map;
  map.whole_frames = true;
  std::vector<VirtualPiece> bounds;  // One a mapping, for when frames have no single source.
  for (const Mapping& mapping : mappings_of(dataset)) {
    VirtualPiece origin;
    origin.file = mapping.file;
    origin.dataset = mapping.dataset;
    origin.pattern = mapping.pattern;
    const FrameBlocks target_blocks = frame_blocks(mapping.target.get(), description, description.frames);
    std::uint64_t target_frames = 0;
    for (const auto& [first, frames] : target_blocks.blocks) target_frames += frames;
    const FrameBlocks source_blocks = frame_blocks(mapping.source.get(), description, target_frames);
    const bool whole = target_blocks.whole && source_blocks.whole && target_blocks.rows == description.rows &&
                       target_blocks.columns == description.columns && source_blocks.rows == description.rows &&
                       source_blocks.columns == description.columns &&
                       append_pieces(map.pieces, target_blocks, source_blocks, origin) &&
                       map.pieces.size() <= max_virtual_pieces;
    map.whole_frames = map.whole_frames && whole;

    VirtualPiece bound = origin;
    if (!description.single) bound.first = std::min<std::uint64_t>(mapping.low, description.frames);
    const bool to_the_end = description.single || mapping.high >= description.frames;
    bound.frames = (to_the_end ? description.frames : mapping.high + 1) - bound.first;
    bounds.push_back(std::move(bound));
  }

  const auto by_first = [](const VirtualPiece& left, const VirtualPiece& right) { return left.first < right.first; };
  if (map.whole_frames) {
    std::stable_sort(map.pieces.begin(), map.pieces.end(), by_first);
    std::uint64_t next = 0;
    for (const VirtualPiece& piece : map.pieces) {
      map.whole_frames = map.whole_frames && piece.first >= next && piece.first + piece.frames <= description.frames;
      next = piece.first + piece.frames;
    }
  }
  if (!map.whole_frames) {
    std::stable_sort(bounds.begin(), bounds.end(), by_first);
    map.pieces = std::move(bounds);
  }
  return map;
}

void append(std::vector<FoundRun>& runs, FoundRun found) {
  if (found.run.frames == 0) return;
  if (!runs.empty()) {
    FoundRun& last = runs.back();
    if (last.run.file == found.run.file && last.run.dataset == found.run.dataset &&
        last.run.storage == found.run.storage && last.run.type == found.run.type && last.rows == found.rows &&
        last.columns == found.columns && last.run.first + last.run.frames == found.run.first) {
      last.run.frames += found.run.frames;
      return;
    }
  }
  runs.push_back(std::move(found));
}

std::vector<FoundRun> RunFinder::runs_of(hid_t dataset, const std::string& where, int depth) {
  const DatasetDescription description = describe_dataset(dataset, where);
  FoundRun whole;
  whole.run = {file_of(dataset), path_of(dataset), description.storage, 0, description.frames, description.type};
  whole.run.encoding = description.encoding;
  whole.rows = description.rows;
  whole.columns = description.columns;
  std::vector<FoundRun> runs;
  if (description.is_virtual) {
    const VirtualMap map = virtual_map(dataset, description);
    if (depth == 0 && ask_) foresee(map);
    if (const bool resolved = follow(map, whole, where, depth, runs); resolved) return runs;
    runs.clear();
  }
  append(runs, std::move(whole));
  return runs;
}

/// Has all sources of a virtual dataset looked at together.
void RunFinder::foresee(const VirtualMap& map) {
  std::vector<SourceName> names;
  std::set<SourceName> seen;
  for (const VirtualPiece& piece : map.pieces) {
    SourceName name{piece.file, piece.dataset};
    if (!piece.pattern && !sources_.contains(name) && seen.insert(name).second) names.push_back(std::move(name));
  }
  if (names.empty()) return;
  std::vector<SourceRuns> found = ask_(names);
  ANNULUS_EXPECT(found.size() == names.size());
  for (std::size_t index = 0; index < names.size(); ++index) {
    foreseen_.insert_or_assign(std::move(names[index]), std::move(found[index]));
  }
}

SourceRuns RunFinder::look_at(const SourceName& name, int depth) {
  SourceRuns found;
  const std::size_t before = problems_.messages().size();
  try {
    const File file = open_for_reading(name.file);
    const Dataset dataset = open_dataset(file.get(), name.file, name.dataset);
    if (depth >= max_virtual_depth) throw InputError("virtual datasets are nested too deeply");
    try {
      found.runs = runs_of(dataset.get(), shown(name.file, name.dataset), depth + 1);
    } catch (const InputError&) {
      found.runs.clear();  // It is there, but no frames by itself: a part of frames, perhaps.
    }
    for (const FoundRun& run : found.runs) found.frames += run.run.frames;
  } catch (const Error& error) {
    found.why = error.what();
  }
  const std::vector<std::string>& messages = problems_.messages();
  found.problems.assign(messages.begin() + static_cast<std::ptrdiff_t>(before), messages.end());
  return found;
}

const SourceRuns& RunFinder::source(const VirtualPiece& piece, int depth) {
  const auto [place, fresh] = sources_.try_emplace({piece.file, piece.dataset});
  if (!fresh) return place->second;
  if (const auto known = foreseen_.find(place->first); known != foreseen_.end()) {
    place->second = std::move(known->second);
    for (const std::string& problem : place->second.problems) problems_.add(problem);
  } else {
    place->second = look_at(place->first, depth);
  }
  return place->second;
}

/// Appends the runs behind a virtual dataset; false when frames must be read through HDF5. Tells broken sources.
bool RunFinder::follow(const VirtualMap& map, const FoundRun& whole, const std::string& where, int depth,
                       std::vector<FoundRun>& runs) {
  bool resolved = map.whole_frames;
  std::set<const SourceRuns*> told;
  for (const VirtualPiece& piece : map.pieces) {
    if (piece.pattern) continue;
    const SourceRuns& from = source(piece, depth);
    if (!from.why.empty()) {
      if (damaged_ == DamagedFiles::refuse && told.insert(&from).second) {
        problems_.add(fmt::format("{}: a source of this virtual dataset cannot be read: {}", where, from.why));
      }
      continue;
    }
    for (const FoundRun& run : from.runs) {
      if (run.rows != 0 && (run.rows != whole.rows || run.columns != whole.columns)) resolved = false;
    }
    if (from.runs.empty()) resolved = false;
  }
  if (!resolved) return false;

  std::uint64_t next = 0;
  const auto fill_gap = [&](std::uint64_t end) {  // No source: the reader finds nothing there.
    if (end <= next) return;
    FoundRun gap = whole;
    gap.run.first = next;
    gap.run.frames = end - next;
    append(runs, std::move(gap));
  };
  for (const VirtualPiece& piece : map.pieces) {
    fill_gap(piece.first);
    next = piece.first + piece.frames;
    append_slice(piece, source(piece, depth), whole, where, runs);
  }
  fill_gap(whole.run.frames);
  return true;
}

void RunFinder::append_slice(const VirtualPiece& piece, const SourceRuns& from, const FoundRun& whole,
                             const std::string& where, std::vector<FoundRun>& runs) {
  const std::uint64_t end = piece.source_first + piece.frames;
  std::uint64_t position = 0;
  for (const FoundRun& run : from.runs) {
    const std::uint64_t low = std::max(position, piece.source_first);
    const std::uint64_t high = std::min(position + run.run.frames, end);
    if (low < high) {
      FoundRun part = run;
      part.run.first += low - position;
      part.run.frames = high - low;
      append(runs, std::move(part));
    }
    position += run.run.frames;
  }
  const std::uint64_t behind = std::max(position, piece.source_first);
  if (behind >= end) return;
  if (from.why.empty() && damaged_ == DamagedFiles::refuse) {
    problems_.add(fmt::format("{}: its source {} holds {} frames, expected {}", where, shown(piece.file, piece.dataset),
                              from.frames, end));
  }
  FoundRun lost;
  lost.run = {piece.file, piece.dataset, Storage::hdf5, behind, end - behind, whole.run.type};
  append(runs, std::move(lost));
}

bool is_complete(const fs::path& file, const std::string& dataset) { return is_complete(file, dataset, 0); }

FrameDatasets locate_frames(hid_t file, const fs::path& name, const std::string& wanted) {
  const Discovery discovery(file, name);
  return wanted.empty() ? discovery.search() : discovery.given(wanted);
}

FoundFrames find_frames(const fs::path& file, const std::string& dataset, DamagedFiles damaged, VirtualSources sources,
                        Problems& problems) {
  FoundFrames found;
  problems.collect([&] {
    const File opened = open_for_reading(file);
    FrameDatasets datasets = as_input(file, [&] { return locate_frames(opened.get(), file, dataset); });
    found.input = std::move(datasets.input);
    found.paths = std::move(datasets.paths);
    if (found.paths.size() > 1) return;
    DatasetRuns only = find_runs(file, opened.get(), found.paths.front(), damaged, sources, problems);
    found.runs = std::move(only.runs);
    if (!only.postponed) found.paths.clear();
  });
  return found;
}

DatasetRuns find_runs(const fs::path& file, hid_t opened, const std::string& path, DamagedFiles damaged,
                      VirtualSources sources, Problems& problems, const AskSources& ask) {
  DatasetRuns found;
  problems.collect([&] {
    as_input(file, [&] {
      const Dataset dataset = open_dataset(opened, file, path);
      if (sources == VirtualSources::postpone && virtual_mappings(dataset.get()) > 1) {
        found.postponed = true;
        return;
      }
      RunFinder finder(damaged, problems, ask);
      for (FoundRun& run : finder.runs_of(dataset.get(), shown(file, path))) append(found.runs, std::move(run));
    });
  });
  return found;
}

}  // namespace annulus::mapping::hdf5
