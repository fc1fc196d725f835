// Hours of the week: when background work may take all it is allowed.
//
// A window is "DAYS HH:MM-HH:MM" in local time. DAYS is a day ("sat"), a range ("mon-fri",
// "sat-mon") or left out for every day; the hours may be left out for the whole day. A window that
// ends at or before its beginning goes over midnight into the next day.
#pragma once

#include <ctime>
#include <string>
#include <vector>

#include "common/base/error.h"

namespace datacloud {

class TimeWindows {
 public:
  // At most 64. invalid: names the text that is not understood.
  static result<TimeWindows> parse(const std::vector<std::string>&);
  // Without windows it is always time.
  bool open_at(const std::tm& local) const;
  bool empty() const { return windows_.empty(); }

 private:
  struct Window {
    int first_day = 0, last_day = 6;  // 0: Monday; the range may go over Sunday
    int begin = 0, end = 24 * 60;     // minutes of the day; end <= begin: of the next day
    bool holds(int day, int minute) const;
  };
  static result<Window> parse_one(const std::string&);
  std::vector<Window> windows_;
};

}  // namespace datacloud
