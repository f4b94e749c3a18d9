// One binary for all x86-64 machines: the compiler makes a version of a function for each level, the loader picks one.
#pragma once

// (Sanitizers cannot start before the loader has picked; clang has no x86-64-vN targets for this.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define ANNULUS_FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ANNULUS_FOR_EVERY_CPU
#endif
