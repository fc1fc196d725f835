// Sets spdlog's default logger up once per program, and silences protobuf's own.
#include "common/log.h"

#include <google/protobuf/stubs/logging.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <vector>

namespace datacloud {

void start_logging(const std::string& program, const std::string& file, bool verbose) {
  std::vector<spdlog::sink_ptr> sinks{std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  std::string problem;
  if (!file.empty()) {
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file));
    } catch (const spdlog::spdlog_ex& e) {
      problem = e.what();
    }
  }
  auto logger = std::make_shared<spdlog::logger>(program, sinks.begin(), sinks.end());
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %n[%P] %l: %v");
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  // It writes a line to stderr for each text of a peer that is not UTF-8; parsing fails anyway, and
  // is reported by whoever asked for it.
  google::protobuf::SetLogHandler(nullptr);
  if (!problem.empty()) spdlog::warn("cannot log to {}: {}; logging to stderr only", file, problem);
}

}  // namespace datacloud
