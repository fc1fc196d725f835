// The steps that make a cloud, and their undoing (cloud_creation.h).
#include "tools/cloud_creation.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <set>

#include "common/base/features.h"
#include "common/codes/erasure_code.h"
#include "common/crypto/keys.h"
#include "common/crypto/sealed_block.h"
#include "common/net/address.h"
#include "common/site/site_set.h"
#include "common/store/object_store.h"
#include "common/store/rados/rados_store.h"
#include "common/stripe/shard_size.h"
#include "daemon/journal/site_logs.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/state_directory.h"

namespace datacloud {
namespace {

// What was made so far; taken back in reverse unless the creation is kept.
class Undo {
 public:
  // `undo` returns false when something is left, which is then named.
  void add(std::string what, std::function<bool()> undo) {
    steps_.push_back({std::move(what), std::move(undo)});
  }
  // The failure, with what could not be taken back.
  Error because(const Error& cause) {
    std::string text = cause.text();
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      if (!step->undo())
        text += "\n  left behind, remove it before the next attempt: " + step->what;
    }
    return Error(cause.code(), text);
  }

 private:
  struct Step {
    std::string what;
    std::function<bool()> undo;
  };
  std::vector<Step> steps_;
};

result<void> make_directories(const std::filesystem::path& path, mode_t mode) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) return success();
  if (path.has_parent_path() && path.parent_path() != path) {
    TRY(make_directories(path.parent_path(), 0755));
  }
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return failure(Error::posix(errno, "cannot create directory " + path.string()));
  }
  return success();
}

result<void> make_keys(const Config& config, const std::string& uuid, Undo& undo) {
  const std::pair<std::filesystem::path, KeyFileKind> files[] = {
      {config.keys.data, KeyFileKind::data}, {config.keys.service, KeyFileKind::service}};
  for (const auto& [path, kind] : files) {
    TRY(make_directories(path.parent_path(), 0755));
    TRY(write_key_file(path, KeyFile{kind, uuid, SecretKey::random()}));
    undo.add("key file " + path.string(),
             [path = path] { return ::unlink(path.c_str()) == 0 || errno == ENOENT; });
  }
  return success();
}

result<void> format_sites(const Config& config, const pb::Cloud& cloud, Undo& undo) {
  for (size_t i = 0; i < config.sites.size(); i++) {
    const SiteConfig& site = config.sites[i];
    if (site.store == "remote") continue;
    std::error_code ec;
    const bool was_empty =
        site.store == "directory" && std::filesystem::is_empty(site.path, ec) && !ec;
    const SiteMarker marker = marker_of(cloud, cloud.sites(static_cast<int>(i)));
    auto formatted = format_store(site, marker);
    const std::string what =
        fmt::format("site {} in {}", site.name, site_place(site, cloud.uuid()));
    // A marker whose writing timed out may be there.
    const bool in_pool =
        site.store == "rados" && (formatted || formatted.error().is(Errc::timed_out));
    if (was_empty || in_pool) {
      undo.add(what, [site, marker] { return undo_format(site, marker); });
    } else if (formatted) {
      undo.add(what, [] { return false; });
    }
    if (!formatted) return failure(formatted.error().in("cannot format site " + site.name));
  }
  return success();
}

// At all sites, which are the configuration's in their order.
result<pb::JournalSet> choose_journal(const Config& config, const pb::Cloud& cloud, int losses,
                                      bool accept_weaker) {
  pb::JournalSet set;
  TRY(const auto id, journal_id(cloud.uuid()));
  set.set_journal(std::string(as_text(ByteView(id.data(), id.size()))));
  set.set_number(1);
  set.set_segment_bytes(config.journal.segment_bytes);
  set.set_losses(static_cast<uint32_t>(losses));
  for (int i = 0; i < cloud.sites_size(); ++i) {
    TRY(journal::check_holds_journal(config.sites[static_cast<size_t>(i)]));
    set.add_sites(cloud.sites(i).id());
  }
  TRY(check_journal_strength(set, losses, accept_weaker));
  if (valid_set(set)) return set;
  return failure(Errc::invalid, "a journal is held by 1 to 32 sites");
}

result<void> format_journal(const Config& config, const pb::Cloud& cloud, const pb::JournalSet& set,
                            Undo& undo) {
  TRY(const auto id, journal_id(cloud.uuid()));
  for (int i = 0; i < cloud.sites_size(); ++i) {
    const SiteConfig& site = config.sites[static_cast<size_t>(i)];
    undo.add(fmt::format("the journal of site {} in {}", site.name, site_place(site, cloud.uuid())),
             [site] { return journal::undo_site_log(site); });
    TRY(journal::format_site_log(site, marker_of(cloud, cloud.sites(i)), id, set.segment_bytes()));
  }
  return success();
}

result<void> make_metadata(const Config& config, const pb::Cloud& cloud, uint32_t uid, uint32_t gid,
                           const pb::Features& features, const pb::JournalSet* journal,
                           Undo& undo) {
  const auto directory = metadata_directory(config.daemon);
  TRY(make_directories(directory.parent_path(), 0700));
  // check_creation found it empty: what is there now, this run has made.
  undo.add("metadata in " + directory.string(), [directory] {
    std::error_code ec;
    std::filesystem::remove_all(directory, ec);
    return !ec;
  });
  MetadataStore::Options options;
  options.directory = directory.string();
  return MetadataStore::create(std::move(options), cloud, uid, gid, features, journal);
}

pb::Cloud describe_cloud(const Config& config, std::string uuid) {
  pb::Cloud cloud;
  cloud.set_uuid(std::move(uuid));
  cloud.set_name(config.cloud.name);
  auto* policy = cloud.mutable_root_policy();
  policy->set_code(config.cloud.code);
  policy->set_block_bytes(config.cloud.block_bytes);
  policy->set_shard_bytes(recorded_shard_bytes(config.cloud.shard_bytes));
  policy->set_compression(static_cast<uint32_t>(
      config.cloud.compress == "zstd" ? Compression::zstd : Compression::none));
  for (const auto& site : config.sites) {
    auto* info = cloud.add_sites();
    info->set_id(static_cast<uint32_t>(cloud.sites_size()));
    info->set_name(site.name);
  }
  const auto sites = static_cast<uint32_t>(config.sites.size());
  const uint32_t wanted = config.cloud.write_sites_min;
  cloud.set_write_sites_min(wanted != 0 ? wanted : sites / 2 + 1);
  return cloud;
}

std::vector<std::string> warnings_of(const Config& config, const Tolerance& tolerance) {
  std::vector<std::string> warnings;
  std::set<dev_t> devices;
  std::set<std::string> clusters, machines;
  size_t directories = 0, pools = 0, served = 0;
  for (const auto& site : config.sites) {
    if (site.store == "rados") {
      const auto identity = identify_rados(rados_options(site, {}));
      pools += identity ? 1 : 0;
      if (identity) clusters.insert(identity.value().cluster);
      continue;
    }
    if (site.store == "remote") {
      const auto address = parse_tls_address(site.address);
      if (address) machines.insert(address.value().host);
      ++served;
      continue;
    }
    struct stat st {};
    if (::stat(site.path.c_str(), &st) == 0) devices.insert(st.st_dev);
    ++directories;
  }
  const auto compare = [&](size_t sites, size_t places, const char* kind) {
    if (places >= sites) return;
    warnings.push_back(fmt::format("{} sites lie on {} {}{}: they are lost together with it", sites,
                                   places, kind, places == 1 ? "" : "s"));
  };
  compare(directories, devices.size(), "file system");
  compare(pools, clusters.size(), "Ceph cluster");
  compare(served, machines.size(), "machine");
  if (tolerance.sites == 0) {
    warnings.push_back("the loss of any one site loses data");
  }
  return warnings;
}

}  // namespace

result<std::string> random_uuid() {
  std::array<uint8_t, 16> b;
  if (::getrandom(b.data(), b.size(), 0) != static_cast<ssize_t>(b.size())) {
    return failure(Error::posix(errno, "cannot read random bytes"));
  }
  b[6] = static_cast<uint8_t>((b[6] & 0x0f) | 0x40);
  b[8] = static_cast<uint8_t>((b[8] & 0x3f) | 0x80);
  std::string text;
  for (size_t i = 0; i < b.size(); i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", b[i]);
  }
  return text;
}

bool undo_format(const SiteConfig& site, const SiteMarker& marker) {
  if (site.store == "rados") {
    const auto undone = unformat_rados(rados_options(site, marker));
    return undone || undone.error().is(Errc::not_found);
  }
  // Only files format_store makes and only empty directories: an object would stop it.
  std::error_code ec;
  std::filesystem::remove(site.path / "datacloud-site", ec);
  for (int i = 0; i < 256; i++) {
    std::filesystem::remove(site.path / "objects" / fmt::format("{:02x}", i), ec);
  }
  std::filesystem::remove(site.path / "objects", ec);
  return std::filesystem::is_empty(site.path, ec) && !ec;
}

namespace {

void add_feature(pb::Features& features, const KnownFeature& known) {
  auto* feature = features.add_features();
  feature->set_name(std::string(known.name));
  feature->set_version(std::string(known.version));
  feature->set_since(1);  // the transaction that makes the cloud
}

}  // namespace

result<pb::Features> chosen_features(const std::string& choice) {
  pb::Features features;
  const auto add = [&](const KnownFeature& known) { add_feature(features, known); };
  if (choice == "all") {
    for (const auto& known : known_features())
      if (known.command.empty() && known.feature != Feature::inline_data) add(known);
  } else if (choice != "none") {
    std::set<std::string> names;
    for (size_t at = 0; at <= choice.size();) {
      const size_t comma = std::min(choice.find(',', at), choice.size());
      names.insert(choice.substr(at, comma - at));
      at = comma + 1;
    }
    for (const auto& name : names) {
      const KnownFeature* known = find_feature(name);
      if (known == nullptr) {
        std::string all;
        for (const auto& one : known_features())
          if (one.command.empty() && one.feature != Feature::inline_data)
            all += fmt::format("{}, ", one.name);
        return failure(Errc::invalid,
                       fmt::format("feature \"{}\" is not known: {}all or none", name, all));
      }
      if (known->feature == Feature::inline_data) {
        return failure(Errc::invalid,
                       "feature \"inline\" needs a journal: `create --journal` switches it on with "
                       "all others, `datacloud feature enable inline` later");
      }
      if (!known->command.empty()) {
        return failure(Errc::invalid, fmt::format("feature \"{}\" needs more than a name here: "
                                                  "create --{}, or later `{}`",
                                                  name, name, known->command));
      }
      add(*known);
    }
  }
  return features;
}

result<CreatedCloud> create_cloud(const Config& config, uint32_t uid, uint32_t gid,
                                  const pb::Features& features, const JournalChoice& journal) {
  TRY(const auto code, make_erasure_code(config.cloud.code));
  TRY(check_creation(config));
  if (config.cloud.write_sites_min > config.sites.size()) {
    return failure(Errc::invalid, fmt::format("write_sites_min is {}, but there are only {} sites",
                                              config.cloud.write_sites_min, config.sites.size()));
  }
  TRY(auto uuid, random_uuid());
  CreatedCloud created;
  created.cloud = describe_cloud(config, std::move(uuid));
  created.tolerance = compute_tolerance(*code, static_cast<int>(config.sites.size()));
  created.overhead = static_cast<double>(code->n()) / code->k();
  created.warnings = warnings_of(config, created.tolerance);
  for (const auto& site : config.sites)
    if (site.store == "remote") created.awaited.push_back(site.name);
  pb::Features used = features;
  if (journal.wanted) {
    // Before anything is made: whether it would survive what it shall.
    TRY(created.journal,
        choose_journal(config, created.cloud, created.tolerance.sites, journal.accept_weaker));
    created.journal_awaited = !created.awaited.empty();
    if (created.journal_awaited) created.journal.reset();
  }
  if (created.journal) {
    add_feature(used, describe(Feature::journal));
    if (journal.with_inline) add_feature(used, describe(Feature::inline_data));
  }
  Undo undo;
  auto made = [&]() -> result<void> {
    TRY(make_keys(config, created.cloud.uuid(), undo));
    TRY(format_sites(config, created.cloud, undo));
    if (created.journal) {
      TRY(format_journal(config, created.cloud, *created.journal, undo));
    }
    return make_metadata(config, created.cloud, uid, gid, used,
                         created.journal ? &*created.journal : nullptr, undo);
  }();
  if (!made) return failure(undo.because(made.error()));
  return created;
}

}  // namespace datacloud
