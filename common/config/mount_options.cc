// The mount's options; see mount_options.h.
#include "common/config/mount_options.h"

#include <charconv>

namespace datacloud {
namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr uint64_t kHourMs = 3'600'000;

std::string with_unit(uint64_t value, MountOption::Unit unit) {
  std::string text = std::to_string(value);
  if (unit == MountOption::Unit::milliseconds) return text + " ms";
  if (unit != MountOption::Unit::bytes) return text;
  if (value >= kMiB && value % kMiB == 0) return std::to_string(value / kMiB) + " MiB";
  return text + " bytes";
}

}  // namespace

const std::vector<MountOption>& mount_options() {
  using U = MountOption::Unit;
  static const std::vector<MountOption> options = {
      {"dirty_bytes_max", U::bytes, &MountConfig::dirty_bytes_max, kMiB, kMiB << 20,
       "bytes written and not yet durable; writers wait beyond"},
      {"cache_bytes_max", U::bytes, &MountConfig::cache_bytes_max, 0, kMiB << 20,
       "bytes of file data kept in memory"},
      {"stripes_in_flight_max", U::count, &MountConfig::stripes_in_flight_max, 1, 256,
       "stripes being encoded and written at a time"},
      {"readahead_bytes_max", U::bytes, &MountConfig::readahead_bytes_max, 0, 1024 * kMiB,
       "bytes read ahead for each open file"},
      {"flush_after_ms", U::milliseconds, &MountConfig::flush_after_ms, 1, kHourMs,
       "age at which unwritten data is written on its own"},
      {"close_flush_after_ms", U::milliseconds, &MountConfig::close_flush_after_ms, 0, kHourMs,
       "the same after the last close; small files share stripes meanwhile"},
      {"put_deadline_ms", U::milliseconds, &MountConfig::put_deadline_ms, 10, kHourMs,
       "a shard write that takes longer goes to another site"},
      {"read_deadline_ms", U::milliseconds, &MountConfig::read_deadline_ms, 10, kHourMs,
       "a shard read that takes longer has failed"},
      {"hedge_after_ms", U::milliseconds, &MountConfig::hedge_after_ms, 1, kHourMs,
       "a shard read that takes longer is raced by a decode from other sites"},
      {"rpc_deadline_ms", U::milliseconds, &MountConfig::rpc_deadline_ms, 10, kHourMs,
       "how long programs wait for the daemon"},
      {"kept_bytes_max", U::bytes, &MountConfig::kept_bytes_max, kMiB, 1024 * kMiB,
       "requests answered and not durable yet, kept to be sent again; more of them wait"},
      {"threads", U::count, &MountConfig::threads, 1, 256,
       "threads that serve programs, or wait for the daemon for them"},
      {"inline_flush_bytes_max", U::bytes, &MountConfig::inline_flush_bytes_max, 0, 64 << 10,
       "an fsync of at most so much is kept in the metadata (feature \"inline\"); 0: never"},
      {"inline_file_bytes_max", U::bytes, &MountConfig::inline_file_bytes_max, 0, 16 * kMiB,
       "bytes of a file in the metadata; more go into stripes"},
      {"inline_bytes_max", U::bytes, &MountConfig::inline_bytes_max, 0, 256 * kMiB,
       "the same for all files of this mount"},
      {"inline_quiet_ms", U::milliseconds, &MountConfig::inline_quiet_ms, 100, kHourMs,
       "after so long without changes a file's bytes go from the metadata into stripes"},
      {"sync_close", U::flag, &MountConfig::sync_close, 0, 1,
       "close(2) returns when the data is durable"},
  };
  return options;
}

std::string describe_mount_options() {
  constexpr std::string_view kHelpIndent = "\n                 ";
  const MountConfig defaults;
  std::string out;
  for (const auto& option : mount_options()) {
    const uint64_t now =
        std::visit([&](auto member) { return uint64_t{defaults.*member}; }, option.member);
    std::string line = "  " + std::string(option.name);
    if (option.unit == MountOption::Unit::flag) {
      line.append(kHelpIndent).append(option.help);
    } else {
      line.append("=VALUE").append(kHelpIndent).append(option.help);
      line += "; default " + with_unit(now, option.unit) + ", from " +
              with_unit(option.min, option.unit) + " to " + with_unit(option.max, option.unit);
    }
    out += line + "\n";
  }
  return out;
}

const MountOption* find_mount_option(std::string_view name) {
  for (const auto& option : mount_options())
    if (option.name == name) return &option;
  return nullptr;
}

result<void> MountOption::set(MountConfig& config, uint64_t value) const {
  if (value < min || value > max)
    return failure(Errc::invalid, std::string(name) + " is " + with_unit(value, unit) +
                                      "; it must be between " + with_unit(min, unit) + " and " +
                                      with_unit(max, unit));
  std::visit(
      [&](auto target) {
        auto& field = config.*target;
        field = static_cast<std::remove_reference_t<decltype(field)>>(value);
      },
      member);
  return success();
}

result<void> MountOption::set_text(MountConfig& config, const std::string& value) const {
  auto named = [&](const Error& e) { return failure(e.in(std::string(name))); };
  switch (unit) {
    case Unit::flag:
      if (value == "true" || value == "1") return set(config, 1);
      if (value == "false" || value == "0") return set(config, 0);
      return failure(Errc::invalid, std::string(name) + " takes true or false, not \"" +
                                        value.substr(0, 64) + "\"");
    case Unit::bytes: {
      const auto bytes = parse_bytes(value);
      return bytes ? set(config, bytes.value()) : named(bytes.error());
    }
    case Unit::milliseconds: {
      const auto time = parse_milliseconds(value);
      return time ? set(config, time.value()) : named(time.error());
    }
    case Unit::count:
      break;
  }
  uint64_t number = 0;
  const char* end = value.data() + value.size();
  const auto [next, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc{} || next != end)
    return failure(Errc::invalid, std::string(name) + " takes a whole number, not \"" +
                                      value.substr(0, 64) + "\"");
  return set(config, number);
}

result<bool> apply_mount_option(MountConfig& config, const std::string& option) {
  const size_t equals = option.find('=');
  const MountOption* known = find_mount_option(std::string_view(option).substr(0, equals));
  if (known == nullptr) return false;
  if (equals == std::string::npos) {
    if (known->unit != MountOption::Unit::flag)
      return failure(Errc::invalid, "-o " + option + " needs a value: -o " + option + "=VALUE");
    TRY(known->set(config, 1));
    return true;
  }
  TRY(known->set_text(config, option.substr(equals + 1)));
  return true;
}

}  // namespace datacloud
