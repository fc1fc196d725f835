// Sets spdlog's default logger up once per program, and silences protobuf's own.
#include "common/base/log.h"

#include <fmt/format.h>
#include <google/protobuf/stubs/logging.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "common/base/log_file.h"
#include "common/base/log_limit.h"

namespace datacloud {
namespace {

// In front of the real sinks: drops what the limit does not let through.
class LimitingSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LimitingSink(std::vector<spdlog::sink_ptr> sinks) : sinks_(std::move(sinks)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& line) override {
    if (line.level >= spdlog::level::critical) return pass(line);
    const auto verdict = limit_.judge({line.payload.data(), line.payload.size()}, monotonic_now());
    if (!verdict.pass) return;
    if (verdict.left_out == 0) return pass(line);
    const std::string text =
        fmt::format("{} ({} similar lines before were left out)",
                    std::string_view(line.payload.data(), line.payload.size()), verdict.left_out);
    spdlog::details::log_msg more = line;
    more.payload = text;
    pass(more);
  }
  void flush_() override {
    for (auto& sink : sinks_) sink->flush();
  }
  void set_formatter_(std::unique_ptr<spdlog::formatter> formatter) override {
    for (auto& sink : sinks_) sink->set_formatter(formatter->clone());
  }
  void set_pattern_(const std::string& pattern) override {
    for (auto& sink : sinks_) sink->set_pattern(pattern);
  }
  void pass(const spdlog::details::log_msg& line) {
    for (auto& sink : sinks_)
      if (sink->should_log(line.level)) sink->log(line);
  }

  const std::vector<spdlog::sink_ptr> sinks_;
  LogLimit limit_;
};

// %*: the message as the inside of a JSON string.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& line, const std::tm&,
              spdlog::memory_buf_t& out) override {
    auto append = [&](std::string_view text) {
      out.append(text.data(), text.data() + text.size());
    };
    for (const char c : std::string_view(line.payload.data(), line.payload.size())) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        append(c == '"' ? "\\\"" : "\\\\");
      } else if (byte < 0x20 || byte >= 0x7f) {
        append(fmt::format("\\u{:04x}", byte));  // names may be any bytes: one character each
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

// %&: the priority that systemd's journal takes from the beginning of a line.
class Priority final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& line, const std::tm&,
              spdlog::memory_buf_t& out) override {
    static constexpr char kPriorities[] = {'7', '7', '6', '4', '3', '2', '7'};
    out.push_back(kPriorities[std::min<size_t>(line.level, sizeof kPriorities - 1)]);
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<Priority>();
  }
};

// JOURNAL_STREAM names the device and inode that a service's stderr has when the journal reads it.
bool to_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat st {};
  return stream != nullptr && ::fstat(STDERR_FILENO, &st) == 0 &&
         fmt::format("{}:{}", st.st_dev, st.st_ino) == stream;
}

std::unique_ptr<spdlog::formatter> make_formatter(LogFormat format, bool journal) {
  const bool json = format == LogFormat::json;
  auto formatter = std::make_unique<spdlog::pattern_formatter>(
      json ? spdlog::pattern_time_type::utc : spdlog::pattern_time_type::local);
  formatter->add_flag<JsonMessage>('*').add_flag<Priority>('&');
  formatter->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","program":"%n",)"
                                R"("pid":%P,"message":"%*"})"
                         : journal ? "<%&>%v"
                                   : "%Y-%m-%d %H:%M:%S.%e %n[%P] %l: %v");
  return formatter;
}

}  // namespace

void start_logging(const std::string& program, const std::string& file, bool verbose,
                   LogFormat format) {
  auto to_stderr = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  to_stderr->set_formatter(make_formatter(format, to_journal()));
  std::vector<spdlog::sink_ptr> sinks{to_stderr};
  std::string problem;
  if (!file.empty()) {
    if (auto opened = open_log_file(file)) {
      sinks.push_back(std::move(opened).value());
      sinks.back()->set_formatter(make_formatter(format, false));
    } else {
      problem = opened.error().code().message();
    }
  }
  auto logger =
      std::make_shared<spdlog::logger>(program, std::make_shared<LimitingSink>(std::move(sinks)));
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  // It writes a line to stderr for each text of a peer that is not UTF-8; parsing fails anyway, and
  // is reported by whoever asked for it.
  google::protobuf::SetLogHandler(nullptr);
  if (!problem.empty()) spdlog::warn("cannot log to {}: {}; logging to stderr only", file, problem);
}

}  // namespace datacloud
