// Reads the configuration: which keys each table has, and what their values may be.
#include "common/config/config.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <iterator>
#include <set>

#include "common/base/time_windows.h"
#include "common/codes/erasure_code.h"
#include "common/config/config_place.h"
#include "common/config/config_section.h"
#include "common/config/config_sites.h"
#include "common/config/metrics_address.h"
#include "common/config/mount_options.h"
#include "common/config/site_list.h"
#include "common/crypto/sealed_block.h"
#include "common/net/address.h"
#include "common/stripe/shard_size.h"
#include "common/tls/server_certificate.h"

namespace datacloud {
namespace {

constexpr size_t kFileBytesMax = 1u << 20;
constexpr uint64_t kMiB = 1u << 20;
constexpr uint64_t kHourMs = 3'600'000;

result<void> read_cloud(ConfigSection s, CloudConfig& cloud) {
  TRY(s.text("name", cloud.name));
  if (cloud.name.empty()) return failure(s.missing("name", "give the cloud a name"));
  if (!valid_config_name(cloud.name))
    return failure(s.error("name", in_quotes(cloud.name) + " cannot name a cloud; " + kNameRule));
  TRY(s.text("code", cloud.code));
  if (auto code = make_erasure_code(cloud.code); !code)
    return failure(s.error("code", code.error().text()));
  TRY(s.number("block_bytes", cloud.block_bytes, kBlockBytesMin, kBlockBytesMax, parse_bytes));
  if (!std::has_single_bit(cloud.block_bytes))
    return failure(s.error("block_bytes", "block_bytes is " + std::to_string(cloud.block_bytes) +
                                              "; it must be a power of two, such as 65536"));
  TRY(s.number("shard_bytes", cloud.shard_bytes, kShardPlainBytesMin, kShardPlainBytesMax,
               parse_bytes));
  if (!std::has_single_bit(cloud.shard_bytes))
    return failure(s.error("shard_bytes", "shard_bytes is " + std::to_string(cloud.shard_bytes) +
                                              "; it must be a power of two, such as 4194304"));
  if (cloud.block_bytes > cloud.shard_bytes)
    return failure(s.error("shard_bytes", "blocks of " + std::to_string(cloud.block_bytes) +
                                              " bytes do not fit into shards of " +
                                              std::to_string(cloud.shard_bytes)));
  TRY(s.text("compress", cloud.compress));
  if (cloud.compress != "zstd" && cloud.compress != "none")
    return failure(s.error("compress", "compress is " + in_quotes(cloud.compress) +
                                           "; it must be \"zstd\" or \"none\""));
  TRY(s.number("write_sites_min", cloud.write_sites_min, 0, kSitesMax));
  return s.refuse_unknown();
}

result<void> read_windows(ConfigSection& s, DaemonConfig& daemon) {
  const toml::node* node = s.find("background_windows");
  if (node == nullptr) return success();
  const auto* list = node->as_array();
  if (list == nullptr)
    return failure(s.error("background_windows",
                           "background_windows must be a list such as [\"mon-fri 19:00-07:00\"]"));
  for (const auto& item : *list)
    if (const auto* text = item.as_string()) daemon.background_windows.push_back(text->get());
  auto windows = TimeWindows::parse(daemon.background_windows);
  if (!windows || daemon.background_windows.size() != list->size())
    return failure(s.error("background_windows", windows ? "every window must be text in quotes"
                                                         : windows.error().text()));
  return success();
}

result<void> read_daemon(ConfigSection s, DaemonConfig& daemon, NodeConfig& node,
                         const std::set<std::string>& sites) {
  TRY(s.absolute_path("state", daemon.state));
  TRY(read_place(s, daemon));
  if (const toml::node* node = s.find("standby"); node != nullptr) {
    if (!node->is_boolean()) return failure(s.error("standby", "standby must be true or false"));
    daemon.standby = node->as_boolean()->get();
  }
  TRY(s.text("site", daemon.site));
  if (!daemon.site.empty() && !sites.contains(daemon.site))
    return failure(s.error("site", "no [[site]] is named " + in_quotes(daemon.site) +
                                       suggestion(daemon.site, {sites.begin(), sites.end()})));
  TRY(s.number("certificate_ms", daemon.certificate_ms, 1000, 3650ull * 24 * kHourMs,
               parse_milliseconds));
  if (s.find("authorities") != nullptr) {
    TRY(s.absolute_path("authorities", node.organisation));
  }
  TRY(read_shown(s, daemon.shown));
  TRY(s.texts("identity", kIdentitiesMax, check_server_identity, node.daemon_identity));
  TRY(s.number("lease_ms", daemon.lease_ms, 10, kHourMs, parse_milliseconds));
  TRY(s.number("sessions_max", daemon.sessions_max, 1, 65536));
  TRY(s.number("leases_max", daemon.leases_max, 1, 1'000'000'000));
  TRY(s.number("locks_per_file_max", daemon.locks_per_file_max, 16, 1'000'000));
  TRY(s.number("locks_per_mount_max", daemon.locks_per_mount_max, 16, 1'000'000));
  TRY(s.number("locks_waiting_per_mount_max", daemon.locks_waiting_per_mount_max, 1, 4096));
  TRY(s.number("requests_in_flight_max", daemon.requests_in_flight_max, 1, 65536));
  TRY(s.number("rpc_threads", daemon.rpc_threads, 0, 64));
  TRY(s.number("leveldb_cache_bytes", daemon.leveldb_cache_bytes, kMiB, kMiB << 20, parse_bytes));
  TRY(s.number("gc_interval_ms", daemon.gc_interval_ms, 1, 24 * kHourMs, parse_milliseconds));
  TRY(s.text("fold", daemon.fold));
  if (daemon.fold != "auto" && daemon.fold != "manual")
    return failure(s.error("fold", "fold must be \"auto\" or \"manual\""));
  TRY(s.number("block_patches_max", daemon.block_patches_max, 1, kBlockPatchesMax));
  TRY(s.number("inline_bytes_max", daemon.inline_bytes_max, 0, 16 * kMiB * 1024, parse_bytes));
  TRY(s.number("inline_bytes_per_second_max", daemon.inline_bytes_per_second_max, 0, kMiB << 20,
               parse_bytes));
  TRY(s.number("fold_age_ms", daemon.fold_age_ms, 0, 8760 * kHourMs, parse_milliseconds));
  TRY(s.number("fold_heat_ms", daemon.fold_heat_ms, 0, 8760 * kHourMs, parse_milliseconds));
  TRY(s.number("fold_blocked_ms", daemon.fold_blocked_ms, 0, 8760 * kHourMs, parse_milliseconds));
  TRY(s.number("fold_backlog_bytes_max", daemon.fold_backlog_bytes_max, kMiB, kMiB << 20,
               parse_bytes));
  TRY(s.number("audit_cycle_ms", daemon.audit_cycle_ms, 0, 3650ull * 24 * kHourMs,
               parse_milliseconds));
  TRY(s.number("background_threads", daemon.background_threads, 1, 64));
  TRY(s.number("background_site_bytes_per_second_max", daemon.background_site_bytes_per_second_max,
               0, kMiB << 20, parse_bytes));
  TRY(s.number("background_site_operations_per_second_max",
               daemon.background_site_operations_per_second_max, 0, 1'000'000));
  TRY(s.number("scrub_cycle_ms", daemon.scrub_cycle_ms, 0, 3650ull * 24 * kHourMs,
               parse_milliseconds));
  TRY(read_windows(s, daemon));
  TRY(s.number("background_outside_bytes_per_second_max",
               daemon.background_outside_bytes_per_second_max, 4096, kMiB << 20, parse_bytes));
  TRY(s.text("log_format", daemon.log_format));
  if (daemon.log_format != "text" && daemon.log_format != "json")
    return failure(s.error("log_format", "log_format is " + in_quotes(daemon.log_format) +
                                             "; it must be \"text\" or \"json\""));
  TRY(s.text("metrics", daemon.metrics));
  if (!daemon.metrics.empty()) {
    if (auto good = check_metrics_address(daemon.metrics); !good)
      return failure(s.error("metrics", good.error().text()));
  }
  return s.refuse_unknown();
}

// Of a machine that has joined: no daemon runs there.
result<void> read_node(ConfigSection s, NodeConfig& node) {
  TRY(read_daemon_addresses(s, node.daemon));
  TRY(s.absolute_path("key", node.key));
  TRY(s.absolute_path("certificate", node.certificate));
  TRY(s.absolute_path("authority", node.authority));
  if (s.find("authorities") != nullptr) {
    TRY(s.absolute_path("authorities", node.organisation));
  }
  TRY(s.texts("daemon_identity", kIdentitiesMax, check_server_identity, node.daemon_identity));
  if (!node.daemon_identity.empty() && node.organisation.empty())
    return failure(s.error("daemon_identity",
                           "daemon_identity is for a daemon that an organisation has certified; "
                           "name its authorities, too"));
  return s.refuse_unknown();
}

// A node has no service key, and a data key only if it mounts.
result<void> read_node_keys(ConfigSection s, KeysConfig& keys) {
  if (s.find("data") != nullptr) {
    TRY(s.absolute_path("data", keys.data));
  }
  return s.refuse_unknown();
}

result<void> read_keys(ConfigSection s, KeysConfig& keys) {
  TRY(s.absolute_path("data", keys.data));
  TRY(s.absolute_path("service", keys.service));
  if (keys.data.lexically_normal() == keys.service.lexically_normal())
    return failure(s.error("service", "data and service key must be two different files"));
  return s.refuse_unknown();
}

result<void> read_mount(ConfigSection s, const toml::table& table, MountConfig& mount) {
  for (const auto& option : mount_options()) {
    const toml::node* node = s.find(option.name);
    if (node == nullptr) continue;
    result<void> done = failure(
        Errc::invalid, std::string(option.name) + " must be a whole number or text with a unit");
    const bool is_flag = option.unit == MountOption::Unit::flag;
    if (is_flag && node->is_boolean())
      done = option.set(mount, node->as_boolean()->get() ? 1 : 0);
    else if (is_flag)
      done = failure(Errc::invalid, std::string(option.name) + " must be true or false");
    else if (node->is_integer() && node->as_integer()->get() >= 0)
      done = option.set(mount, static_cast<uint64_t>(node->as_integer()->get()));
    else if (node->is_string())
      done = option.set_text(mount, node->as_string()->get());
    if (!done) return failure(s.error(table.get(option.name)->source(), done.error().text()));
  }
  return s.refuse_unknown();
}

// The table [name], or an empty one when it is absent and may be.
result<const toml::table*> find_table(ConfigSection& root, const char* name, bool required) {
  static const toml::table nothing;
  const toml::node* node = root.find(name);
  if (node == nullptr && !required) return &nothing;
  const toml::table* table = node != nullptr ? node->as_table() : nullptr;
  if (table == nullptr)
    return failure(root.error(name, std::string("the configuration has no table [") + name +
                                        "]; see docs/operations.md"));
  return table;
}

result<void> read_journal(ConfigSection s, JournalConfig& journal) {
  TRY(s.number("segment_bytes", journal.segment_bytes, kMiB, 64 * kMiB, parse_bytes));
  TRY(s.number("bytes_max", journal.bytes_max, 4 * journal.segment_bytes, kMiB << 20, parse_bytes));
  TRY(s.number("uncommitted_bytes_max", journal.uncommitted_bytes_max, kMiB, kMiB << 12,
               parse_bytes));
  TRY(s.number("leader_lease_ms", journal.leader_lease_ms, 300, 60'000, parse_milliseconds));
  TRY(s.number("takeover_after_ms", journal.takeover_after_ms, 1000, kHourMs, parse_milliseconds));
  TRY(s.number("leader_stay_ms", journal.leader_stay_ms, 1000, 24 * kHourMs, parse_milliseconds));
  return s.refuse_unknown();
}

result<Config> read_all(const toml::table& document, const std::filesystem::path& path) {
  const std::string file = path.string();
  Config config;
  config.file = path;
  ConfigSection root(document, "the configuration", file);
  TRY(auto cloud, find_table(root, "cloud", true));
  const bool joined = root.find("node") != nullptr;
  TRY(auto node, find_table(root, "node", false));
  TRY(auto daemon, find_table(root, "daemon", !joined));
  if (joined && !daemon->empty())
    return failure(root.error("node",
                              "a machine has joined another's cloud, [node], or runs its "
                              "daemon, [daemon]; not both by one configuration"));
  TRY(auto keys, find_table(root, "keys", !joined));
  TRY(auto mount, find_table(root, "mount", false));
  TRY(auto journal, find_table(root, "journal", false));
  TRY(read_sites(root, file, config.sites));
  TRY(root.refuse_unknown());

  std::set<std::string> names;
  for (const auto& site : config.sites) names.insert(site.name);
  TRY(read_cloud(ConfigSection(*cloud, "[cloud]", file), config.cloud));
  if (joined) {
    TRY(read_node(ConfigSection(*node, "[node]", file), config.node));
    TRY(read_node_keys(ConfigSection(*keys, "[keys]", file), config.keys));
  } else {
    TRY(read_daemon(ConfigSection(*daemon, "[daemon]", file), config.daemon, config.node, names));
    TRY(read_keys(ConfigSection(*keys, "[keys]", file), config.keys));
  }
  TRY(read_journal(ConfigSection(*journal, "[journal]", file), config.journal));
  for (auto& site : config.sites) {
    if (site.store != "remote") continue;
    site.node = config.node;
    site.service_key = config.keys.service;
  }
  TRY(read_mount(ConfigSection(*mount, "[mount]", file), *mount, config.mount));
  if (config.cloud.write_sites_min > config.sites.size())
    return failure(ConfigSection(*cloud, "[cloud]", file)
                       .error("write_sites_min",
                              "write_sites_min is " + std::to_string(config.cloud.write_sites_min) +
                                  " but the cloud has " + std::to_string(config.sites.size()) +
                                  " sites; no write could succeed"));
  return config;
}

}  // namespace

std::vector<std::string> Config::daemon_addresses() const {
  if (node.joined()) return node.daemon;
  std::vector<std::string> local;
  for (const auto& address : daemon.listen)
    if (!is_tls_address(address)) local.push_back(address);
  return local;
}

result<Config> parse_config(const std::string& text, const std::filesystem::path& file) {
  try {
    const toml::table document = toml::parse(text, file.string());
    return read_all(document, file);
  } catch (const toml::parse_error& e) {
    return failure(Errc::invalid, file.string() + ":" + std::to_string(e.source().begin.line) +
                                      ": " + std::string(e.description()));
  }
}

namespace {

result<std::string> read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text;
  if (in) {
    text.resize(kFileBytesMax + 1);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
  }
  if (!in && !in.eof())
    return failure(Errc::invalid, "cannot read the configuration " + file.string() +
                                      "; check that the file exists and is readable");
  if (text.size() > kFileBytesMax)
    return failure(Errc::invalid, "the configuration " + file.string() + " is larger than 1 MiB");
  return text;
}

}  // namespace

result<Config> load_config(const std::filesystem::path& file) {
  TRY(const auto text, read_file(file));
  return parse_config(text, file);
}

result<std::vector<SiteConfig>> load_site_list(const std::filesystem::path& path) {
  TRY(const auto text, read_file(path));
  const std::string file = path.string();
  try {
    const toml::table document = toml::parse(text, file);
    ConfigSection root(document, "the configuration", file);
    for (const char* other : {"cloud", "daemon", "keys", "mount"}) (void)root.find(other);
    std::vector<SiteConfig> sites;
    TRY(read_sites(root, file, sites));
    NodeConfig node;
    if (const toml::node* found = root.find("node"); found != nullptr) {
      if (!found->is_table()) return failure(root.error("node", "[node] must be a table"));
      TRY(read_node(ConfigSection(*found->as_table(), "[node]", file), node));
    }
    for (auto& site : sites)
      if (site.store == "remote") site.node = node;
    TRY(root.refuse_unknown());
    return sites;
  } catch (const toml::parse_error& e) {
    return failure(Errc::invalid, file + ":" + std::to_string(e.source().begin.line) + ": " +
                                      std::string(e.description()));
  }
}

}  // namespace datacloud
