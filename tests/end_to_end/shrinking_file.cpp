// Loaded before the program: cuts a file short in the moment that a part of it has been mapped, as happens when
// somebody copies another over it. Nothing else makes that moment come for certain.
//
// ANNULUS_SHRINK_FILE: the file; ANNULUS_SHRINK_TO: bytes that it keeps; ANNULUS_SHRINK_AT: at which of its mappings,
// counted from 1.
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>

extern "C" void* mmap(void* address, std::size_t length, int protection, int flags, int descriptor, off_t offset) {
  using Map = void* (*)(void*, std::size_t, int, int, int, off_t);
  static const auto real = reinterpret_cast<Map>(::dlsym(RTLD_NEXT, "mmap"));
  void* const mapped = real(address, length, protection, flags, descriptor, offset);
  static int seen = 0;
  const char* const name = std::getenv("ANNULUS_SHRINK_FILE");
  struct stat named {};
  struct stat given {};
  if (name == nullptr || (flags & MAP_SHARED) == 0 || ::fstat(descriptor, &given) != 0 || ::stat(name, &named) != 0) {
    return mapped;
  }
  const bool same = named.st_ino == given.st_ino && named.st_dev == given.st_dev;
  if (same && ++seen == std::atoi(std::getenv("ANNULUS_SHRINK_AT"))) {
    if (::truncate(name, std::atol(std::getenv("ANNULUS_SHRINK_TO"))) != 0) std::abort();
  }
  return mapped;
}
