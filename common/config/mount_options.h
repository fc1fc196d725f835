// The names, units and bounds of MountConfig's values: one table for the [mount] table of the
// configuration and for -o NAME=VALUE.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/config/config.h"

namespace datacloud {

struct MountOption {
  enum class Unit { bytes, milliseconds, count, flag };
  using Member =
      std::variant<uint64_t MountConfig::*, uint32_t MountConfig::*, bool MountConfig::*>;

  std::string_view name;
  Unit unit;
  Member member;
  uint64_t min = 0, max = 1;
  std::string_view help;  // for mount.datacloud --help and the manual

  // invalid when out of bounds; the text names the option and its bounds.
  result<void> set(MountConfig&, uint64_t value) const;
  // The same from text with a unit; flags take true and false.
  result<void> set_text(MountConfig&, const std::string& value) const;
};

const std::vector<MountOption>& mount_options();
// "NAME=VALUE  HELP; default D, MIN to MAX" of every option, one a line, for --help.
std::string describe_mount_options();
// nullptr when there is none of that name.
const MountOption* find_mount_option(std::string_view name);

}  // namespace datacloud
