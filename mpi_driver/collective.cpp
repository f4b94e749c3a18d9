#include "mpi_driver/collective.hpp"

#include <algorithm>
#include <exception>
#include <iostream>
#include <limits>
#include <map>
#include <new>
#include <set>
#include <sstream>

#include "base/errors.hpp"

namespace annulus::driver {

int rank_of(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return rank;
}

int size_of(MPI_Comm comm) {
  int size = 0;
  MPI_Comm_size(comm, &size);
  return size;
}

namespace {

/// The message of every rank ("" = none), on rank 0. Collective.
std::vector<std::string> gather_messages(MPI_Comm comm, const std::string& message) {
  const int size = size_of(comm);
  const int length = static_cast<int>(std::min<std::size_t>(message.size(), 1U << 20U));
  std::vector<int> lengths(static_cast<std::size_t>(size));
  MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, comm);
  std::vector<int> places(lengths.size());
  int total = 0;
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    places[rank] = total;
    total += lengths[rank];
  }
  std::string all(static_cast<std::size_t>(total), ' ');
  MPI_Gatherv(message.data(), length, MPI_CHAR, all.data(), lengths.data(), places.data(), MPI_CHAR, 0, comm);
  std::vector<std::string> messages;
  if (rank_of(comm) != 0) return messages;
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    messages.push_back(all.substr(static_cast<std::size_t>(places[rank]), static_cast<std::size_t>(lengths[rank])));
  }
  return messages;
}

void print_messages(const std::vector<std::string>& messages) {
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < messages.size(); ++rank) {
    if (!messages[rank].empty()) ranks_of[messages[rank]].push_back(rank);
  }
  for (const auto& [message, ranks] : ranks_of) {
    std::string who;
    if (ranks.size() < messages.size() && ranks.front() != 0) {
      who = "rank " + std::to_string(ranks.front());
      if (ranks.size() > 1) who += " and " + std::to_string(ranks.size() - 1) + " more";
      who += ": ";
    }
    std::istringstream lines(who + message);
    for (std::string line; std::getline(lines, line);) std::cerr << "annulus: " << line << std::endl;
  }
}

}  // namespace

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return "memory ran out; --dry-run tells what a rank takes, and a smaller --batch or fewer ranks take less";
  }
  const std::string message = error.what();
  return message.empty() ? "unknown failure" : message;
}

void together(MPI_Comm comm, const std::function<void()>& step) {
  ExitCode code = ExitCode::ok;
  std::string message;
  try {
    step();
  } catch (const InputError& error) {
    code = ExitCode::bad_input;
    message = error.what();
  } catch (const std::exception& error) {
    code = ExitCode::failed;
    message = message_of(error);
  }
  // Lowest first: a failure (1) outweighs bad input (2), and both any success.
  const int mine = code == ExitCode::ok ? std::numeric_limits<int>::max() : static_cast<int>(code);
  int worst = 0;
  MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MIN, comm);
  if (worst == std::numeric_limits<int>::max()) return;
  print_messages(gather_messages(comm, message));
  throw Stop{static_cast<ExitCode>(worst)};
}

void tell_warnings(MPI_Comm comm, const std::vector<std::string>& warnings) {
  std::string mine;
  for (const std::string& warning : warnings) mine += warning + '\n';
  std::set<std::string> told;
  for (const std::string& message : gather_messages(comm, mine)) {
    std::istringstream lines(message);
    for (std::string line; std::getline(lines, line);) {
      if (told.insert(line).second) std::cerr << "annulus: warning: " << line << std::endl;
    }
  }
}

namespace {

/// MPI's counts are int: calls `transfer(begin, count)` for pieces of at most 1 GiB.
template <typename Transfer>
void in_pieces(std::uint64_t size, Transfer&& transfer) {
  constexpr std::uint64_t piece = 1U << 30U;
  for (std::uint64_t begin = 0; begin < size; begin += piece) {
    transfer(begin, static_cast<int>(std::min(piece, size - begin)));
  }
}

}  // namespace

void broadcast(MPI_Comm comm, std::vector<std::byte>& bytes) {
  std::uint64_t size = bytes.size();
  MPI_Bcast(&size, 1, MPI_UINT64_T, 0, comm);
  bytes.resize(size);
  in_pieces(size, [&](std::uint64_t begin, int count) { MPI_Bcast(bytes.data() + begin, count, MPI_BYTE, 0, comm); });
}

std::vector<std::vector<std::byte>> gather(MPI_Comm comm, const std::vector<std::byte>& bytes) {
  const bool root = rank_of(comm) == 0;
  const std::uint64_t size = bytes.size();
  std::vector<std::uint64_t> sizes(root ? static_cast<std::size_t>(size_of(comm)) : 0);
  MPI_Gather(&size, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, 0, comm);
  if (!root) {
    in_pieces(size,
              [&](std::uint64_t begin, int count) { MPI_Send(bytes.data() + begin, count, MPI_BYTE, 0, 0, comm); });
    return {};
  }
  std::vector<std::vector<std::byte>> all = {bytes};
  for (std::size_t rank = 1; rank < sizes.size(); ++rank) {
    std::vector<std::byte>& received = all.emplace_back(sizes[rank]);
    in_pieces(sizes[rank], [&](std::uint64_t begin, int count) {
      MPI_Recv(received.data() + begin, count, MPI_BYTE, static_cast<int>(rank), 0, comm, MPI_STATUS_IGNORE);
    });
  }
  return all;
}

namespace {

enum class Call : int { end, question };

/// What rank 0 wants of the others, on all. Collective.
Call call_of(MPI_Comm comm, Call call) {
  int number = static_cast<int>(call);
  MPI_Bcast(&number, 1, MPI_INT, 0, comm);
  return static_cast<Call>(number);
}

/// Runs `answer`; an answer has one byte more at its end, so that none stands for a failure. `failure` keeps the first.
std::vector<std::byte> answered(const Crew::Answer& answer, std::span<const std::byte> question,
                                std::exception_ptr& failure) {
  try {
    std::vector<std::byte> bytes = answer(question);
    bytes.push_back(std::byte{1});
    return bytes;
  } catch (...) {
    if (!failure) failure = std::current_exception();
    return {};
  }
}

}  // namespace

Crew::~Crew() { call_of(comm_, Call::end); }

std::vector<std::vector<std::byte>> Crew::ask(const std::vector<std::vector<std::byte>>& questions,
                                              const Answer& answer) const {
  ANNULUS_EXPECT(questions.size() == static_cast<std::size_t>(size_of(comm_)));
  call_of(comm_, Call::question);
  for (std::size_t rank = 1; rank < questions.size(); ++rank) {
    const std::uint64_t size = questions[rank].size();
    MPI_Send(&size, 1, MPI_UINT64_T, static_cast<int>(rank), 0, comm_);
    in_pieces(size, [&](std::uint64_t begin, int count) {
      MPI_Send(questions[rank].data() + begin, count, MPI_BYTE, static_cast<int>(rank), 0, comm_);
    });
  }
  std::exception_ptr failure;
  std::vector<std::vector<std::byte>> answers = gather(comm_, answered(answer, questions.front(), failure));
  if (failure) std::rethrow_exception(failure);
  for (std::size_t rank = 0; rank < answers.size(); ++rank) {
    if (answers[rank].empty()) throw InternalError("rank " + std::to_string(rank) + " could not answer");
    answers[rank].pop_back();
  }
  return answers;
}

void Crew::serve(MPI_Comm comm, const Answer& answer) {
  std::exception_ptr failure;
  while (call_of(comm, Call::end) == Call::question) {
    std::uint64_t size = 0;
    MPI_Recv(&size, 1, MPI_UINT64_T, 0, 0, comm, MPI_STATUS_IGNORE);
    std::vector<std::byte> question(size);
    in_pieces(size, [&](std::uint64_t begin, int count) {
      MPI_Recv(question.data() + begin, count, MPI_BYTE, 0, 0, comm, MPI_STATUS_IGNORE);
    });
    static_cast<void>(gather(comm, answered(answer, question, failure)));
  }
  if (failure) std::rethrow_exception(failure);
}

SharedCounter::SharedCounter(MPI_Comm comm) {
  const MPI_Aint bytes = rank_of(comm) == 0 ? sizeof(std::uint64_t) : 0;
  MPI_Win_allocate(bytes, sizeof(std::uint64_t), MPI_INFO_NULL, comm, &value_, &window_);
  if (bytes > 0) *value_ = 0;
  MPI_Win_lock_all(MPI_MODE_NOCHECK, window_);
  MPI_Win_sync(window_);
  MPI_Barrier(comm);
}

SharedCounter::~SharedCounter() {
  MPI_Win_unlock_all(window_);
  MPI_Win_free(&window_);
}

std::uint64_t SharedCounter::take() {
  const std::uint64_t one = 1;
  std::uint64_t taken = 0;
  MPI_Fetch_and_op(&one, &taken, MPI_UINT64_T, 0, 0, MPI_SUM, window_);
  MPI_Win_flush(0, window_);
  return taken;
}

}  // namespace annulus::driver
