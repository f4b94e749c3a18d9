// A list of everything that is wrong with the input, so that the user hears all of it in one message.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/errors.hpp"

namespace annulus {

/// Collects problems of the input; they are told together by throw_if_any().
class Problems {
 public:
  void add(std::string problem) { messages_.push_back(std::move(problem)); }

  /// Runs a check and keeps the message of an InputError that it throws; other exceptions pass.
  template <typename Check>
  void collect(Check&& check) {
    try {
      std::forward<Check>(check)();
    } catch (const InputError& error) {
      add(error.what());
    }
  }

  [[nodiscard]] bool any() const { return !messages_.empty(); }
  [[nodiscard]] const std::vector<std::string>& messages() const { return messages_; }

  /// Throws one InputError with a problem a line; does nothing when there is none.
  void throw_if_any() const {
    if (messages_.empty()) return;
    std::string all;
    for (const std::string& message : messages_) {
      if (!all.empty()) all += '\n';
      all += message;
    }
    throw InputError(all);
  }

 private:
  std::vector<std::string> messages_;
};

}  // namespace annulus
