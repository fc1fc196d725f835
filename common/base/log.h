// Logging: spdlog with our patterns. Programs call start_logging once. Similar lines are limited
// (log_limit.h); libraries limit by call site besides where a peer can cause a line.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace datacloud {

// text: "2026-01-31 12:00:00.000 PROGRAM[PID] level: words", or under systemd's journal, which adds
// all but the words, "<PRIORITY>words".
// json: one object a line: time (UTC), level, program, pid, message.
enum class LogFormat { text, json };

// To stderr; with `file` not empty also appended there.
void start_logging(const std::string& program, const std::string& file, bool verbose,
                   LogFormat format = LogFormat::text);

}  // namespace datacloud
