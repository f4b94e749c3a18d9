#include "mapping/input_survey.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>

#include "base/errors.hpp"
#include "mapping/byte_form.hpp"
#include "mapping/hdf5_input.hpp"
#include "mapping/tiff_frames.hpp"

namespace annulus::mapping {

namespace {

namespace fs = std::filesystem;

// Looking at 10^5 files is waiting for a file system, not computing: many more threads than cores shorten it.
constexpr int look_threads = 16;

enum class Kind : std::uint8_t {
  file,     ///< What is it, and which frames does it hold? `path` is what the user gave for the dataset.
  dataset,  ///< Which frames does the dataset at `path` hold?
  source,   ///< Which frames does this source of a virtual dataset hold?
};

/// One thing to look at. Questions of one message are of one kind.
struct Question {
  fs::path file;
  std::string path;
};

/// All answers have one form; what a kind does not have is empty.
struct Answer {
  FileFormat format = FileFormat::unknown;
  std::string problem;  ///< Or why a source cannot be opened.
  std::string input;
  std::vector<std::string> paths;
  bool postponed = false;
  std::vector<hdf5::FoundRun> runs;
  std::vector<std::string> problems;
};

// ---------------------------------------------------------------------------------------------------- byte form

void write_texts(ByteWriter& writer, const std::vector<std::string>& texts) {
  writer.number<std::uint64_t>(texts.size());
  for (const std::string& text : texts) writer.text(text);
}

[[nodiscard]] std::vector<std::string> read_texts(ByteReader& reader) {
  std::vector<std::string> texts(reader.number<std::uint64_t>());
  for (std::string& text : texts) text = reader.text();
  return texts;
}

void write(ByteWriter& writer, const Answer& answer) {
  writer.number(answer.format);
  writer.text(answer.problem);
  writer.text(answer.input);
  write_texts(writer, answer.paths);
  writer.number(answer.postponed);
  writer.number<std::uint64_t>(answer.runs.size());
  for (const hdf5::FoundRun& run : answer.runs) {
    write(writer, run.run);
    writer.number(run.rows);
    writer.number(run.columns);
  }
  write_texts(writer, answer.problems);
}

[[nodiscard]] Answer read_answer(ByteReader& reader) {
  Answer answer;
  answer.format = reader.number<FileFormat>();
  answer.problem = reader.text();
  answer.input = reader.text();
  answer.paths = read_texts(reader);
  answer.postponed = reader.number<bool>();
  answer.runs.resize(reader.number<std::uint64_t>());
  for (hdf5::FoundRun& run : answer.runs) {
    run.run = read_run(reader);
    run.rows = reader.number<std::uint32_t>();
    run.columns = reader.number<std::uint32_t>();
  }
  answer.problems = read_texts(reader);
  return answer;
}

// ---------------------------------------------------------------------------------------------------- answers

/// All that needs no HDF5.
[[nodiscard]] Answer look_at_bytes(const fs::path& file) noexcept {
  Answer answer;
  try {
    try {
      InputFile input = open_input(file);
      answer.format = format_of(input);
      if (answer.format == FileFormat::tiff) {
        const TiffDescription tiff = describe_tiff(file, std::move(input));
        hdf5::FoundRun& found = answer.runs.emplace_back();
        found.run = {file, "", Storage::tiff, 0, tiff.pages.size(), tiff.type};
        found.rows = tiff.rows;
        found.columns = tiff.columns;
      } else if (answer.format != FileFormat::hdf5) {
        answer.problem = file.string() + ": is neither a TIFF nor an HDF5 file (by its first bytes)";
      }
    } catch (const std::exception& error) {
      answer.runs.clear();
      answer.problem = error.what();
    }
  } catch (...) {  // No memory even for the message.
    answer.format = FileFormat::unknown;
  }
  return answer;
}

class Answerer {
 public:
  Answerer(DamagedFiles damaged, hdf5::VirtualSources sources) : damaged_(damaged), sources_(sources) {}

  [[nodiscard]] std::vector<Answer> files(const std::vector<Question>& questions) const {
    std::vector<Answer> answers(questions.size());
    const auto count = static_cast<std::ptrdiff_t>(questions.size());
#pragma omp parallel for schedule(dynamic, 8) num_threads(look_threads) if (count > look_threads)
    for (std::ptrdiff_t index = 0; index < count; ++index) {
      const auto number = static_cast<std::size_t>(index);
      answers[number] = look_at_bytes(questions[number].file);
    }
    for (std::size_t index = 0; index < questions.size(); ++index) {
      Answer& answer = answers[index];
      if (answer.problem.empty() && answer.format == FileFormat::unknown) {
        answer.problem = questions[index].file.string() + ": cannot be looked at";
      }
      if (answer.format != FileFormat::hdf5 || !answer.problem.empty()) continue;
      Problems problems;
      hdf5::FoundFrames found =
          hdf5::find_frames(questions[index].file, questions[index].path, damaged_, sources_, problems);
      answer.input = std::move(found.input);
      answer.paths = std::move(found.paths);
      answer.runs = std::move(found.runs);
      answer.problems = problems.messages();
    }
    return answers;
  }

  /// Neighbours lie in one file, which is opened once.
  [[nodiscard]] std::vector<Answer> datasets(const std::vector<Question>& questions) const {
    std::vector<Answer> answers(questions.size());
    std::optional<fs::path> at_hand;
    hdf5::File opened;
    for (std::size_t index = 0; index < questions.size(); ++index) {
      const auto& [file, path] = questions[index];
      Problems problems;
      problems.collect([&] {
        if (at_hand != file) {
          opened = hdf5::open_for_reading(file);
          at_hand = file;
        }
        hdf5::DatasetRuns found = hdf5::find_runs(file, opened.get(), path, damaged_, sources_, problems);
        answers[index].runs = std::move(found.runs);
        answers[index].postponed = found.postponed;
      });
      answers[index].problems = problems.messages();
    }
    return answers;
  }

  [[nodiscard]] std::vector<Answer> sources(const std::vector<Question>& questions) const {
    Problems problems;
    hdf5::RunFinder finder(damaged_, problems);
    std::vector<Answer> answers(questions.size());
    for (std::size_t index = 0; index < questions.size(); ++index) {
      hdf5::SourceRuns found = finder.look_at({questions[index].file, questions[index].path});
      answers[index].problem = std::move(found.why);
      answers[index].runs = std::move(found.runs);
      answers[index].problems = std::move(found.problems);
    }
    return answers;
  }

 private:
  DamagedFiles damaged_;
  hdf5::VirtualSources sources_;
};

/// Notes the state of the runs' files where it is not known: asking for it costs a parallel file system as much as
/// opening them.
void note_states(std::vector<hdf5::FoundRun>& runs) {
  const FrameRun* last = nullptr;
  for (hdf5::FoundRun& found : runs) {
    FrameRun& run = found.run;
    if (!run.state) run.state = last != nullptr && last->file == run.file ? last->state : file_state(run.file);
    last = &run;
  }
}

/// Asks the whole crew, each process for a run of neighbours: they lie in the same folders and files.
[[nodiscard]] std::vector<Answer> ask(const SurveyCrew& crew, Kind kind, DamagedFiles damaged,
                                      std::span<const Question> questions) {
  const auto size = static_cast<std::size_t>(std::max(crew.size, 1));
  std::vector<std::vector<std::byte>> parts;
  for (std::size_t part = 0; part < size; ++part) {
    const std::size_t begin = questions.size() * part / size;
    const std::size_t end = questions.size() * (part + 1) / size;
    ByteWriter writer;
    writer.number(kind);
    writer.number(damaged);
    writer.number(size > 1 ? hdf5::VirtualSources::postpone : hdf5::VirtualSources::follow);
    writer.number<std::uint64_t>(end - begin);
    for (const Question& question : questions.subspan(begin, end - begin)) {
      writer.text(question.file.native());
      writer.text(question.path);
    }
    parts.push_back(std::move(writer).bytes());
  }
  if (crew.ask) {
    parts = crew.ask(std::move(parts));
  } else {
    ANNULUS_EXPECT(size == 1);
    parts.front() = answer_survey(parts.front());
  }
  ANNULUS_EXPECT(parts.size() == size);
  std::vector<Answer> answers;
  answers.reserve(questions.size());
  for (const std::vector<std::byte>& part : parts) {
    ByteReader reader(part);
    const auto count = reader.number<std::uint64_t>();
    for (std::uint64_t index = 0; index < count; ++index) answers.push_back(read_answer(reader));
    ANNULUS_EXPECT(reader.at_end());
  }
  ANNULUS_EXPECT(answers.size() == questions.size());
  return answers;
}

}  // namespace

std::vector<std::byte> answer_survey(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  const auto kind = reader.number<Kind>();
  const auto damaged = reader.number<DamagedFiles>();
  const auto sources = reader.number<hdf5::VirtualSources>();
  std::vector<Question> questions(reader.number<std::uint64_t>());
  for (Question& question : questions) {
    question.file = reader.text();
    question.path = reader.text();
  }
  ANNULUS_EXPECT(reader.at_end());
  const Answerer answerer(damaged, sources);
  std::vector<Answer> answers = kind == Kind::file      ? answerer.files(questions)
                                : kind == Kind::dataset ? answerer.datasets(questions)
                                                        : answerer.sources(questions);
  for (Answer& answer : answers) note_states(answer.runs);
  ByteWriter writer;
  writer.number<std::uint64_t>(answers.size());
  for (const Answer& answer : answers) write(writer, answer);
  return std::move(writer).bytes();
}

std::vector<FileFindings> Survey::look_at(std::span<const fs::path> files, const std::string& dataset) {
  std::vector<Question> questions;
  questions.reserve(files.size());
  for (const fs::path& file : files) questions.push_back({file, dataset});
  std::vector<FileFindings> findings;
  findings.reserve(files.size());
  for (Answer& answer : ask(crew_, Kind::file, damaged_, questions)) {
    FileFindings& found = findings.emplace_back();
    found.format = answer.format;
    found.problem = std::move(answer.problem);
    found.frames = {std::move(answer.input), std::move(answer.paths), std::move(answer.runs)};
    found.problems = std::move(answer.problems);
  }
  for (std::size_t index = 0; index < files.size(); ++index) {
    if (!findings[index].frames.paths.empty()) finish(files[index], findings[index]);
  }
  return findings;
}

/// Looks at the datasets that a file left open.
void Survey::finish(const fs::path& file, FileFindings& findings) {
  const std::vector<std::string> paths = std::move(findings.frames.paths);
  findings.frames.paths.clear();
  std::vector<Answer> answers(1);
  answers.front().postponed = true;  // an only dataset that is still open
  if (paths.size() > 1) {
    std::vector<Question> questions;
    questions.reserve(paths.size());
    for (const std::string& path : paths) questions.push_back({file, path});
    answers = ask(crew_, Kind::dataset, damaged_, questions);
  }
  const hdf5::AskSources ask_sources = [this](std::span<const hdf5::SourceName> names) {
    std::vector<Question> questions;
    questions.reserve(names.size());
    for (const hdf5::SourceName& name : names) questions.push_back({name.file, name.dataset});
    std::vector<hdf5::SourceRuns> found;
    found.reserve(names.size());
    for (Answer& answer : ask(crew_, Kind::source, damaged_, questions)) {
      hdf5::SourceRuns& source = found.emplace_back();
      source.why = std::move(answer.problem);
      source.runs = std::move(answer.runs);
      for (const hdf5::FoundRun& run : source.runs) source.frames += run.run.frames;
      source.problems = std::move(answer.problems);
    }
    return found;
  };
  for (std::size_t index = 0; index < answers.size(); ++index) {
    Answer& answer = answers[index];
    findings.problems.insert(findings.problems.end(), answer.problems.begin(), answer.problems.end());
    if (answer.postponed) {
      Problems problems;
      problems.collect([&] {
        const hdf5::File opened = hdf5::open_for_reading(file);
        answer.runs = hdf5::find_runs(file, opened.get(), paths[index], damaged_, hdf5::VirtualSources::follow,
                                      problems, ask_sources)
                          .runs;
      });
      note_states(answer.runs);  // Those that have no single source are the file's own.
      const std::vector<std::string>& more = problems.messages();
      findings.problems.insert(findings.problems.end(), more.begin(), more.end());
    }
    for (hdf5::FoundRun& run : answer.runs) hdf5::append(findings.frames.runs, std::move(run));
  }
}

}  // namespace annulus::mapping
