// Steps that all ranks take together, and how they end together when one of them fails.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_handle.hpp"

namespace annulus::driver {

/// The exit status of the program; the numbers are part of its contract.
enum class ExitCode : int { ok = 0, failed = 1, bad_input = 2, finished_with_bad_frames = 3 };

/// Thrown on every rank at once, when the reason has been told: only the exit status is left to return.
struct Stop {
  ExitCode code;
};

[[nodiscard]] int rank_of(MPI_Comm comm);
[[nodiscard]] int size_of(MPI_Comm comm);

/// What to tell people of a failure.
[[nodiscard]] std::string message_of(const std::exception& error);

/// Runs `step` on every rank; when it throws on any, rank 0 prints each different message once and all ranks throw
/// Stop: bad_input when every failure was an InputError, else failed. Collective.
void together(MPI_Comm comm, const std::function<void()>& step);

/// Rank 0 prints each different warning of any rank once. Collective.
void tell_warnings(MPI_Comm comm, const std::vector<std::string>& warnings);

/// Sends rank 0's bytes to all, of any length. Collective.
void broadcast(MPI_Comm comm, std::vector<std::byte>& bytes);

/// Every rank's bytes, of any length, on rank 0 in the order of the ranks; empty elsewhere. Collective.
[[nodiscard]] std::vector<std::vector<std::byte>> gather(MPI_Comm comm, const std::vector<std::byte>& bytes);

/// The other ranks at the service of rank 0, between steps that all take together: rank 0 asks, as often as it likes,
/// while the others are in serve().
class Crew {
 public:
  explicit Crew(MPI_Comm comm) : comm_(comm) {}
  /// Lets the others go.
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  using Answer = std::function<std::vector<std::byte>(std::span<const std::byte>)>;

  /// Sends questions[r] to rank r, answers the first by itself, and returns all answers in order. Rank 0; the others
  /// are in serve(). Throws InternalError when a rank could not answer, which then throws at the end of serve().
  [[nodiscard]] std::vector<std::vector<std::byte>> ask(const std::vector<std::vector<std::byte>>& questions,
                                                        const Answer& answer) const;

  /// Answers until rank 0's Crew ends. All ranks but 0.
  static void serve(MPI_Comm comm, const Answer& answer);

 private:
  MPI_Comm comm_;
};

/// Numbers 0, 1, 2, ... given out once each to whoever asks first, so that a slow rank does not hold the others.
class SharedCounter {
 public:
  /// Collective.
  explicit SharedCounter(MPI_Comm comm);
  /// Collective: MPI frees windows together.
  ~SharedCounter();
  SharedCounter(const SharedCounter&) = delete;
  SharedCounter& operator=(const SharedCounter&) = delete;

  /// Takes the next number. Independent.
  [[nodiscard]] std::uint64_t take();

 private:
  MPI_Win window_ = MPI_WIN_NULL;
  std::uint64_t* value_ = nullptr;  // rank 0's memory holds the counter
};

}  // namespace annulus::driver
