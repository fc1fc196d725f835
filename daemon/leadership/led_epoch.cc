// See led_epoch.h.
#include "daemon/leadership/led_epoch.h"

#include <sys/stat.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr char kLedFile[] = "led-epoch";

// What tells this directory, on this start of this machine, from every other one.
std::optional<std::string> place_of(const std::filesystem::path& metadata) {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat found {};
  if (boot.empty() || ::stat(metadata.c_str(), &found) != 0) return std::nullopt;
  return boot + " " + std::to_string(found.st_dev) + ":" + std::to_string(found.st_ino);
}

}  // namespace

void note_led_epoch(const std::filesystem::path& state, const std::filesystem::path& metadata,
                    const journal::Epoch& epoch) {
  const auto place = place_of(metadata);
  const auto file = state / kLedFile, made = state / (std::string(kLedFile) + ".new");
  bool good = place.has_value();
  if (good) {
    std::ofstream out(made, std::ios::trunc);
    out << journal::epoch_text(epoch) << " " << *place << "\n";
    out.close();
    good = !out.fail();
  }
  std::error_code ec;
  if (good) std::filesystem::rename(made, file, ec);
  if (!good || ec) spdlog::warn("cannot write {}: the next start waits for a lease", file.string());
}

bool was_led_here(const std::filesystem::path& state, const std::filesystem::path& metadata,
                  const journal::Epoch& epoch) {
  const auto place = place_of(metadata);
  std::ifstream in(state / kLedFile);
  std::stringstream text;
  text << in.rdbuf();
  return place && text.str() == journal::epoch_text(epoch) + " " + *place + "\n";
}

}  // namespace datacloud
