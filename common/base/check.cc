// The end of a program whose state is wrong.
#include "common/base/check.h"

#include <cstdlib>

#include "common/base/log.h"

namespace datacloud {

void check_failed(const char* file, int line, const char* condition, const std::string& text) {
  std::string_view place(file);  // from its folder on: the rest is the machine it was built on
  if (const auto slash = place.rfind('/'); slash != place.npos && slash > 0) {
    const auto folder = place.rfind('/', slash - 1);
    if (folder != place.npos) place.remove_prefix(folder + 1);
  }
  spdlog::critical(
      "internal error at {}:{}: {} does not hold{}{}; this is a fault of the program, "
      "please report it with this line",
      place, line, condition, text.empty() ? "" : ": ", text);
  spdlog::default_logger()->flush();
  std::abort();
}

}  // namespace datacloud
