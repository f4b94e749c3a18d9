#include "mapping/hdf5_input.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <utility>

#include "base/errors.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping::hdf5 {

namespace {

namespace fs = std::filesystem;

constexpr int max_link_depth = 16;  // HDF5 itself follows no more than 16 soft or external links.
constexpr std::size_t names_in_message = 12;

/// The stack of HDF5's last failure, outermost reason first; clears it.
[[nodiscard]] std::vector<std::string> error_stack() {
  std::vector<std::string> reasons;
  const auto take = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    try {
      if (error->desc != nullptr) static_cast<std::vector<std::string>*>(out)->emplace_back(error->desc);
      return 0;
    } catch (const std::exception&) {
      return -1;
    }
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, take, &reasons);
  H5Eclear2(H5E_DEFAULT);
  return reasons;
}

[[nodiscard]] bool mention(const std::vector<std::string>& reasons, std::string_view word) {
  return std::any_of(reasons.begin(), reasons.end(),
                     [&](const std::string& reason) { return reason.find(word) != std::string::npos; });
}

/// Components of an HDF5 path, without empty ones and ".".
[[nodiscard]] std::vector<std::string> components(const std::string& path) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (start <= path.size()) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    if (const std::string part = path.substr(start, end - start); !part.empty() && part != ".") parts.push_back(part);
    start = end + 1;
  }
  return parts;
}

[[nodiscard]] std::string listed(std::vector<std::string> names) {
  if (names.empty()) return "nothing";
  const std::size_t count = names.size();
  names.resize(std::min(count, names_in_message));
  return fmt::format("{}{}", fmt::join(names, ", "), count > names_in_message ? ", ..." : "");
}

/// The value of a soft or external link, as HDF5 stores it.
[[nodiscard]] std::vector<char> link_value(hid_t file, const std::string& path, std::size_t bytes) {
  std::vector<char> value(bytes + 1, '\0');
  check(H5Lget_val(file, path.c_str(), value.data(), bytes, H5P_DEFAULT), "read link " + path);
  return value;
}

[[nodiscard]] std::string explain(hid_t file, const fs::path& name, const std::string& path, int depth) {
  if (depth > max_link_depth) return fmt::format("{}: too many links", shown(name, path));
  const std::vector<std::string> parts = components(path);
  std::string walked;
  for (std::size_t index = 0; index < parts.size(); ++index) {
    const std::string parent = walked.empty() ? "/" : walked;
    walked += '/' + parts[index];
    const htri_t exists = H5Lexists(file, walked.c_str(), H5P_DEFAULT);
    H5Eclear2(H5E_DEFAULT);
    if (exists <= 0) {
      return fmt::format("{}: there is no '{}' in {} (it holds {})", shown(name, path), parts[index], parent,
                         listed(children(file, parent)));
    }
    H5L_info_t info{};
    check(H5Lget_info(file, walked.c_str(), &info, H5P_DEFAULT), "look at link " + walked);
    if (info.type == H5L_TYPE_HARD) continue;

    std::string rest;
    for (std::size_t later = index + 1; later < parts.size(); ++later) rest += '/' + parts[later];
    const std::vector<char> value = link_value(file, walked, info.u.val_size);
    if (info.type == H5L_TYPE_SOFT) {
      std::string target = value.data();
      if (!target.starts_with('/')) target = parent + '/' + target;
      if (look(file, target) == Target::broken || look(file, target) == Target::absent) {
        return fmt::format("{}: the soft link {} leads nowhere: {}", shown(name, path), walked,
                           explain(file, name, target, depth + 1));
      }
      return explain(file, name, target + rest, depth + 1);
    }
    if (info.type != H5L_TYPE_EXTERNAL) return fmt::format("{}: {} is a user-defined link", shown(name, path), walked);
    const char* target_file = nullptr;
    const char* target_path = nullptr;
    check(H5Lunpack_elink_val(value.data(), info.u.val_size, nullptr, &target_file, &target_path),
          "read external link " + walked);
    const std::string link =
        fmt::format("{}: the external link {} to {}", shown(name, path), walked, shown(target_file, target_path));
    const fs::path target = linked_file(name, target_file, "HDF5_EXT_PREFIX");
    try {
      const File opened = open_for_reading(target);
      return fmt::format("{} cannot be followed: {}", link,
                         explain(opened.get(), target, target_path + rest, depth + 1));
    } catch (const InputError& error) {
      return fmt::format("{} is broken: {}", link, error.what());
    }
  }
  H5Eclear2(H5E_DEFAULT);
  const Object again(H5Oopen(file, path.c_str(), H5P_DEFAULT));
  return fmt::format("{}: cannot be opened: {}", shown(name, path), again ? "unknown reason" : last_error());
}

}  // namespace

File open_for_reading(const fs::path& file, hid_t access) {
  {
    const InputFile input = open_input(file);
    if (format_of(input) != FileFormat::hdf5) throw InputError(file.string() + ": is no HDF5 file");
  }
  silence();  // Trying and failing is part of looking; libraries do not print.
  H5Eclear2(H5E_DEFAULT);
  if (File opened(H5Fopen(file.c_str(), H5F_ACC_RDONLY, access)); opened) return opened;
  std::vector<std::string> reasons = error_stack();
  if (mention(reasons, "already open")) {  // The flag that writers set in the file: they may allow readers (SWMR).
    if (File opened(H5Fopen(file.c_str(), H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, access)); opened) return opened;
    reasons = error_stack();
  }
  const std::string reason = reasons.empty() ? "unknown reason" : reasons.back();
  const bool locked = mention(reasons, "lock");
  throw InputError(fmt::format("{}: cannot be opened as HDF5: {}{}", file.string(), reason,
                               locked ? " (a writer has it open, or the file system knows no locks: set "
                                        "HDF5_USE_FILE_LOCKING=FALSE in the environment to read it all the same)"
                                      : ""));
}

std::string shown(const fs::path& file, const std::string& path) { return fmt::format("{}::{}", file.string(), path); }

fs::path linked_file(const fs::path& holder, const std::string& name, const char* prefix_variable) {
  if (name == ".") return holder;
  const auto exists = [](const fs::path& file) {
    std::error_code ignored;
    return fs::exists(file, ignored);
  };
  fs::path wanted = name;
  if (wanted.is_absolute()) {
    if (exists(wanted)) return wanted;
    // HDF5 goes on with the bare name, so that a folder moved as a whole still works.
    if (!exists(holder.parent_path() / wanted.filename())) return wanted;
    wanted = wanted.filename();
  }
  const fs::path folder = holder.parent_path();
  if (const char* prefixes = std::getenv(prefix_variable); prefixes != nullptr) {
    std::string_view left = prefixes;
    while (!left.empty()) {
      const std::size_t end = std::min(left.find(':'), left.size());
      std::string prefix(left.substr(0, end));
      left.remove_prefix(std::min(end + 1, left.size()));
      static constexpr std::string_view origin = "${ORIGIN}";
      if (prefix.starts_with(origin)) prefix.replace(0, origin.size(), folder.empty() ? "." : folder.string());
      if (!prefix.empty() && exists(fs::path(prefix) / wanted)) return fs::path(prefix) / wanted;
    }
  }
  if (exists(folder / wanted)) return folder / wanted;
  if (exists(wanted)) return wanted;
  std::error_code failed;
  const fs::path real = fs::canonical(holder, failed);  // The holder may itself be a link of the file system.
  if (!failed && exists(real.parent_path() / wanted)) return real.parent_path() / wanted;
  return folder / wanted;
}

std::string file_of(hid_t object) {
  return text_of([&](char* text, std::size_t size) { return H5Fget_name(object, text, size); });
}

std::string path_of(hid_t object) {
  const std::string name = text_of([&](char* text, std::size_t size) { return H5Iget_name(object, text, size); });
  const Object found(H5Oopen(object, name.c_str(), H5P_DEFAULT));
  if (found && identity(found.get()) == identity(object)) return name;
  H5Eclear2(H5E_DEFAULT);
  // Behind a soft link into another file HDF5 gives the soft link's own name; a reference knows the object's place.
  hobj_ref_t reference{};
  check(H5Rcreate(&reference, object, ".", H5R_OBJECT, H5I_INVALID_HID), "refer to an object");
  return text_of([&](char* text, std::size_t size) { return H5Rget_name(object, H5R_OBJECT, &reference, text, size); });
}

std::string identity(hid_t object) {
#if H5_VERSION_GE(1, 12, 0)
  H5O_info2_t info{};
  const herr_t status = H5Oget_info3(object, &info, H5O_INFO_BASIC);
  std::string key(reinterpret_cast<const char*>(&info.token), sizeof info.token);
#else
  H5O_info_t info{};
  const herr_t status = H5Oget_info2(object, &info, H5O_INFO_BASIC);
  std::string key(reinterpret_cast<const char*>(&info.addr), sizeof info.addr);
#endif
  if (status < 0) {
    H5Eclear2(H5E_DEFAULT);
    return {};
  }
  return key.append(reinterpret_cast<const char*>(&info.fileno), sizeof info.fileno);
}

Target look(hid_t file, const std::string& path) {
  const std::vector<std::string> parts = components(path);
  std::string walked;
  for (const std::string& part : parts) {
    walked += '/' + part;
    const htri_t exists = H5Lexists(file, walked.c_str(), H5P_DEFAULT);
    if (exists == 0) return Target::absent;
    if (exists < 0) {
      // No way through what stands before: a broken link, or a dataset that has no children.
      H5Eclear2(H5E_DEFAULT);
      const std::string parent = walked.substr(0, walked.size() - part.size() - 1);
      const Object before(H5Oopen(file, parent.c_str(), H5P_DEFAULT));
      H5Eclear2(H5E_DEFAULT);
      return before ? Target::absent : Target::broken;
    }
  }
  if (parts.empty()) return Target::group;
  const Object object(H5Oopen(file, walked.c_str(), H5P_DEFAULT));
  if (!object) {
    H5Eclear2(H5E_DEFAULT);
    return Target::broken;
  }
  switch (H5Iget_type(object.get())) {
    case H5I_GROUP: return Target::group;
    case H5I_DATASET: return Target::dataset;
    default: return Target::other;
  }
}

std::string why_unreachable(hid_t file, const fs::path& name, const std::string& path) {
  return explain(file, name, path, 0);
}

Dataset open_dataset(hid_t file, const fs::path& name, const std::string& path) {
  const Target target = look(file, path);
  if (target == Target::absent || target == Target::broken) throw InputError(why_unreachable(file, name, path));
  if (target != Target::dataset) {
    throw InputError(fmt::format(
        "{}: is {}, expected a dataset{}", shown(name, path), target == Target::group ? "a group" : "no dataset",
        target == Target::group ? fmt::format(" (it holds {})", listed(children(file, path))) : std::string()));
  }
  return own<Dataset>(H5Dopen2(file, path.c_str(), H5P_DEFAULT), "open " + shown(name, path));
}

std::vector<std::string> children(hid_t file, const std::string& group) {
  std::vector<std::string> names;
  const Group opened(H5Gopen2(file, group.c_str(), H5P_DEFAULT));
  if (opened) {
    const auto take = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
      try {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      } catch (const std::exception&) {
        return -1;
      }
    };
    check(H5Literate(opened.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, take, &names), "list group " + group);
  }
  H5Eclear2(H5E_DEFAULT);
  return names;
}

bool is_external_link(hid_t file, const std::string& path) {
  H5L_info_t info{};
  const bool known = H5Lget_info(file, path.c_str(), &info, H5P_DEFAULT) >= 0;
  H5Eclear2(H5E_DEFAULT);
  return known && info.type == H5L_TYPE_EXTERNAL;
}

std::string text_attribute(hid_t object, const char* name) {
  if (H5Aexists(object, name) <= 0) {
    H5Eclear2(H5E_DEFAULT);
    return {};
  }
  const Attribute attribute(H5Aopen(object, name, H5P_DEFAULT));
  const Datatype type(H5Aget_type(attribute.get()));
  const Dataspace space(H5Aget_space(attribute.get()));
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  if (!type || H5Tget_class(type.get()) != H5T_STRING || count < 1) return {};
  const auto own_type = own<Datatype>(H5Tcopy(H5T_C_S1), "copy a type");
  H5Tset_cset(own_type.get(), H5Tget_cset(type.get()));
  if (H5Tis_variable_str(type.get()) > 0) {
    H5Tset_size(own_type.get(), H5T_VARIABLE);
    std::vector<char*> texts(static_cast<std::size_t>(count), nullptr);
    if (H5Aread(attribute.get(), own_type.get(), texts.data()) < 0) {
      H5Eclear2(H5E_DEFAULT);
      return {};
    }
    std::string text = texts.front() == nullptr ? "" : texts.front();
    H5Dvlen_reclaim(own_type.get(), space.get(), H5P_DEFAULT, texts.data());
    return text;
  }
  const std::size_t size = H5Tget_size(type.get()) + 1;  // HDF5 adds the terminator where the file has none.
  H5Tset_size(own_type.get(), size);
  std::vector<char> texts(size * static_cast<std::size_t>(count), '\0');
  if (H5Aread(attribute.get(), own_type.get(), texts.data()) < 0) {
    H5Eclear2(H5E_DEFAULT);
    return {};
  }
  std::string text(texts.data(), strnlen(texts.data(), size));
  text.erase(text.find_last_not_of(' ') + 1);  // Space-padded strings.
  return text;
}

std::string type_name(hid_t type) {
  const std::size_t bits = 8 * H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: return fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
    case H5T_FLOAT: return fmt::format("float{}", bits);
    case H5T_STRING: return "string";
    case H5T_COMPOUND: return "compound";
    case H5T_ENUM: return "enum";
    case H5T_BITFIELD: return "bitfield";
    case H5T_OPAQUE: return "opaque";
    case H5T_REFERENCE: return "reference";
    case H5T_VLEN: return "variable-length";
    case H5T_ARRAY: return "array";
    default: return "unknown";
  }
}

kernels::PixelType pixel_type(hid_t type, const std::string& where) {
  using kernels::PixelType;
  const std::size_t bytes = H5Tget_size(type);
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_INTEGER && bytes <= 4) {
    const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
    if (bytes == 1) return is_signed ? PixelType::i8 : PixelType::u8;
    if (bytes == 2) return is_signed ? PixelType::i16 : PixelType::u16;
    return is_signed ? PixelType::i32 : PixelType::u32;
  }
  if (kind == H5T_FLOAT && bytes <= 4) return PixelType::f32;
  if (kind == H5T_FLOAT && bytes <= 8) return PixelType::f64;
  throw InputError(
      fmt::format("{}: pixels of type {} are not supported, expected integers of up to 32 bits or floats of "
                  "up to 64 bits",
                  where, type_name(type)));
}

hid_t native_type(kernels::PixelType type) {
  using kernels::PixelType;
  switch (type) {
    case PixelType::u8: return H5T_NATIVE_UINT8;
    case PixelType::u16: return H5T_NATIVE_UINT16;
    case PixelType::u32: return H5T_NATIVE_UINT32;
    case PixelType::i8: return H5T_NATIVE_INT8;
    case PixelType::i16: return H5T_NATIVE_INT16;
    case PixelType::i32: return H5T_NATIVE_INT32;
    case PixelType::f32: return H5T_NATIVE_FLOAT;
    case PixelType::f64: return H5T_NATIVE_DOUBLE;
  }
  throw InternalError("pixel type out of range");
}

std::vector<hsize_t> extent(hid_t dataset) {
  const auto space = own<Dataspace>(H5Dget_space(dataset), "get a dataset's extent");
  const int rank = H5Sget_simple_extent_ndims(space.get());
  std::vector<hsize_t> dimensions(static_cast<std::size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space.get(), dimensions.data(), nullptr);
  return dimensions;
}

}  // namespace annulus::mapping::hdf5
