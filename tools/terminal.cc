// Text for people (terminal.h).
#include "tools/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "tools/exit_codes.h"

namespace datacloud {
namespace {

const char* escape_of(Colour colour) {
  switch (colour) {
    case Colour::good:
      return "\x1b[32m";
    case Colour::warning:
      return "\x1b[33m";
    case Colour::bad:
      return "\x1b[31m";
    case Colour::dim:
      return "\x1b[2m";
    case Colour::none:
      break;
  }
  return "";
}

// Characters, not bytes: continuation bytes of UTF-8 take no room.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

bool colour_wanted() { return ::isatty(STDOUT_FILENO) && std::getenv("NO_COLOR") == nullptr; }

std::string coloured(const std::string& text, Colour colour, bool enabled) {
  if (!enabled || colour == Colour::none) return text;
  return escape_of(colour) + text + "\x1b[0m";
}

std::string human_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    unit++;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_duration(uint64_t milliseconds) {
  const uint64_t s = milliseconds / 1000;
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string round_trip_text(uint64_t us) {
  if (us == 0) return "-";
  return fmt::format("{:.{}f} ms", static_cast<double>(us) / 1000, us < 10'000 ? 1 : 0);
}

std::string local_time(int64_t ns) {
  if (ns == 0) return "unknown";
  const std::time_t seconds = ns / 1'000'000'000;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%F %T", &local);
  return text.data();
}

std::string printable(const std::string& text) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

std::string Table::text(bool colours) const {
  std::vector<size_t> widths;
  for (const auto& column : columns_) widths.push_back(width_of(column.title));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < std::min(row.size(), widths.size()); i++) {
      widths[i] = std::max(widths[i], width_of(row[i].text));
    }
  }
  std::string out;
  auto line = [&](auto cell_of, size_t cells) {
    std::string text;
    for (size_t i = 0; i < std::min(cells, columns_.size()); i++) {
      const Cell cell = cell_of(i);
      const std::string pad(widths[i] - width_of(cell.text), ' ');
      const std::string shown = coloured(cell.text, cell.colour, colours);
      if (i > 0) text += "  ";
      text += columns_[i].align == Align::right ? pad + shown : shown + pad;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([&](size_t i) { return Cell(columns_[i].title, Colour::dim); }, columns_.size());
  for (const auto& row : rows_) line([&](size_t i) { return row[i]; }, row.size());
  return out;
}

int report_failure(const Error& error) {
  // Texts of our own failures are complete; errno values need their words.
  const bool own = error.code().category() == error_category();
  const std::string text = own ? error.text() : error.message();
  std::string shown = "datacloud: ";
  for (size_t at = 0; at <= text.size();) {  // a text may have several lines
    const size_t end = std::min(text.find('\n', at), text.size());
    shown += printable(text.substr(at, end - at)) + "\n";
    at = end + 1;
  }
  fmt::print(stderr, "{}", shown);
  return kExitFailed;
}

}  // namespace datacloud
