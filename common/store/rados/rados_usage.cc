// Monitor commands and their JSON (rados_usage.h). The only file of common/ that includes the JSON
// library, which is slow to compile.
#include "common/store/rados/rados_usage.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

namespace datacloud {
namespace {

using Json = nlohmann::json;

Error unexpected(const std::string& what) {
  return Error(Errc::corrupt, "the monitors' answer about " + what + " is not understood");
}

// Null when the text is no JSON.
Json parse(std::string_view text) {
  Json parsed = Json::parse(text.begin(), text.end(), nullptr, false);
  return parsed.is_discarded() ? Json() : parsed;
}

// A count, also where the monitors write it as text or in floating point; 0 when it is none.
uint64_t count_of(const Json& object, const char* key) {
  if (!object.is_object()) return 0;
  const auto found = object.find(key);
  if (found == object.end()) return 0;
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  if (found->is_number_float()) {
    const double value = found->get<double>();
    return value >= 0 && value < 1e18 ? static_cast<uint64_t>(value) : 0;
  }
  uint64_t value = 0;
  if (found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    std::from_chars(text.data(), text.data() + text.size(), value);
  }
  return value;
}

std::string pool_command(const char* variable, const std::string& pool) {
  return Json{{"prefix", "osd pool get"}, {"pool", pool}, {"var", variable}, {"format", "json"}}
      .dump();
}

// Empty for a replicated pool.
result<std::string> read_profile(RadosCluster& cluster, const std::string& pool) {
  auto named = cluster.command(pool_command("erasure_code_profile", pool));
  if (!named) {
    // The monitors refuse the question about a replicated pool; nothing else can be told apart
    // from that, and a wrong user was refused at the marker already.
    if (named.error().is(Errc::away) || named.error().is(Errc::not_found)) return std::string();
    return failure(named.error());
  }
  const Json parsed = parse(named.value());
  if (!parsed.is_object()) return failure(unexpected("the pool's profile"));
  const auto name = parsed.find("erasure_code_profile");
  if (name == parsed.end() || !name->is_string()) return failure(unexpected("the pool's profile"));
  return cluster.command(
      Json{{"prefix", "osd erasure-code-profile get"}, {"name", *name}, {"format", "json"}}.dump());
}

}  // namespace

result<double> raw_bytes_per_byte(std::string_view pool_size, std::string_view profile) {
  const uint64_t size = count_of(parse(pool_size), "size");
  if (size == 0 || size > 64) return failure(unexpected("the pool's size"));
  if (profile.empty()) return static_cast<double>(size);
  const uint64_t k = count_of(parse(profile), "k");
  if (k == 0 || k > size) return failure(unexpected("the pool's erasure code"));
  return static_cast<double>(size) / static_cast<double>(k);
}

result<RadosUsage> pool_usage(std::string_view df, const std::string& pool) {
  const Json parsed = parse(df);
  if (!parsed.is_object() || !parsed.contains("stats") || !parsed.contains("pools") ||
      !parsed["pools"].is_array()) {
    return failure(unexpected("free space"));
  }
  RadosUsage usage;
  if (count_of(parsed["stats"], "total_bytes") == 0) return usage;
  for (const auto& entry : parsed["pools"]) {
    if (!entry.is_object() || entry.value("name", Json()) != pool) continue;
    const Json stats = entry.value("stats", Json());
    const uint64_t stored = count_of(stats, "stored");
    usage.bytes_free = count_of(stats, "max_avail");
    if (const uint64_t quota = count_of(stats, "quota_bytes"); quota > 0) {
      usage.bytes_free = std::min(usage.bytes_free, quota - std::min(quota, stored));
    }
    constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
    usage.bytes_total = usage.bytes_free + std::min(stored, kMax - usage.bytes_free);
  }
  return usage;
}

result<uint64_t> device_bytes(std::string_view osd_metadata) {
  const Json parsed = parse(osd_metadata);
  if (!parsed.is_array()) return failure(unexpected("the OSDs"));
  uint64_t total = 0;
  for (const auto& osd : parsed) {
    const uint64_t bytes = count_of(osd, "bluestore_bdev_size");
    total += std::min(bytes, std::numeric_limits<uint64_t>::max() - total);
  }
  return total;
}

result<RadosUsage> read_rados_usage(RadosCluster& cluster) {
  const std::string& pool = cluster.options().pool;
  TRY(const auto df, cluster.command(R"({"prefix":"df","detail":"detail","format":"json"})"));
  TRY(auto usage, pool_usage(df, pool));
  TRY(const auto size, cluster.command(pool_command("size", pool)));
  TRY(const auto profile, read_profile(cluster, pool));
  TRY(usage.raw_bytes_per_byte, raw_bytes_per_byte(size, profile));
  if (usage.bytes_total == 0) {
    TRY(const auto osds, cluster.command(R"({"prefix":"osd metadata","format":"json"})"));
    TRY(const auto bytes, device_bytes(osds));
    usage.bytes_total =
        static_cast<uint64_t>(static_cast<double>(bytes) / usage.raw_bytes_per_byte);
    usage.bytes_free = usage.bytes_total;
  }
  return usage;
}

}  // namespace datacloud
