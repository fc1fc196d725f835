// Text for people: aligned tables, sizes with units, colours on terminals only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/error.h"

namespace datacloud {

enum class Colour { none, good, warning, bad, dim };

// False when stdout is not a terminal or NO_COLOR is set.
bool colour_wanted();
std::string coloured(const std::string& text, Colour, bool enabled);

std::string human_bytes(uint64_t bytes);            // "1.2 GiB"
std::string human_duration(uint64_t milliseconds);  // "3 d 4 h"
std::string round_trip_text(uint64_t us);           // "0.4 ms"; "-" when it is 0: not known
// Of a time since 1970: "2026-01-31 12:00:00" here, "unknown" for none (0).
std::string local_time(int64_t ns);
// Control characters replaced, so that a file name cannot drive the terminal.
std::string printable(const std::string& text);

// Columns as wide as their widest cell; numbers to the right.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  struct Cell {
    Cell(std::string t, Colour c = Colour::none) : text(std::move(t)), colour(c) {}
    Cell(const char* t) : text(t) {}
    Cell(uint64_t number) : text(std::to_string(number)) {}
    std::string text;
    Colour colour = Colour::none;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  std::string text(bool colours) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// "datacloud: TEXT" on stderr; returns kExitFailed.
int report_failure(const Error&);

}  // namespace datacloud
