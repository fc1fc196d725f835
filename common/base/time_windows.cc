// Parsing, and one comparison a window.
#include "common/base/time_windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace datacloud {
namespace {

constexpr size_t kWindowsMax = 64;
constexpr int kDayMinutes = 24 * 60;
constexpr std::array<std::string_view, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

int day_of(std::string_view text) {
  const auto found = std::find(kDays.begin(), kDays.end(), text);
  return found == kDays.end() ? -1 : static_cast<int>(found - kDays.begin());
}

// "HH:MM" up to 24:00; -1 when it is none.
int minute_of(std::string_view text) {
  if (text.size() != 5 || text[2] != ':') return -1;
  for (const size_t i : {0u, 1u, 3u, 4u}) {
    if (text[i] < '0' || text[i] > '9') return -1;
  }
  const int minute =
      (text[0] - '0') * 600 + (text[1] - '0') * 60 + (text[3] - '0') * 10 + (text[4] - '0');
  return text[3] > '5' || minute > kDayMinutes ? -1 : minute;
}

// Both sides of A-B; twice the whole when there is no dash.
std::pair<std::string_view, std::string_view> range_of(std::string_view text) {
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return {text, text};
  return {text.substr(0, dash), text.substr(dash + 1)};
}

}  // namespace

result<TimeWindows> TimeWindows::parse(const std::vector<std::string>& texts) {
  if (texts.size() > kWindowsMax) {
    return failure(Errc::invalid, "more than " + std::to_string(kWindowsMax) + " windows");
  }
  TimeWindows windows;
  for (const auto& text : texts) {
    TRY(const auto window, parse_one(text));
    windows.windows_.push_back(window);
  }
  return windows;
}

result<TimeWindows::Window> TimeWindows::parse_one(const std::string& text) {
  const Error wrong(Errc::invalid,
                    fmt::format("\"{}\" is no window; write \"mon-fri 19:00-07:00\", "
                                "\"sat-sun\" or \"22:00-06:00\"",
                                text.substr(0, 100)));
  Window window;
  std::string_view rest = text;
  if (rest.empty()) return failure(wrong);
  if (rest[0] < '0' || rest[0] > '9') {
    const size_t space = rest.find(' ');
    const auto [first, last] = range_of(rest.substr(0, space));
    window.first_day = day_of(first);
    window.last_day = day_of(last);
    if (window.first_day < 0 || window.last_day < 0) return failure(wrong);
    rest = space == std::string_view::npos ? std::string_view() : rest.substr(space + 1);
    if (rest.empty()) {
      if (space != std::string_view::npos) return failure(wrong);
      return window;
    }
  }
  const auto [begin, end] = range_of(rest);
  window.begin = minute_of(begin);
  window.end = minute_of(end);
  if (window.begin < 0 || window.begin == kDayMinutes || window.end < 0) return failure(wrong);
  if (rest.find('-') == std::string_view::npos) return failure(wrong);
  return window;
}

bool TimeWindows::Window::holds(int day, int minute) const {
  const auto on = [this](int d) {
    return first_day <= last_day ? d >= first_day && d <= last_day
                                 : d >= first_day || d <= last_day;
  };
  if (begin < end) return on(day) && minute >= begin && minute < end;
  return (on(day) && minute >= begin) || (on((day + 6) % 7) && minute < end);
}

bool TimeWindows::open_at(const std::tm& local) const {
  if (windows_.empty()) return true;
  const int day = (local.tm_wday + 6) % 7;
  const int minute = local.tm_hour * 60 + local.tm_min;
  return std::any_of(windows_.begin(), windows_.end(),
                     [&](const Window& window) { return window.holds(day, minute); });
}

}  // namespace datacloud
